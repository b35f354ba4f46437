"""Files of a checkpoint that are read whole: configuration, indices, tokenizer."""

from __future__ import annotations

import fnmatch
import json
import os
import stat
from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError, printable_cause, printable_name

_CONFIG_BYTES = 16_000_000
INDEX_BYTES = 64_000_000
_TOKENIZER_BYTES = 256_000_000
"""Limits; the largest that are known are 0.1, 20 and 40 MB. What is read takes several times as much memory."""

_LIMITS = {
    "*.index.json": INDEX_BYTES,
    **dict.fromkeys(("tokenizer.json", "vocab*", "merges.txt", "*.model", "*.tiktoken"), _TOKENIZER_BYTES),
    **dict.fromkeys(
        ("*config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*", "tokenizer*.json"),
        _CONFIG_BYTES,
    ),
}
"""The first pattern that fits a name."""


def check_small_files(folder: Path, label: str) -> None:
    """Refuse a folder in which a file that libraries read whole is no ordinary file, or absurdly large.

    Raises:
        ModelLoadError: With the name of the file.
    """
    for entry in os.scandir(folder):
        limit = next((size for pattern, size in _LIMITS.items() if fnmatch.fnmatch(entry.name, pattern)), None)
        if limit is not None and os.path.exists(entry) and not entry.is_dir():
            check_file(folder / entry.name, label, at_most=limit)


def check_file(path: Path, label: str, *, at_most: int | None = None) -> None:
    """Refuse what is no ordinary file (a pipe or a device would never end) or larger than it can sensibly be.

    Raises:
        ModelLoadError: With the name of the file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ModelLoadError(
            f"{label}: cannot read {printable_name(path.name)} ({error.strerror}). Copy the checkpoint again."
        ) from printable_cause(error)
    if not stat.S_ISREG(state.st_mode):
        raise ModelLoadError(
            f"{label}: {printable_name(path.name)} is no ordinary file, but a folder, a pipe or a device. Copy the "
            "checkpoint again."
        )
    if at_most is not None and state.st_size > at_most:
        raise ModelLoadError(
            f"{label}: {printable_name(path.name)} has {state.st_size / 1e6:,.0f} MB; at most {at_most / 1e6:,.0f} MB "
            "are expected of such a file. Copy the checkpoint again."
        )


def read_json(path: Path, label: str, *, what: str, at_most: int = _CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object out of a checkpoint's file.

    Args:
        path: The file.
        label: What the user calls the checkpoint.
        what: What the file should be, for the message.
        at_most: Bytes that it may have.

    Raises:
        ModelLoadError: If it is no ordinary file, too large, or no JSON object.
    """
    check_file(path, label, at_most=at_most)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = printable_name(error, at_most=300)
        raise ModelLoadError(
            f"{label}: cannot read {path} ({reason}). It should be {what}. Copy the checkpoint again."
        ) from printable_cause(error)
    if not isinstance(value, dict):
        raise ModelLoadError(
            f"{label}: {path} holds a JSON {type(value).__name__}, expected an object: {what}. Copy the checkpoint "
            "again."
        )
    return value
