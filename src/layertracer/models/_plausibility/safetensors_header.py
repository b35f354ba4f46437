"""Header of a safetensors file: what it says of itself, and whether the rest of it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError, printable_cause

_LENGTH_BYTES = 8
_LARGEST_HEADER_BYTES = 100_000_000
"""What the format allows."""


def read_header(path: Path) -> dict[str, Any]:
    """Type, shape and place of each tensor in a safetensors file, by name: the file begins with them.

    Raises:
        ModelLoadError: If the file does not begin with such a header.
    """
    header, _ = _read(path)
    return header


def check_whole(path: Path, label: str) -> None:
    """Refuse a safetensors file that is shorter or longer than its header says.

    Args:
        path: The file.
        label: What the user calls the model.

    Raises:
        ModelLoadError: If it is, or has no header.
    """
    header, n_header = _read(path)
    try:
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"it gives a tensor no place ({type(error).__name__})") from printable_cause(error)
    expected, found = n_header + max(ends, default=0), path.stat().st_size
    if found != expected:
        what = "is cut off" if found < expected else "holds more than its weights"
        raise ModelLoadError(
            f"{label}: {path.name} {what}: it has {found:,} bytes, expected {expected:,} for the {len(header)} tensors "
            f"that its header lists. Download or copy it again to {path.parent}."
        )


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """The header, without what is no tensor, and where it ends."""
    found = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if found < _LENGTH_BYTES or length > min(found - _LENGTH_BYTES, _LARGEST_HEADER_BYTES):
            raise _damaged(path, f"it should be of {length:,} bytes, and the file has {found:,}")
        content = file.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON ({type(error).__name__})") from printable_cause(error)
    if not isinstance(header, dict):
        raise _damaged(path, f"it is a JSON {type(header).__name__}, expected an object")
    header.pop("__metadata__", None)
    return header, _LENGTH_BYTES + length


def _damaged(path: Path, reason: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path} is cut off or damaged: a safetensors file begins with a header that lists its tensors, and here "
        f"{reason}. Download or copy it again."
    )
