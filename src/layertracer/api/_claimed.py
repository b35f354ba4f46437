"""The folder of what is being made, which no other process is given meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layertracer.api._taken import take_flag, take_path
from layertracer.runs import FolderKind, expand_home, require_claim


@contextmanager
def claimed_folder(path: str | Path, *, overwrite: bool, kind: FolderKind) -> Iterator[Path]:
    """The folder, within the block.

    Args:
        path: Where it is going to be, as users gave it.
        overwrite: Whether one of the kind that lies there may be replaced, likewise.
        kind: What it is going to be.

    Raises:
        RunError: If it cannot be saved there, or another process is going to save there.
        UsageError: If the one is no path, or the other not true or false.
    """
    folder = expand_home(take_path("out", path))
    claim = require_claim(folder, overwrite=take_flag("overwrite", overwrite), kind=kind)
    try:
        yield folder
    finally:
        claim.release()
