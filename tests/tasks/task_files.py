"""What tests of task files share: files on the spot, and the pairs that come out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layertracer.tasks import Task, load_task


def load_text(folder: Path, name: str, content: str | bytes, **options: Any) -> Task:
    """The task of a file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return load_task(path, **options)


def load_pairs(folder: Path, name: str, content: str | bytes, **options: Any) -> set[tuple[str, str]]:
    """The pairs of a file with this content."""
    return pairs_of(load_text(folder, name, content, n_shot=0, **options))


def pairs_of(task: Task) -> set[tuple[str, str]]:
    """Inputs and outputs of a zero-shot task in the default template."""
    return {(str(sample.prompt).removesuffix(" ->"), str(sample.answer)[1:]) for sample in task}
