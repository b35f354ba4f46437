"""A place for a run, claimed before the run is made."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from layertracer._errors import RunError, printable_cause
from layertracer.runs._folder import refuse_occupied
from layertracer.runs._locks import HAS_LOCKS, is_still_at, let_go, lock
from layertracer.runs._recovery import put_back_old
from layertracer.runs._schema import TABLES
from layertracer.runs._siblings import WHOLE, claim_of, name_limit, sibling_of


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderClaim:
    """The right to save to a path, until it is released or the process ends, however it ends.

    Attributes:
        mark: The hidden file beside the path that is locked.
        descriptor: The open file.
        made: Folders above it that were made for it, the innermost first.
    """

    mark: Path
    descriptor: int
    made: tuple[Path, ...]

    def release(self) -> None:
        """Give the path free; folders that were made for it and are empty are removed."""
        if HAS_LOCKS:  # while it is held, so that nobody loses a claim made in between
            _unlink(self.mark)
        let_go(self.descriptor)
        if not HAS_LOCKS:
            _unlink(self.mark)
        for folder in self.made:
            try:
                os.rmdir(folder)
            except OSError:
                return


def claim_folder(path: Path, *, overwrite: bool) -> FolderClaim | None:
    """Claim a path for a run.

    Args:
        path: The folder that is to be made, or replaced.
        overwrite: Whether a run that lies there may be replaced.

    Returns:
        The claim; None where another living process has it.

    Raises:
        RunError: If a run cannot be saved there: something is there, a name is too long, a folder cannot be written.
    """
    shown = path.expanduser()
    path = shown.resolve()
    try:
        put_back_old(path)
        refuse_occupied(shown, overwrite=overwrite)
        if path.is_mount():
            raise RunError(f"{shown} cannot be replaced: it is a mount point. Give the path of a folder below it.")
        _refuse_long_names(path)
        claim = _claim(path)
    except OSError as error:
        raise RunError(
            f"{shown} cannot be made: {_why(error, path)}. Give the path of a folder that can be made."
        ) from printable_cause(error)
    try:
        refuse_occupied(shown, overwrite=overwrite)  # whoever had the claim just before may have saved
    except BaseException:
        if claim is not None:
            claim.release()
        raise
    return claim


def _claim(path: Path) -> FolderClaim | None:
    mark = claim_of(path)
    made = tuple(folder for folder in path.parents if not folder.exists())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        while True:
            if not HAS_LOCKS:  # what can be removed is held by nobody
                _unlink(mark)
            descriptor = os.open(mark, os.O_RDONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
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


def _unlink(mark: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)


def _refuse_long_names(path: Path) -> None:
    """Raise what the system says of the longest names that a save needs."""
    longest = max((table.file for table in TABLES), key=len)
    for needed in (path / longest, sibling_of(path, WHOLE) / longest):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(needed)


def _why(error: OSError, path: Path) -> str:
    n_bytes, limit = len(os.fsencode(path.name)), name_limit(path.parent)
    if error.errno == errno.ENAMETOOLONG:
        if n_bytes > limit:
            return f"its name has {n_bytes} bytes, and the file system takes {limit}"
        return f"the path is longer ({len(os.fsencode(path))} bytes) than the system takes"
    return f"{path.parent}: {error.strerror or error}"
