"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

fcntl: Any = None
with contextlib.suppress(ImportError):  # Windows, where a file that is open cannot be removed, which does as well
    fcntl = importlib.import_module("fcntl")

HAS_LOCKS = fcntl is not None


def hold(path: Path) -> int | None:
    """A descriptor of a file or folder, locked; symbolic links are not followed.

    Returns:
        The descriptor, whose closing ends the lock. None where no descriptor or no lock is to be had.

    Raises:
        BlockingIOError: If a living process holds it.
        FileNotFoundError: If there is nothing, or something else by now.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        is_locked = lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise
    if not is_locked:
        os.close(descriptor)
        return None
    if not is_still_at(path, descriptor):  # whoever cleaned up here was faster
        os.close(descriptor)
        raise FileNotFoundError(path)
    return descriptor


def lock(descriptor: int) -> bool:
    """Lock what is open, and say whether the file system knows locks.

    Raises:
        BlockingIOError: If a living process holds it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def is_still_at(path: Path, descriptor: int) -> bool:
    """Whether what is open is what lies at the path."""
    try:
        found, held = os.lstat(path), os.fstat(descriptor)
    except OSError:  # gone, or its folder is, or may not be looked into any more
        return False
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)


def let_go(descriptor: int | None) -> None:
    """End a lock."""
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.close(descriptor)
