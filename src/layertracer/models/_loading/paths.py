"""Paths that lead to no model: what is there instead."""

from __future__ import annotations

import os
import re
from pathlib import Path

_HUB_PAGE = re.compile(r"^(?:https?://)?(?:huggingface\.co|hf\.co)/([\w.\-]+(?:/[\w.\-]+)?)")
_HUB_PREFIX = re.compile(r"^hf://([\w.\-]+(?:/[\w.\-]+)?)")
_HUB_ID_AND_SLASH = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9_][\w.\-]*/")


def models_beside(path: Path, *, at_most: int = 20) -> list[str]:
    """What could be loaded from the folder in which a path would lie, written as the path is."""
    try:
        entries = sorted(path.parent.iterdir())
        found = [entry for entry in entries if entry.suffix == ".gguf" or (entry / "config.json").is_file()]
    except (OSError, ValueError):  # not there, not readable, or no path at all
        return []
    return [str(path.parent / entry.name) for entry in found[:at_most]]


def why_no_path(name: str, path: Path) -> str:
    """Why a name that was taken for a path leads nowhere, and what else may be meant.

    Args:
        name: What the user typed.
        path: The path that it was taken for.
    """
    if not name:
        return "The name is empty."
    page = _HUB_PAGE.match(name) or _HUB_PREFIX.match(name)
    if page is not None:
        return f"For a model of the hub give its id alone: {page[1]!r}."
    place = os.path.abspath(path)
    said = f"There is no file or folder {place}"
    folder = os.path.dirname(place)
    said += "." if os.path.isdir(folder) else f", and no folder {folder}."
    if _HUB_ID_AND_SLASH.fullmatch(name):
        said += f" For a model of the hub leave out the slash at the end: {name[:-1]!r}."
    return said
