"""Header of a .gguf file, gone through once before its reader does: all that it counts must lie within the file.

The reader believes them. A list that says it has 2^60 numbers is read number by number, also behind the file's end.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

from layertracer._errors import ModelLoadError

_MAGIC_BYTES = 4
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a number, by the format's own number for its type."""

_STRING, _ARRAY = 8, 9
_SETTINGS, _TENSORS, _ELEMENTS = 10_000, 1_000_000, 5_000_000
"""So many settings, tensors, and elements of lists in all; the largest known have 100, 20,000 and 2,000,000."""

_DIMENSIONS = 8
_ALIGNMENT, _UINT32 = b"general.alignment", 4
_LARGEST_ALIGNMENT = 2**20

_AGAIN = "Download it again, and compare its size with the one that is given there."


def check_header(path: Path, label: str) -> None:
    """Refuse a file whose head counts more than the file holds, or lists tensors that lie behind its end.

    Args:
        path: The file, which begins as .gguf files do.
        label: What the user calls it.

    Raises:
        ModelLoadError: With the size that it has, and what is too large or the size that it should have.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = len(content)
        try:
            expected = _Head(content).find_end()
        except (ValueError, struct.error) as error:
            raise ModelLoadError(
                f"{label} is cut off or damaged: it has {found:,} bytes, and in its head {error}. {_AGAIN}"
            ) from error
    if found < expected:
        raise ModelLoadError(
            f"{label} is cut off: it has {found:,} bytes, expected {expected:,} for the tensors that its head lists. "
            f"{_AGAIN}"
        )


class _Head:
    """A walk over the settings and the list of tensors.

    Args:
        content: The file.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        version = int.from_bytes(content[_MAGIC_BYTES : 2 * _MAGIC_BYTES], "little")
        self._is_known = version not in (0, 1, 1 << 24)  # others are refused by the reader, by their number
        order = ">" if version & 0xFFFF == 0 else "<"
        self._u32, self._u64 = struct.Struct(f"{order}I"), struct.Struct(f"{order}Q")
        self._at = 2 * _MAGIC_BYTES
        self._n_elements = 0
        self._alignment = 32

    def find_end(self) -> int:
        """Where the last tensor ends by the head's own list; 0 where that cannot be told.

        Raises:
            ValueError: If a count or a length is too large.
        """
        if not self._is_known:
            return 0
        n_tensors = self._count("tensors", at_most=_TENSORS)
        n_settings = self._count("settings", at_most=_SETTINGS)
        for _ in range(n_settings):
            self._skip_setting()
        ends = [self._take_tensor() for _ in range(n_tensors)]
        start = -(-self._at // self._alignment) * self._alignment
        return start + max(ends) if ends else 0

    def _skip_setting(self) -> None:
        start = self._at + self._u64.size
        self._skip_string()
        name, kind = self._content[start : min(self._at, start + len(_ALIGNMENT) + 1)], self._take(self._u32)
        if name == _ALIGNMENT and kind == _UINT32:
            self._alignment = min(max(1, self._take(self._u32)), _LARGEST_ALIGNMENT)
        else:
            self._skip_value(kind)

    def _take_tensor(self) -> int:
        """Where a tensor ends, counted from the first one's beginning; 0 where its type is not known."""
        import gguf

        self._skip_string()
        n_dimensions = self._take(self._u32)
        if n_dimensions > _DIMENSIONS:
            raise ValueError(f"a tensor has {n_dimensions:,} dimensions, expected {_DIMENSIONS} at most")
        n_values = math.prod([self._take(self._u64) for _ in range(n_dimensions)])
        kind, offset = self._take(self._u32), self._take(self._u64)
        if kind not in gguf.GGMLQuantizationType.__members__.values():
            return 0
        n_in_block, n_block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        return int(offset + n_values // n_in_block * n_block_bytes)

    def _skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _ARRAY:
            self._skip_list()
        elif kind in _WIDTHS:
            self._skip(_WIDTHS[kind])
        else:
            raise ValueError(f"a setting is of the unknown type {kind}")

    def _skip_list(self) -> None:
        kind, n = self._take(self._u32), self._take(self._u64)
        self._n_elements += n
        if self._n_elements > _ELEMENTS:
            raise ValueError(f"its lists have {self._n_elements:,} elements, expected {_ELEMENTS:,} at most")
        if kind in _WIDTHS:
            self._skip(n * _WIDTHS[kind])
        elif kind == _STRING:
            for _ in range(n):
                self._skip_string()
        else:
            raise ValueError(f"a list holds elements of the type {kind}, expected numbers or texts")

    def _skip_string(self) -> None:
        self._skip(self._take(self._u64))

    def _count(self, what: str, *, at_most: int) -> int:
        n = self._take(self._u64)
        if n > at_most:
            raise ValueError(f"there are {n:,} {what}, expected {at_most:,} at most")
        return n

    def _take(self, number: struct.Struct) -> int:
        start = self._at
        self._skip(number.size)
        return int(number.unpack_from(self._content, start)[0])

    def _skip(self, n_bytes: int) -> None:
        self._at += n_bytes
        if self._at > len(self._content):
            raise ValueError(f"something of {n_bytes:,} bytes begins at {self._at - n_bytes:,} and ends behind its end")
