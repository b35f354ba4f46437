"""Two folders that change places at once, where the system can."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places, so that nobody ever sees either of the names empty.

    Returns:
        Whether they did; False where the system or the file system cannot.

    Source:
        renameat2(2) with RENAME_EXCHANGE on Linux, renamex_np(2) with RENAME_SWAP on macOS.
    """
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None)
        if platform.system() == "Darwin":
            return bool(library.renamex_np(*names, ctypes.c_uint(_RENAME_SWAP)) == 0)
        rename = library.renameat2
        return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0)
    except (OSError, AttributeError, TypeError):  # a system or a C library without it
        return False
