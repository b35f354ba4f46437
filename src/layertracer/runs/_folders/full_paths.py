"""Paths from the root, or what keeps them from being found."""

from __future__ import annotations

import os
from pathlib import Path

from layertracer._errors import RunError, UsageError


def expand_home(path: Path) -> Path:
    """A path whose `~` or `~NAME` is the folder that it stands for.

    Raises:
        UsageError: If the system knows no such folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        first = path.parts[0]
        raise UsageError(
            f"{path} begins with {first}, and the system knows no home folder for that. Give the path in full, or "
            f"./{first} for a folder of that name."
        ) from None


def full_path(path: Path) -> Path:
    """A path from the root, its links followed.

    Raises:
        RunError: If the current folder is gone, to which the path is relative, or links lead in a circle.
        UsageError: If it begins with the home folder of somebody whom the system does not know.
    """
    path = expand_home(path)
    refuse_lost_start(path)
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # before Python 3.13, a circle of links is a RuntimeError
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise RunError(f"{path} leads nowhere: {reason}. Give the path of a folder that can be reached.") from error


def refuse_lost_start(path: Path) -> None:
    """Refuse a relative path where the folder that one is in was removed.

    Raises:
        RunError: If it was.
    """
    if path.is_absolute():
        return
    try:
        os.getcwd()
    except OSError as error:
        raise RunError(
            f"{path} leads nowhere: the current folder, to which it is relative, is gone "
            f"({error.strerror or error}). Go to a folder that is there, or give the path in full."
        ) from error
