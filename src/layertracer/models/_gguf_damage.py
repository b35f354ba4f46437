"""What is wrong with a .gguf file that could not be read: where it ends, and where it should end."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the format's number for its type."""

_MOST_DIMENSIONS = 4
_ALIGNMENT = b"general.alignment"


class _HeaderError(Exception):
    """The file ends, or stops making sense, within its header."""


def describe_damage(path: Path, label: str, error: Exception) -> str:
    """Why a file could not be read, with its size and the one that it should have, and what to do.

    Args:
        path: A file that begins as .gguf files do.
        label: What the user calls it.
        error: What its reader raised.
    """
    found = path.stat().st_size
    again = "Download it again, and compare its size with the one that is given there."
    try:
        with path.open("rb") as file:
            expected = _expected_bytes(file, found)
    except (_HeaderError, OSError):
        return (
            f"{label} is cut off or damaged: it has {found:,} bytes and ends, or makes no sense, within its header "
            f"({type(error).__name__}), where at least all tensors must be listed. {again}"
        )
    if found < expected:
        return (
            f"{label} is cut off: it has {found:,} bytes, expected {expected:,} for the tensors that its header lists. "
            f"{again}"
        )
    return f"{label} cannot be read as a .gguf file ({type(error).__name__}: {error}). {again}"


def _expected_bytes(file: BinaryIO, size: int) -> int:
    """Where the last tensor ends, by the file's own list of tensors."""
    _, version, n_tensors, n_values = struct.unpack("<4sIQQ", _take(file, 24))
    if version not in {2, 3}:
        raise _HeaderError
    alignment = 32
    for _ in range(min(n_values, size)):
        name = _text(file)
        (kind,) = struct.unpack("<I", _take(file, 4))
        if name == _ALIGNMENT and kind == 4:
            (alignment,) = struct.unpack("<I", _take(file, 4))
        else:
            _skip_value(file, kind, size)
    ends = [_tensor_end(file) for _ in range(min(n_tensors, size))]
    start = math.ceil(file.tell() / max(alignment, 1)) * max(alignment, 1)
    return int(start + max(ends, default=0))


def _tensor_end(file: BinaryIO) -> int:
    """Where a tensor ends, counted from the first one's beginning."""
    import gguf

    _text(file)
    (n_dimensions,) = struct.unpack("<I", _take(file, 4))
    if n_dimensions > _MOST_DIMENSIONS:
        raise _HeaderError
    shape = struct.unpack(f"<{n_dimensions}Q", _take(file, 8 * n_dimensions))
    kind, offset = struct.unpack("<IQ", _take(file, 12))
    try:
        n_block, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    except (ValueError, KeyError) as error:
        raise _HeaderError from error
    return int(offset + math.prod(shape) // n_block * n_bytes)


def _skip_value(file: BinaryIO, kind: int, size: int) -> None:
    if kind == _STRING:
        _text(file)
    elif kind == _ARRAY:
        of, length = struct.unpack("<IQ", _take(file, 12))
        if of in _SIZES:
            _take(file, _SIZES[of] * length)
        else:
            for _ in range(min(length, size)):
                _skip_value(file, of, size)
    elif kind in _SIZES:
        _take(file, _SIZES[kind])
    else:
        raise _HeaderError


def _text(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<Q", _take(file, 8))
    return _take(file, length)


def _take(file: BinaryIO, n_bytes: int) -> bytes:
    """The next bytes; a header that asks for a gigabyte at once is none."""
    taken = file.read(n_bytes) if n_bytes <= 2**30 else b""
    if len(taken) < n_bytes:
        raise _HeaderError
    return taken
