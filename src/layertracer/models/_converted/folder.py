"""Where LayerTracer keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where LayerTracer keeps what it can make again.

    `LAYERTRACER_CACHE`, else `XDG_CACHE_HOME/layertracer`, else `~/.cache/layertracer`. It is not created here.
    """
    if chosen := os.environ.get("LAYERTRACER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "layertracer"
