"""Where LayerTracer keeps what it can make again, and how small files are written there."""

from __future__ import annotations

import os
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
