"""Hashes (SHA-256) of files, and what is remembered of large ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any, BinaryIO

from layertracer._files import PRIVATE_FILE_MODE, write_whole
from layertracer._types import read_plain_file
from layertracer.models._converted.folder import cache_folder

_SETTLED_NS = 2_000_000_000
"""A file that changed less than two seconds before it was read may change again within the same tick of its clock: two
seconds is the coarsest clock of a file system in use (FAT)."""

_MEMO_BYTES = 64 * 2**10
_SHA256 = re.compile(r"[0-9a-f]{64}")


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return _hash_open(file)


def remembered_hash(path: Path) -> str:
    """SHA-256 of a large file, remembered for as long as nothing says that it is another or has changed.

    It is remembered with the file's path, size, device, inode, and times of change of content and of entry in
    nanoseconds; not where the file changed while it was read or within two seconds before, nor where another clock
    than this machine's dates it into the future.

    Args:
        path: An existing regular file.

    Raises:
        OSError: If it cannot be read.
    """
    memo = _memo_of(path)
    began_ns = time.time_ns()
    with path.open("rb") as file:
        before = _identity(path, file)
        if (digest := _recall(memo, before)) is not None:
            return digest
        digest = _hash_open(file)
        is_same = before == _identity(path, file)
    if is_same and began_ns - max(before["mtime_ns"], before["ctime_ns"]) > _SETTLED_NS:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_whole(memo, _sealed(before | {"sha256": digest}).encode(), mode=PRIVATE_FILE_MODE)
    return digest


def forget_hash(path: Path) -> None:
    """Remember nothing of a file any more."""
    with contextlib.suppress(OSError):
        _memo_of(path).unlink()


def _memo_of(path: Path) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"


def _hash_open(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a protocol that BinaryIO meets


def _identity(path: Path, file: BinaryIO) -> dict[str, Any]:
    """What tells an open file from others and from itself at other times."""
    found = os.fstat(file.fileno())
    return {
        "path": os.fsencode(path.resolve()).decode("utf-8", "backslashreplace"),
        "size_bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        # Time of change of the entry; on Windows, when the file was made.
        "ctime_ns": found.st_ctime_ns,
        "device": found.st_dev,
        "inode": found.st_ino,
    }


def _recall(memo: Path, known: dict[str, Any]) -> str | None:
    """The hash out of a memo that is about this very file; None for any other, whatever it holds."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        text = read_plain_file(memo, limit=_MEMO_BYTES, follows_links=False).decode()
        remembered = json.loads(text)
        remembered.pop("seal")
        if text != _sealed(remembered):
            return None
        digest = remembered.pop("sha256")
        if remembered == known and isinstance(digest, str) and _SHA256.fullmatch(digest):
            return digest
    return None


def _sealed(remembered: dict[str, Any]) -> str:
    """A memo with the SHA-256 of what it says, so that damage to it is not taken for a change of the file."""
    seal = hashlib.sha256(json.dumps(remembered, sort_keys=True).encode()).hexdigest()
    return json.dumps(remembered | {"seal": seal}, sort_keys=True)
