"""Folders that appear whole or not at all: written to a sibling, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from layertracer._errors import RunError, UsageError, printable_cause
from layertracer._files import flush_folder, open_new, write_flushed, write_whole
from layertracer.runs._folders.full_paths import refuse_lost_start
from layertracer.runs._folders.kinds import KINDS, RUN, FolderKind, kinds_at
from layertracer.runs._folders.locks import hold, is_still_at, let_go, lock
from layertracer.runs._folders.own_files import holds_more_than_parts, marker_of, remove_own
from layertracer.runs._folders.recovery import clean_up, clean_up_files, put_back
from layertracer.runs._folders.replacement import identify, put_in_place
from layertracer.runs._folders.siblings import FILE, NEW, WHOLE, sibling_of, token_of, with_purpose


def write_folder(path: Path, files: Mapping[str, bytes], *, overwrite: bool, kind: FolderKind = RUN) -> None:
    """Write a folder of files atomically.

    A process that is killed at any moment leaves the old run or the new one at `path`; where the system cannot let two
    folders change places, or the new one is whole and not yet there, the next save or load puts it there. What killed
    saves left beside `path` is removed.

    Files of an overwritten run that LayerTracer did not write are kept in the new folder.

    Args:
        path: The folder, which must not exist unless it is empty, holds parts of an unfinished run alone, which go, or
            `overwrite` is set.
        files: Content by file name.
        overwrite: Whether an existing run may be replaced.
        kind: What the folder is; one of another kind is never replaced.

    Raises:
        RunError: If something is at `path` that may not be replaced, or the disk refuses.
    """
    try:
        put_back(path)
        refuse_occupied(path, overwrite=overwrite, kind=kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unfinished(path) as temporary:
            write_flushed(temporary / marker_of(token_of(temporary)), identify(path).encode("ascii"))
            for name, content in files.items():
                write_flushed(temporary / name, content)
            flush_folder(temporary)
            whole = with_purpose(temporary, WHOLE)
            os.rename(temporary, whole)
            put_in_place(whole, path)
        flush_folder(path.parent)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:  # somebody else was faster
            refuse_occupied(path, overwrite=overwrite, kind=kind)
        raise _not_written(path, error, kind) from printable_cause(error)
    clean_up(path.parent, path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: nobody ever sees half of it, and a file that is there is replaced whole.

    Args:
        path: The file; folders above it are made. What is no regular file, as a pipe, is written to as it is.
        content: What it shall hold.

    Raises:
        OSError: If the disk refuses; nothing is left then.
        RunError: If the current folder is gone, to which the path is relative.
        UsageError: If it is one of a run's, or of advice's, own files.
    """
    refuse_lost_start(path)
    refuse_run_files(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    write_whole(path, content, open_beside=_open_held_sibling)
    clean_up_files(path)


def refuse_run_files(path: Path) -> None:
    """Refuse to write over what a run consists of, by whatever links and letters it is named.

    Raises:
        UsageError: If the path is that of a file of a run, in a folder that holds one.
    """
    for real in (Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))):
        for kind in KINDS:
            own = {name.casefold() for name in kind.files}
            if real.name.casefold() in own and any(os.path.lexists(real.parent / name) for name in kind.files):
                raise UsageError(
                    f"{path} is a file of the {kind.noun} in {real.parent}, which would be lost. Give another name, "
                    f"e.g. {path.with_name('report.html')}."
                )


def _open_held_sibling(path: Path, mode: int) -> tuple[Path, int]:
    while True:
        temporary = sibling_of(path, FILE)
        descriptor = open_new(temporary, mode)
        with contextlib.suppress(BlockingIOError):  # whoever cleans up took it for abandoned: another name
            lock(descriptor)
            if is_still_at(temporary, descriptor):
                return temporary, descriptor
        os.close(descriptor)


def refuse_occupied(path: Path, *, overwrite: bool, kind: FolderKind = RUN) -> None:
    """Refuse a path at which no run, or other folder of a kind, can be written.

    Raises:
        RunError: If something is there, except an empty folder, parts of an unfinished run, or a run and `overwrite` is
            set; or if no folder can be made there; or if it is the current folder or one above it.
    """
    if not path.exists():
        _refuse_unwritable(path)
        return
    if not path.is_dir():
        raise RunError(
            f"{path} is a file, and {kind.one} is a folder. Give the path of a folder that does not exist yet."
        )
    if holds_more_than_parts(path):
        _refuse_content(path, kind, overwrite=overwrite)
    _refuse_surroundings(path, kind)


def _refuse_content(path: Path, kind: FolderKind, *, overwrite: bool) -> None:
    if not (path / kind.header).exists():
        other = next(kinds_at(path), None)
        held = f"holds other things ({_first_names(path)})" if other is None else f"holds {other.one}"
        raise RunError(
            f"{path} is a folder that {held} and no {kind.noun}, so it is not replaced. "
            "Give the path of a folder that does not exist yet."
        )
    if not overwrite:
        raise RunError(
            f"There is {kind.one} at {path} already. Give another path, or overwrite=True (command line: --overwrite) "
            "to replace it."
        )


def _refuse_surroundings(path: Path, kind: FolderKind) -> None:
    """Refuse the current folder and those above it: who is in a folder that is replaced, stays in one that is gone."""
    try:
        here = Path.cwd()
    except OSError:
        return
    if path.resolve() in (here, *here.parents):
        raise RunError(
            f"{path} is the folder that you are in, or one above it, and {kind.one} takes the place of a whole folder. "
            "Give the path of a folder below this one, or go to another folder first."
        )


def _refuse_unwritable(path: Path) -> None:
    """Refuse a path below a file, or below a folder in which nothing may be made."""
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise RunError(f"{path} cannot be made: {nearest} is a file. Give a path below a folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(f"{path} cannot be made: {nearest} may not be written. Give a path below a folder of yours.")


def _first_names(path: Path, limit: int = 3) -> str:
    names = sorted(entry.name for entry in path.iterdir())
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, held within; what is left of it after an error is removed."""
    temporary, descriptor = _make_held(path)
    try:
        yield temporary
    except BaseException:  # an interruption too: nothing is left behind, and it goes on
        for left in (temporary, with_purpose(temporary, WHOLE)):
            with contextlib.suppress(OSError):
                remove_own(left)
        raise
    finally:
        let_go(descriptor)


def _make_held(path: Path) -> tuple[Path, int | None]:
    while True:
        temporary = sibling_of(path, NEW)
        os.mkdir(temporary)
        try:
            return temporary, hold(temporary)
        except (BlockingIOError, FileNotFoundError):  # whoever cleans up took it for abandoned: another name
            continue


def _not_written(path: Path, error: OSError, kind: FolderKind) -> RunError:
    return RunError(
        f"The {kind.noun} could not be written to {path}: {error.strerror or error}. Nothing was changed there. "
        "Check that the folder may be written and that the disk has room, then save again."
    )
