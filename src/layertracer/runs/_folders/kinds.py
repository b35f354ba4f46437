"""The kinds of folders that LayerTracer writes, whole or not at all, and how messages call them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layertracer.runs._schema import HEADER_FILE, OWN_FILES


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderKind:
    """A kind of folder.

    Attributes:
        noun: What it holds, in a word.
        one: The same where a sentence begins with it or needs an article.
        header: The file that says what the folder is.
        files: Every file that belongs to it, the header among them; whatever else lies there is the user's.
        made_by: What makes it, as it is called in a message.
    """

    noun: str
    one: str
    header: str
    files: frozenset[str]
    made_by: str


RUN = FolderKind(noun="run", one="a run", header=HEADER_FILE, files=OWN_FILES, made_by="trace")
"""A trace."""

ADVICE = FolderKind(
    noun="advice",
    one="advice",
    header="advice.json",
    files=frozenset({"advice.json", "singles.parquet", "judgements.parquet", "accuracy.parquet", "pairs.parquet"}),
    made_by="design",
)
"""Design advice."""

LENS = FolderKind(
    noun="lens",
    one="a lens",
    header="lens.json",
    files=frozenset({"lens.json", "lens.safetensors"}),
    made_by="lens fit",
)
"""A fitted lens."""

KINDS = (RUN, ADVICE, LENS)


def kinds_at(folder: Path) -> Iterator[FolderKind]:
    """The kinds of which a folder has the header: one, or none where it is unfinished or somebody else's."""
    return (kind for kind in KINDS if os.path.lexists(folder / kind.header))


def own_names(folder: Path) -> frozenset[str]:
    """Names of files that are LayerTracer's in a folder; where nothing says what it is, those of every kind."""
    kinds = tuple(kinds_at(folder)) or KINDS
    return frozenset().union(*(kind.files for kind in kinds))
