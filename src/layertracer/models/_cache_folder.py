"""Where LayerTracer keeps what it can make again, and how small files are read and written there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where LayerTracer keeps what it can make again.

    `LAYERTRACER_CACHE`, else `XDG_CACHE_HOME/layertracer`, else `~/.cache/layertracer`. It is not created here.
    """
    if chosen := os.environ.get("LAYERTRACER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "layertracer"


def read_small_file(path: Path, *, at_most: int) -> bytes:
    """The content of a regular file of limited size; a link, a pipe or a device is none and is not waited for.

    Args:
        path: The file.
        at_most: Largest size, in bytes.

    Raises:
        OSError: If it cannot be read, is no regular file or is larger.
    """
    # Neither flag exists on Windows, which has no such files.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path.name} is not a regular file")
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(f"{path.name} is larger than {at_most} bytes")
    return content


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:16]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
