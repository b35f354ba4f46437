"""Folders that appear whole or not at all: written to a sibling, flushed to the disk, renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from layertracer._errors import RunError
from layertracer.runs._schema import HEADER_FILE, OWN_FILES, REPORT_FILE


def write_folder(path: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write a folder of files atomically.

    Files of an overwritten run that LayerTracer did not write are kept in the new folder.

    Args:
        path: The folder, which must not exist unless it is empty or `overwrite` is set.
        files: Content by file name.
        overwrite: Whether an existing run may be replaced.

    Raises:
        RunError: If something is at `path` that may not be replaced, or the disk refuses.
    """
    temporary = _hidden_sibling(path, "new")
    try:
        refuse_occupied(path, overwrite=overwrite)
        temporary.mkdir(parents=True)
        for name, content in files.items():
            _write_durably(temporary / name, content)
        _flush_folder(temporary)
        _move_into_place(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_occupied(path: Path, *, overwrite: bool) -> None:
    """Refuse a path at which no run can be written.

    Raises:
        RunError: If something is there, except an empty folder, or a run and `overwrite` is set; or if no folder can
            be made there.
    """
    if not path.exists():
        _refuse_unwritable(path)
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file, and a run is a folder. Give the path of a folder that does not exist yet.")
    if not any(path.iterdir()):
        return
    if not (path / HEADER_FILE).exists():
        raise RunError(
            f"{path} is a folder that holds other things ({_first_names(path)}) and no run, so it is not replaced. "
            "Give the path of a folder that does not exist yet."
        )
    if not overwrite:
        raise RunError(
            f"There is a run at {path} already. Give another path, or overwrite=True (command line: --overwrite) "
            "to replace it."
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


def _hidden_sibling(path: Path, purpose: str) -> Path:
    """A name beside `path` that nobody else uses; on the same disk, so that renaming is atomic."""
    return path.parent / f".{path.name}.{secrets.token_hex(8)}.{purpose}"


def _move_into_place(temporary: Path, path: Path) -> None:
    """Rename; an old run steps aside first and comes back if the new one cannot take its place."""
    if path.exists() and not any(path.iterdir()):
        path.rmdir()
    if not path.exists():
        temporary.rename(path)
        return
    old = _hidden_sibling(path, "old")
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    for entry in sorted(old.iterdir()):
        if entry.name not in OWN_FILES and entry.name != REPORT_FILE:
            entry.rename(path / entry.name)
    shutil.rmtree(old)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Flush a folder's list of names; systems that cannot open a folder flush it themselves."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(
        f"The run could not be written to {path}: {error.strerror or error}. Nothing was changed there. Check that the "
        "folder may be written and that the disk has room, then save again."
    )
