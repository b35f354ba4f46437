"""A place for a run, claimed before the run is made."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from layertracer._errors import RunError, printable_cause
from layertracer.runs._folders.full_paths import expand_home, full_path
from layertracer.runs._folders.kinds import RUN, FolderKind
from layertracer.runs._folders.locks import HAS_LOCKS, is_still_at, let_go, lock
from layertracer.runs._folders.own_files import marker_of
from layertracer.runs._folders.recovery import put_back
from layertracer.runs._folders.siblings import WHOLE, claim_of, name_limit, sibling_of, token_of
from layertracer.runs._folders.whole_folders import refuse_occupied


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderClaim:
    """The right to save to a path, until it is released or the process ends, however it ends.

    Attributes:
        mark: The hidden file beside the path that is locked.
        descriptor: The open file; None where something of that name lies there that cannot be locked.
        made: Folders above it that were made for it, the innermost first.
    """

    mark: Path
    descriptor: int | None
    made: tuple[Path, ...]

    @property
    def note(self) -> str | None:
        """What a user should know of it."""
        if self.descriptor is not None:
            return None
        return (
            f"{self.mark} cannot be locked: it is no file, or somebody else's. Another trace to the same folder would "
            "not be noticed before one of the two is saved. Remove it if nobody is tracing."
        )

    def release(self) -> None:
        """Give the path free; folders that were made for it and are empty are removed.

        What the system refuses stays: how a trace ends does not depend on it, and nobody is kept out by what is left.
        """
        if self.descriptor is not None:
            if HAS_LOCKS:  # while it is held, so that nobody loses a claim made in between
                _remove(self.mark)
            let_go(self.descriptor)
            if not HAS_LOCKS:
                _remove(self.mark)
        for folder in self.made:
            try:
                os.rmdir(folder)
            except OSError:
                return


def claim_folder(path: Path, *, overwrite: bool, kind: FolderKind = RUN) -> FolderClaim | None:
    """Claim a path for a run.

    Args:
        path: The folder that is to be made, or replaced.
        overwrite: Whether a run that lies there may be replaced.
        kind: What the folder is going to be.

    Returns:
        The claim; None where another living process has it.

    Raises:
        RunError: If a run cannot be saved there: something is there, a name is too long, a folder cannot be written, or
            it is the current folder or one above it.
        UsageError: If it begins with a home folder that the system does not know.
    """
    shown = expand_home(path)
    path = full_path(path)
    try:
        put_back(path)
        refuse_occupied(shown, overwrite=overwrite, kind=kind)
        if path.is_mount():
            raise RunError(f"{shown} cannot be replaced: it is a mount point. Give the path of a folder below it.")
        _refuse_long_names(path, kind)
        claim = _claim(path)
    except OSError as error:
        raise RunError(
            f"{shown} cannot be made: {_why(error, path)}. Give the path of a folder that can be made."
        ) from printable_cause(error)
    try:
        refuse_occupied(shown, overwrite=overwrite, kind=kind)  # whoever had the claim just before may have saved
    except BaseException:  # an interruption too: the claim is given back, and it goes on
        if claim is not None:
            claim.release()
        raise
    return claim


def require_claim(path: Path, *, overwrite: bool, kind: FolderKind) -> FolderClaim:
    """Claim a path, which no other process has.

    Args:
        path: The folder that is to be made, or replaced.
        overwrite: Whether one of the kind that lies there may be replaced.
        kind: What the folder is going to be.

    Raises:
        RunError: If it cannot be saved there, or another process is going to save there.
        UsageError: If it begins with a home folder that the system does not know.
    """
    claim = claim_folder(path, overwrite=overwrite, kind=kind)
    if claim is None:
        raise RunError(
            f"Another {kind.made_by} that is running is going to save its {kind.noun} to {path}. Wait until it is "
            "done, or give another path."
        )
    return claim


def _claim(path: Path) -> FolderClaim | None:
    mark = claim_of(path)
    made = tuple(folder for folder in path.parents if not folder.exists())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        while True:
            if not HAS_LOCKS:  # what can be removed is held by nobody
                _unlink(mark)
            descriptor = _open_mark(mark)
            if descriptor is None:
                return FolderClaim(mark=mark, descriptor=None, made=made)
            try:
                lock(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            if is_still_at(mark, descriptor):
                return FolderClaim(mark=mark, descriptor=descriptor, made=made)
            os.close(descriptor)  # its holder removed it just now
    except PermissionError:
        if HAS_LOCKS:
            raise
        return None


def _open_mark(mark: Path) -> int | None:
    """The mark, open; None where something lies there that is no file, or may not be opened.

    Raises:
        OSError: If nothing lies there, and it cannot be made.
    """
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"):  # a pipe waits for somebody who writes
        flags |= getattr(os, name, 0)
    while True:
        # What is there is opened without O_CREAT, which systems refuse for another user's file in a shared folder.
        try:
            return os.open(mark, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            pass
        try:
            if not stat.S_ISREG(os.lstat(mark).st_mode):
                return None
            descriptor = os.open(mark, flags)
        except FileNotFoundError:  # its holder removed it just now
            continue
        except OSError:
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)


def _unlink(mark: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)


def _remove(mark: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(mark)


def _refuse_long_names(path: Path, kind: FolderKind) -> None:
    """Raise what the system says of the longest names that a save needs."""
    longest = max(sorted(kind.files), key=len)
    whole = sibling_of(path, WHOLE)
    for needed in (path / longest, path / marker_of(token_of(whole)), whole / marker_of(token_of(whole))):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(needed)


def _why(error: OSError, path: Path) -> str:
    n_bytes, limit = len(os.fsencode(path.name)), name_limit(path.parent)
    if error.errno == errno.ENAMETOOLONG:
        if n_bytes > limit:
            return f"its name has {n_bytes} bytes, and the file system takes {limit}"
        return f"the path is longer ({len(os.fsencode(path))} bytes) than the system takes"
    return f"{path.parent}: {error.strerror or error}"
