"""The user's cache: converted models, kept under what they were made of.

An entry is a folder with a list of its files. It is written beside its place and renamed into it, so that it is there
whole or not at all; an entry that does not match its list counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

_LIST = "entry.json"
_HASHED_UP_TO_BYTES = 16 * 2**20
"""Larger files of an entry are compared by size alone: hashing half a gigabyte at each start would double its time."""


def cache_folder() -> Path:
    """Where LayerTracer keeps what it can make again.

    `LAYERTRACER_CACHE`, else `XDG_CACHE_HOME/layertracer`, else `~/.cache/layertracer`. It is not created here.
    """
    if chosen := os.environ.get("LAYERTRACER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "layertracer"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_hash(path: Path) -> str:
    """SHA-256 of a large file, remembered for as long as its path, size and time of change stay the same.

    Args:
        path: An existing file.
    """
    stat = path.stat()
    known: dict[str, Any] = {"path": str(path.resolve()), "size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    memo = cache_folder() / "hashes" / f"{hashlib.sha256(known['path'].encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        remembered = json.loads(memo.read_text(encoding="utf-8"))
        digest = remembered.pop("sha256")
        if remembered == known and isinstance(digest, str) and len(digest) == 64:
            return digest
    digest = hash_file(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        _write_whole(memo, json.dumps(known | {"sha256": digest}))
    return digest


def find_entry(entry: Path) -> bool:
    """Whether `entry` is a folder in which every file is as it was written."""
    try:
        files = json.loads((entry / _LIST).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(_describe(entry / name) == described for name, described in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_entry(entry: Path, write: Callable[[Path], None]) -> None:
    """Make `entry` out of what `write` puts into the folder that it is given.

    Safe against other processes that make the same entry: whoever comes second keeps what is there.

    Args:
        entry: Where the entry shall be.
        write: Writes all its files into an empty folder.

    Raises:
        OSError: If the disk is full or cannot be written; nothing is left then.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{entry.name[:16]}-", suffix=".part", dir=entry.parent))
    try:
        write(unfinished)
        files = {path.relative_to(unfinished).as_posix(): _describe(path) for path in _files_in(unfinished)}
        _write_whole(unfinished / _LIST, json.dumps({"files": files}, indent=1))
        _move_into_place(unfinished, entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_entry(entry: Path) -> None:
    """Take an entry away, at once for everybody who looks."""
    if entry.exists():
        doomed = Path(tempfile.mkdtemp(prefix=".removed-", suffix=".part", dir=entry.parent))
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            entry.rename(doomed / entry.name)
        shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Only one process within for the same entry; what an earlier one left unfinished there is removed.

    Where the file system knows no locks, everybody is let in: entries are safe without, only made twice.

    Raises:
        OSError: If the cache's folder cannot be written.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(entry.parent / f"{entry.name}.lock")
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        for left in entry.parent.glob(f".{entry.name[:16]}-*.part"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _move_into_place(unfinished: Path, entry: Path) -> None:
    if not find_entry(entry):
        remove_entry(entry)
        try:
            unfinished.rename(entry)
        except OSError:
            if not find_entry(entry):  # not just somebody who was faster
                raise


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _describe(path: Path) -> dict[str, Any]:
    """Size of a file, and its hash unless it is large."""
    size = path.stat().st_size
    return {"size_bytes": size} | ({"sha256": hash_file(path)} if size <= _HASHED_UP_TO_BYTES else {})


def _write_whole(path: Path, text: str) -> None:
    """Write a small file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:16]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
