"""The user's cache: converted copies of models, kept under what they were made of.

An entry is a folder with a list of its files. It is written beside its place and renamed into it, so that it is there
whole or not at all. The list holds the entry's name, the SHA-256 of every file, that of the header of every weight
file, whatever the writer says of the weights, and its own; a folder that does not match it to the last byte is damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from layertracer._files import PRIVATE_FOLDER_MODE, remove_unfinished, whole_folder
from layertracer._types import read_plain_file
from layertracer.models._converted.file_hash import hash_file

_LIST = "entry.json"
_LIST_BYTES = 256 * 2**20
"""Room for a million weights: more is no list of ours."""

_WEIGHTS = ".safetensors"

_STRAY = ("thumbs.db", "desktop.ini")
"""Files that file managers put anywhere, beside those that begin with a dot."""


class DamagedEntryError(Exception):
    """A folder of the cache is not as it was written; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder of the cache as its list describes it.

    Attributes:
        folder: The folder.
        files: Of every file by its name: `size_bytes`, `sha256`, and of weight files `header_sha256`.
        weights: What its writer said of every weight by its name.
    """

    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    weights: Mapping[str, str]

    def check_weight_files(self) -> None:
        """Read the weight files to their ends.

        Raises:
            DamagedEntryError: If one is not as it was written.
        """
        for name, described in self.files.items():
            if name.endswith(_WEIGHTS):
                _compare(self.folder, name, described, whole=True)


def open_entry(folder: Path) -> Entry | None:
    """An entry that is as it was written; None where there is none at all.

    Of weight files, size and header are looked at here; their values are for whoever loads them, or
    `Entry.check_weight_files`.

    Raises:
        DamagedEntryError: If something lies there that is not, or no longer, what was written.
    """
    if not os.path.lexists(folder):
        return None
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise DamagedEntryError("it is not a folder")
        entry = _read_list(folder)
        odd = sorted(_names_in(folder) ^ {*entry.files, _LIST})
        if odd:
            raise DamagedEntryError(f"{odd[0]!r} is missing or was added")
        for name, described in entry.files.items():
            _compare(folder, name, described, whole=not name.endswith(_WEIGHTS))
    except OSError as error:
        raise DamagedEntryError(f"it cannot be read ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:  # a list that is sealed and still not ours
        raise DamagedEntryError(f"{_LIST} is not a list of files ({type(error).__name__})") from error
    return entry


def write_entry(entry: Path, write: Callable[[Path], Mapping[str, str]]) -> None:
    """Make `entry` out of what `write` puts into the folder that it is given.

    Safe against other processes that make the same entry: whoever comes second keeps what is there.

    Args:
        entry: Where the entry shall be.
        write: Writes all its files into an empty folder, and returns what is to be kept of every weight.

    Raises:
        OSError: If the disk is full or cannot be written; nothing is left then.
    """
    # Private, as what it is made of may be.
    with whole_folder(entry, mode=PRIVATE_FOLDER_MODE, put_in_place=_move_into_place) as unfinished:
        weights = write(unfinished)
        files = {name: _describe(unfinished / name) for name in sorted(_names_in(unfinished))}
        (unfinished / _LIST).write_bytes(_sealed({"name": entry.name, "files": files, "weights": dict(weights)}))


def remove_entry(entry: Path) -> None:
    """Take an entry away, at once for everybody who looks.

    Raises:
        OSError: If the cache's folder cannot be written.
    """
    if os.path.lexists(entry):
        doomed = Path(tempfile.mkdtemp(prefix=".removed-", suffix=".part", dir=entry.parent))
        try:
            with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                entry.rename(doomed / entry.name)
        finally:
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
    except NotImplementedError:  # what a lock raises where the file system knows none
        yield
        return
    try:
        remove_unfinished(entry)
        yield
    finally:
        lock.release()


def _move_into_place(unfinished: Path, entry: Path) -> None:
    if not _is_whole(entry):
        remove_entry(entry)
        try:
            unfinished.rename(entry)
        except OSError:
            if not _is_whole(entry):  # not just somebody who was faster
                raise


def _is_whole(entry: Path) -> bool:
    try:
        return open_entry(entry) is not None
    except DamagedEntryError:
        return False


def _read_list(folder: Path) -> Entry:
    """The list of a folder's files, if it is to the last byte what `_sealed` wrote."""
    content = read_plain_file(folder / _LIST, limit=_LIST_BYTES, follows_links=False)
    try:
        listed = json.loads(content)
        is_ours = content == _sealed({key: listed[key] for key in ("name", "files", "weights")})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedEntryError(f"{_LIST} is not a list of files ({type(error).__name__})") from error
    weights = listed["weights"]
    if not is_ours or not listed["files"] or not all(isinstance(said, str) for said in weights.values()):
        raise DamagedEntryError(f"{_LIST} was altered")
    if listed["name"] != folder.name:
        raise DamagedEntryError("it was made of another file")
    return Entry(folder=folder, files=listed["files"], weights=weights)


def _sealed(listed: dict[str, Any]) -> bytes:
    """A list with its own hash, written in one way only."""
    seal = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    return json.dumps(listed | {"sha256": seal}, indent=1, sort_keys=True).encode()


def _names_in(folder: Path) -> set[str]:
    """Everything within a folder that is no folder itself, by its path from there; links are not followed.

    Regular files that file managers and file systems put anywhere, and that no library reads, are passed over.
    """
    found = {
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, folders, files in os.walk(folder)
        for name in (*files, *(one for one in folders if (Path(parent) / one).is_symlink()))
    }
    return {name for name in found if not _is_stray(folder / name)}


def _is_stray(path: Path) -> bool:
    has_name = path.name.startswith(".") or path.name.lower() in _STRAY
    return has_name and stat.S_ISREG(path.lstat().st_mode)


def _compare(folder: Path, name: str, described: Mapping[str, Any], *, whole: bool) -> None:
    path = folder / name
    found = path.lstat()  # before anything is opened: a pipe would be waited for, and a link lead elsewhere
    if not stat.S_ISREG(found.st_mode):
        raise DamagedEntryError(f"{name!r} is not a regular file")
    if found.st_size != described["size_bytes"]:
        raise DamagedEntryError(f"{name!r} has {found.st_size} bytes, {described['size_bytes']} were written")
    if whole and hash_file(path) != described["sha256"]:
        raise DamagedEntryError(f"the content of {name!r} was altered")
    if not whole and _hash_header(path) != described["header_sha256"]:
        raise DamagedEntryError(f"the header of {name!r} was altered")


def _describe(path: Path) -> dict[str, Any]:
    described = {"size_bytes": path.stat().st_size, "sha256": hash_file(path)}
    return described | ({"header_sha256": _hash_header(path)} if path.name.endswith(_WEIGHTS) else {})


def _hash_header(path: Path) -> str:
    """SHA-256 of what stands before the values in a safetensors file: its length, names, types, shapes and places."""
    with path.open("rb") as file:
        start = file.read(8)
        length = min(int.from_bytes(start, "little"), path.stat().st_size)
        return hashlib.sha256(start + file.read(length)).hexdigest()
