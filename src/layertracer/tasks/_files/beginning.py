"""The beginning of a text file of any size: as much of it as is needed."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from layertracer._errors import TaskFileError
from layertracer._types import FileTooLargeError, NotAFileError, read_plain_file
from layertracer.tasks._files.content import (
    Content,
    decode_text,
    expand_home,
    find_encoding,
    is_folder,
    is_packed,
    is_piped,
    list_files,
    missing_file,
    read_content,
)

_LONGEST_CHARACTER = 8
"""Bytes, with some to spare."""


class Beginning(NamedTuple):
    """What was read of a file.

    Attributes:
        text: Its first characters.
        is_all: Whether there are no others.
    """

    text: str
    is_all: bool


def read_beginning(path: str | os.PathLike[str], *, n_bytes: int) -> Beginning:
    """The first characters of a text, plain or packed by gzip.

    Args:
        path: The file. A pipe that the shell put there is read as a whole.
        n_bytes: How many bytes to read; after unpacking, where it is packed.

    Raises:
        TaskFileError: If there is no such file, it cannot be read, or it is no text.
    """
    file = expand_home(path)
    if is_piped(file):
        return Beginning(decode_text(read_content(file))[0], is_all=True)
    data = _read_first(file, n_bytes + 1)
    if len(data) <= n_bytes:
        return Beginning(decode_text(Content(path=file, data=data))[0], is_all=True)
    return Beginning(decode_text(Content(path=file, data=_whole_characters(data[:n_bytes])))[0], is_all=False)


def _read_first(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file, unpacked.

    Raises:
        TaskFileError: If they cannot be read.
    """
    try:
        # Opens nothing that may never end, such as a device; says how large the file is where it has more.
        head = _first_plain(path, n_bytes)
        if not is_packed(head, path):
            return head
        with gzip.open(path) as stream:
            return cast("BinaryIO", stream).read(n_bytes)
    except FileNotFoundError:
        raise missing_file(path) from None
    except (IsADirectoryError, NotAFileError):
        what = f"a folder{list_files(path)}" if is_folder(path) else "no file, but a pipe, a socket or a device"
        raise TaskFileError(f"{path} is {what}. Give one file of plain text.") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise TaskFileError(f"The text {path} cannot be read ({error}). Check the path and its rights.") from None


def _first_plain(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a regular file."""
    try:
        return read_plain_file(path, limit=n_bytes)
    except FileTooLargeError:
        with path.open("rb") as file:
            return file.read(n_bytes)


def _whole_characters(data: bytes) -> bytes:
    """The bytes without a last character that is cut."""
    for n_cut in range(_LONGEST_CHARACTER):
        part = data[: len(data) - n_cut]
        try:
            part.decode(find_encoding(data))
        except UnicodeDecodeError:
            continue
        return part
    return data
