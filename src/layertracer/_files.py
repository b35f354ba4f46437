"""Files and folders that appear whole or not at all: written to a hidden sibling, flushed to the disk, renamed.

Atomic writes for everything that LayerTracer keeps: runs, pages, figures, converted copies, checkpoints. A process that
is killed at any moment leaves what was there before, and at most a hidden sibling.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FILE_MODE = 0o666
"""Permissions before the user's umask takes its part."""
FOLDER_MODE = 0o777
PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700

_N_STEM, _N_TOKEN = 16, 4
_UNFINISHED = ".part"


def open_new(path: Path, mode: int = FILE_MODE) -> int:
    """A descriptor of a file that was not there, open for writing; what lies there, links too, is not touched.

    Raises:
        FileExistsError: If something lies there.
        OSError: If the system refuses.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)


def open_sibling(path: Path, mode: int = FILE_MODE) -> tuple[Path, int]:
    """A new hidden file beside `path`, and its descriptor."""
    hidden = _hidden_name(path)
    return hidden, open_new(hidden, mode)


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    *,
    mode: int = FILE_MODE,
    open_beside: Callable[[Path, int], tuple[Path, int]] = open_sibling,
) -> None:
    """Write a file atomically: nobody ever sees half of it, and a file or a link that is there is replaced.

    Its content is on the disk before its name is; who must not lose the name either flushes the folder.

    Args:
        path: The file; folders above it are made.
        content: What it shall hold, or what writes that to the open file.
        mode: Its permissions, less what the umask takes.
        open_beside: Opens a new file in the same folder.

    Raises:
        OSError: If the disk refuses; nothing is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden, descriptor = open_beside(path, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write_flushed(file, content)
            if os.name == "posix":  # while it may be locked; elsewhere, a file that is open cannot be renamed
                os.replace(hidden, path)
        if os.name != "posix":
            os.replace(hidden, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which file
            error.filename = os.fspath(path)
        raise


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file in a folder that nobody looks into yet, and have it on the disk."""
    with path.open("wb") as file:
        _write_flushed(file, content)


def flush_folder(path: Path) -> None:
    """Flush a folder's list of names; systems that cannot open a folder flush it themselves."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_folder(
    path: Path, *, mode: int = FOLDER_MODE, put_in_place: Callable[[Path, Path], None] = os.rename
) -> Iterator[Path]:
    """A new hidden folder beside `path`, which takes that place when the block ends; an error removes it.

    Files in it are not flushed: other libraries write them, gigabytes at times. Who reads such a folder checks it.

    Args:
        path: The folder to be; folders above it are made.
        mode: Its permissions, less what the umask takes.
        put_in_place: Given the hidden folder and `path`, puts the one at the other. What it leaves is removed.

    Raises:
        OSError: If the system refuses; nothing is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = _hidden_name(path)
    os.mkdir(hidden, mode)
    try:
        yield hidden
        put_in_place(hidden, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed writers of a file or folder left beside it; for who knows that none is alive.

    Only names that a writer here makes are touched. Paths whose names begin with the same 16 characters count as the
    same.
    """
    stem = path.name[:_N_STEM]
    form = re.compile(rf"\.{re.escape(stem)}-[0-9a-f]{{{2 * _N_TOKEN}}}{re.escape(_UNFINISHED)}")
    for left in path.parent.glob(f".{glob.escape(stem)}-*{_UNFINISHED}"):
        if form.fullmatch(left.name) is None:  # what a user has named alike
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(left)


def _write_flushed(file: BinaryIO, content: bytes | Callable[[BinaryIO], object]) -> None:
    if isinstance(content, bytes):
        file.write(content)
    else:
        content(file)
    file.flush()
    os.fsync(file.fileno())


def _hidden_name(path: Path) -> Path:
    """A name beside `path` that nobody else uses; on the same disk, so that renaming is atomic."""
    return path.with_name(f".{path.name[:_N_STEM]}-{secrets.token_hex(_N_TOKEN)}{_UNFINISHED}")
