"""The content of a task file: found, unpacked, decoded."""

from __future__ import annotations

import codecs
import difflib
import gzip
import hashlib
import io
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from layertracer._errors import TaskFileError
from layertracer._types import FileTooLargeError, NotAFileError, read_plain_file

MAX_BYTES = 2**30
"""What a file may have: it is read as a whole, and takes several times as much memory as records."""

MAX_UNPACKED_BYTES = 2**28
"""What a packed file may unpack to. Gzip packs a thousand to one, so a small file can fill any memory."""

_PIPED = re.compile(r"/dev/stdin|/dev/fd/[0-9]+|/proc/self/fd/[0-9]+")
"""Where a pipe is meant: what is typed behind `|` or `<(…)`."""

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_LISTED = 1000
"""So many names of a folder are looked through for near matches."""

# UTF-32's mark begins as UTF-16's does, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Letters of French, German, Italian, Portuguese, Spanish and the Nordic languages, and what word processors set.
_WESTERN = set("ÄÅÆÇÈÉÊËÎÏÑÒÓÔÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœ’‘“”–—…€°«»¿¡ºª·" + "\u00a0")
_RUN = re.compile(r"[^\x00-\x7f]+")
_MAX_RUN = 2
"""So many letters beyond ASCII stand in a row in those languages; in mojibake of other scripts, whole words do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds.

    Attributes:
        path: Where it lies.
        data: Its bytes, unpacked.
    """

    path: Path
    data: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the unpacked bytes."""
        return hash_content(self.data)


def hash_content(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def is_piped(path: Path) -> bool:
    """Whether a path is a pipe that the shell or the user put there to be read."""
    return _PIPED.fullmatch(os.fspath(path)) is not None


def is_packed(data: bytes, path: Path) -> bool:
    """Whether bytes, or the first of them, are packed by gzip, or a file's name says so."""
    return data.startswith(_GZIP_MAGIC) or path.suffix.lower() == ".gz"


def find_encoding(data: bytes) -> str:
    """The encoding that a text's mark names; UTF-8 without one."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")


def expand_home(name: str | os.PathLike[str]) -> Path:
    """The path with ~ as the home folder; as it is where there is no such home."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _read_at_most(path: Path, limit: int) -> bytes:
    """A file's bytes; of a pipe only where the shell or the user put it there to be read (`<(…)`, `/dev/stdin`).

    Raises:
        TaskFileError: If it holds more.
        OSError: If it cannot be read, or is a pipe or device of any other name: those may never end.
    """
    try:
        if not is_piped(path):
            return read_plain_file(path, limit=limit)
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise FileTooLargeError(len(data), limit)
    except FileTooLargeError:
        raise TaskFileError(
            f"{path} has more than {limit / 1e9:.1f} GB, and a task file is read as a whole. Give a part of it."
        ) from None
    return data


def read_content(path: Path) -> Content:
    """The content of a task file, unpacked where it is packed by gzip.

    Raises:
        TaskFileError: If there is no such file, or it cannot be read or unpacked.
    """
    try:
        data = _read_at_most(path, MAX_BYTES)
    except FileNotFoundError:
        raise missing_file(path) from None
    except (IsADirectoryError, NotAFileError):
        if is_folder(path):
            raise TaskFileError(f"{path} is a folder, and a task is read from one file{list_files(path)}.") from None
        raise TaskFileError(
            f"{path} is no ordinary file, but a pipe, a socket or a device, which may never end. Write its rows into a "
            "file, or give plain text as text:/dev/stdin."
        ) from None
    except (OSError, ValueError) as error:
        raise TaskFileError(f"The task file {path} cannot be read ({error}). Check the path and its rights.") from None
    if is_packed(data, path):
        data = _unpack(data, path)
    return Content(path=path, data=data)


def missing_file(path: Path) -> TaskFileError:
    """The error for a file that is not there, with near matches in its folder."""
    names = _names_in(path.parent)
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    near = near or [name for name in names if name.split(".")[0] == path.name][:3]
    did_you_mean = f" Did you mean {' or '.join(repr(str(path.parent / name)) for name in near)}?" if near else ""
    missing = "" if is_folder(path.parent) else f" There is no folder {path.parent} either."
    return TaskFileError(
        f"There is no task file {path}. Check the path, which is relative to {Path.cwd()}.{missing}{did_you_mean}"
    )


