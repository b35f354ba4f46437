"""Damage to files, drawn by a seed: bits, blocks, exchanged blocks, ends cut off or added."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

KINDS = ("bit", "zeros", "noise", "exchange", "cut", "more")
_LARGEST_BLOCK = 2**18


def alter(path: Path, generator: random.Random) -> tuple[str, Callable[[], None]]:
    """Alter a file in place; what was done, and how to undo it.

    Args:
        path: A file of at least 16 bytes, of which no more than a few blocks are read.
        generator: Draws the kind and the place.
    """
    size = path.stat().st_size
    while True:
        kind = generator.choice(KINDS)
        before, after, at = _draw(path, kind, size, generator)
        if before != after:
            break
    with path.open("r+b") as file:
        file.seek(at)
        file.write(after)
        file.truncate(size + (len(after) - len(before) if kind in {"cut", "more"} else 0))

    def undo() -> None:
        with path.open("r+b") as file:
            file.truncate(size)
            file.seek(at)
            file.write(before)

    return f"{kind} of {max(len(before), len(after))} bytes at {at} of {size}", undo


def _draw(path: Path, kind: str, size: int, generator: random.Random) -> tuple[bytes, bytes, int]:
    """What stood at a place, what shall stand there, and the place."""
    length = generator.randint(1, min(_LARGEST_BLOCK, size // 4))
    at = generator.randrange(size - 2 * length)
    if kind == "bit":
        (byte,) = _read(path, at, 1)
        return bytes([byte]), bytes([byte ^ 1 << generator.randrange(8)]), at
    if kind == "cut":
        return _read(path, size - length, length), b"", size - length
    if kind == "more":
        return b"", generator.randbytes(length), size
    if kind == "exchange":
        both = _read(path, at, 2 * length)
        return both, both[length:] + both[:length], at
    block = _read(path, at, length)
    return block, bytes(length) if kind == "zeros" else generator.randbytes(length), at


def _read(path: Path, at: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(length)
