"""Numbered parts of an unfinished run, each of them whole on the disk or not there: checkpoints of a trace.

A part is a file `RUN/.parts/000007.part`: a line that says what it is, the SHA-256 of what follows, its number in 8
bytes (the largest first), and its content. A process that is killed, or a machine that loses power, loses at most the
part that it was writing. When the finished run is saved, it takes the place of the folder, and the parts are gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from layertracer._errors import RunError, printable_cause
from layertracer._files import flush_folder, write_whole
from layertracer._types import read_plain_file

PARTS_FOLDER = ".parts"

_MAGIC = b"layertracer part 1\n"
_N_HASH, _N_NUMBER = 32, 8
_N_BEFORE = len(_MAGIC) + _N_HASH + _N_NUMBER
_FORM = re.compile(r"(?P<number>\d{6,9})\.part")
_UNFINISHED = re.compile(rf"\.{_FORM.pattern}-[0-9a-f]{{8}}\.part")
_LARGEST_NUMBER = 999_999_999
_LARGEST_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What there is of an unfinished run.

    Attributes:
        whole: Content of every part that is as it was written, by its number, in order.
        damaged: What is wrong with each of the others, by its number.
        missing: Numbers below the largest one of which there is nothing.
    """

    whole: Mapping[int, bytes]
    damaged: Mapping[int, str]
    missing: tuple[int, ...]


def write_part(run: Path, number: int, content: bytes) -> None:
    """Write a part; when this returns, it is on the disk, by its name too.

    Only one process at a time may write the parts of a run (`claim_folder`); what one that was killed was writing goes.

    Args:
        run: The run folder, which need not exist.
        number: From 0 to 999,999,999; a part of that number that is there is replaced.
        content: What it shall hold.

    Raises:
        RunError: If the disk refuses; the parts that are there stay as they are.
        ValueError: If there can be no such part.
    """
    if not 0 <= number <= _LARGEST_NUMBER or len(content) > _LARGEST_BYTES - _N_BEFORE:
        raise ValueError(f"no part has the number {number} and {len(content)} bytes")
    folder, path = run / PARTS_FOLDER, _path_of(run, number)
    try:
        if not os.path.lexists(folder):
            folder.mkdir(parents=True, exist_ok=True)
            flush_folder(run)
            flush_folder(run.parent)
        _require_folder(folder)
        _clear_unfinished(folder)
        write_whole(path, lambda file: _write(file, number, content))
        flush_folder(folder)
    except OSError as error:
        raise RunError(
            f"Part {number} of the run could not be written to {folder}: {error.strerror or error}. What was written "
            "before is whole. Check that the folder may be written and that the disk has room, then go on."
        ) from printable_cause(error)


def read_parts(run: Path) -> Parts:
    """The parts of a run, all of them read to their ends; nothing is changed.

    Law: what is returned as whole is what was written under that number.

    Args:
        run: The run folder; it may have no parts, and need not exist.

    Raises:
        RunError: If its folder of parts cannot be listed.
    """
    whole: dict[int, bytes] = {}
    damaged: dict[int, str] = {}
    for number in _numbers(run):
        try:
            whole[number] = _read(_path_of(run, number), number)
        except (OSError, ValueError) as error:
            damaged[number] = (isinstance(error, OSError) and error.strerror) or str(error)
    known = {*whole, *damaged}
    missing = tuple(sorted(set(range(max(known, default=0))) - known))
    return Parts(whole=whole, damaged=damaged, missing=missing)


def has_parts(run: Path) -> bool:
    """Whether anything of an unfinished run is at a path, whole or not."""
    folder = run / PARTS_FOLDER
    return _is_folder(folder) and any(_is_own(folder, name) for name in os.listdir(folder))


def remove_parts(run: Path) -> None:
    """Remove the parts of a run and what killed writers left of some; anything else in their folder stays, and so it.

    Raises:
        OSError: If the system refuses.
    """
    folder = run / PARTS_FOLDER
    if _is_folder(folder):
        for name in os.listdir(folder):
            if _is_own(folder, name):
                os.unlink(folder / name)
        if not os.listdir(folder):
            os.rmdir(folder)


def holds_only_parts(folder: Path) -> bool:
    """Whether a folder is one of parts, with nothing else in it."""
    return _is_folder(folder) and all(_is_own(folder, name) for name in os.listdir(folder))


def _path_of(run: Path, number: int) -> Path:
    return run / PARTS_FOLDER / f"{number:06d}.part"


def _numbers(run: Path) -> list[int]:
    """Numbers of the parts that there are, in order; folders and other names are none of ours."""
    folder = run / PARTS_FOLDER
    try:
        _require_folder(folder)
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"The parts of the run in {folder} cannot be read: {error.strerror or error}. Check that it is a folder "
            "that you may read."
        ) from printable_cause(error)
    forms = (_FORM.fullmatch(name) for name in names)
    numbers = {int(form["number"]) for form in forms if form is not None}
    return sorted(number for number in numbers if os.path.lexists(_path_of(run, number)))


def _clear_unfinished(folder: Path) -> None:
    """Remove what killed writers left of parts, of whichever number."""
    for name in os.listdir(folder):
        if _UNFINISHED.fullmatch(name) and not _is_folder(folder / name):
            os.unlink(folder / name)


def _write(file: BinaryIO, number: int, content: bytes) -> None:
    file.write(_MAGIC + _digest(number, content) + number.to_bytes(_N_NUMBER, "big"))
    file.write(content)


def _read(path: Path, number: int) -> bytes:
    """The content of a part.

    Raises:
        ValueError: If it is not as it was written; the message says how.
        OSError: If it cannot be read, or is no regular file.
    """
    held = read_plain_file(path, limit=_LARGEST_BYTES, follows_links=False)
    if len(held) < _N_BEFORE:
        raise ValueError(f"it has {len(held)} bytes, and begins with {_N_BEFORE}")
    if not held.startswith(_MAGIC):
        raise ValueError("it does not begin as a part does")
    digest = held[len(_MAGIC) : len(_MAGIC) + _N_HASH]
    said, content = int.from_bytes(held[_N_BEFORE - _N_NUMBER : _N_BEFORE], "big"), held[_N_BEFORE:]
    if digest != hashlib.sha256(held[_N_BEFORE - _N_NUMBER :]).digest():
        raise ValueError("its content is not what was written")
    if said != number:
        raise ValueError(f"it is part {said}")
    return content


def _digest(number: int, content: bytes) -> bytes:
    digest = hashlib.sha256(number.to_bytes(_N_NUMBER, "big"))
    digest.update(content)
    return digest.digest()


def _require_folder(path: Path) -> None:
    """Refuse what is no folder, links to one among it.

    Raises:
        OSError: If it is none, or is not there.
    """
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))


def _is_folder(path: Path) -> bool:
    try:
        _require_folder(path)
    except OSError:
        return False
    return True


def _is_own(folder: Path, name: str) -> bool:
    is_named_so = _FORM.fullmatch(name) or _UNFINISHED.fullmatch(name)
    return is_named_so is not None and not _is_folder(folder / name)