def _names_in(folder: Path) -> list[str]:
    """Names in a folder, sorted; none where it cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry, _ in zip(entries, range(_MAX_LISTED), strict=False))
    except (OSError, ValueError):
        return []


def list_files(folder: Path) -> str:
    """What to name of a folder instead, for a message."""
    names = [name for name in _names_in(folder) if not name.startswith(".")][:3]
    return f". Name a file in it: {' or '.join(repr(str(folder / name)) for name in names)}" if names else ""


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a path that the system does not take is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; a path that the system does not take is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _unpack(data: bytes, path: Path) -> bytes:
    """The content of a gzip file, of limited size."""
    unpacked = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while chunk := stream.read(2**20):
                unpacked += chunk
                if len(unpacked) > MAX_UNPACKED_BYTES:
                    raise TaskFileError(
                        f"{path} unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MiB. Unpack it yourself if that is "
                        f"meant, or take the rows that are needed."
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise TaskFileError(f"{path} is no whole gzip file ({error}). Pack or copy it again.") from None
    return bytes(unpacked)


def decode_text(content: Content, *, western: bool = False) -> tuple[str, tuple[str, ...]]:
    """The content as text without its byte order mark, and what is to be said about its encoding.

    UTF-8, or UTF-16 and UTF-32 where their mark stands first.

    Args:
        content: The file.
        western: Whether bytes that are no UTF-8 may be Windows-1252, as European spreadsheets save tables. They are
            taken for it where all of them are letters of Western European words.

    Raises:
        TaskFileError: If the content is no such text; the message names the byte and the line.
    """
    data, path = content.data, content.path
    encoding = find_encoding(data)
    notes: tuple[str, ...] = ()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        guess = _decode_western(data) if western and encoding == "utf-8" else None
        if guess is None:
            raise _undecodable(content, error) from None
        text = guess
        guessed = f"{path.name} is not UTF-8 and was read as Windows-1252: {_example(text)}"
        notes = (f"{guessed}. If that is wrong, save it as UTF-8",)
    if "\0" in text:
        place = text.index("\0")
        raise TaskFileError(
            f"{path}, line {_line_of(text, place)}: a null byte (character {place}). The file is no text, or UTF-16 "
            f"without a byte order mark. Save it as UTF-8 text."
        )
    return text, notes


def _undecodable(content: Content, error: UnicodeDecodeError) -> TaskFileError:
    """The error for bytes that are no text."""
    data = content.data
    line = data.count(b"\n", 0, error.start) + 1
    byte = f"byte 0x{data[error.start]:02x}" if error.start < len(data) else "the end"
    name = "UTF-8" if error.encoding.startswith("utf-8") else error.encoding.upper()
    return TaskFileError(
        f"{content.path}, line {line}: {byte} is not {name} (byte {error.start} of the file). Save the file as UTF-8 "
        f"text."
    )


def _decode_western(data: bytes) -> str | None:
    """The bytes as Windows-1252, where that is plainly what they are."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    runs = _RUN.findall(text)
    plain = all(len(run) <= _MAX_RUN and _WESTERN.issuperset(run) for run in runs)
    return text if plain else None


def _example(text: str) -> str:
    """A word with a letter beyond ASCII, and its line."""
    place = _RUN.search(text)
    start = 0 if place is None else place.start()
    word = re.compile(r"[^\s,;|\"]*").match(text, _word_start(text, start))
    return f"{word.group() if word else ''!r} (line {_line_of(text, start)})"


def _word_start(text: str, place: int) -> int:
    """Where the word around a place begins."""
    while place and text[place - 1] not in ' \t\r\n,;|"':
        place -= 1
    return place


def _line_of(text: str, place: int) -> int:
    """The line, from 1, on which a character stands."""
    return text.count("\n", 0, place) + 1
