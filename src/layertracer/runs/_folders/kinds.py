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
        in_full: What it is, where it is told from the other kinds.
        read_by: What reads it.
        lies: Where such folders lie unless told otherwise, for a message; "" where that needs no saying.
    """

    noun: str
    one: str
    header: str
    files: frozenset[str]
    made_by: str
    in_full: str
    read_by: str
    lies: str = ""


RUN = FolderKind(
    noun="run",
    one="a run",
    header=HEADER_FILE,
    files=OWN_FILES,
    made_by="trace",
    in_full="the run of a trace",
    read_by="load_run",
    lies=", e.g. one of those under runs/",
)
"""A trace."""

ADVICE = FolderKind(
    noun="advice",
    one="advice",
    header="advice.json",
    files=frozenset({"advice.json", "singles.parquet", "judgements.parquet", "accuracy.parquet", "pairs.parquet"}),
    made_by="design",
    in_full="design advice",
    read_by="load_advice",
)
"""Design advice."""

_CAUSAL_TABLES = frozenset({"causal_cells.parquet", "causal_prompts.parquet", "causal_roles.parquet"})

CAUSAL = FolderKind(
    noun="causal trace",
    one="a causal trace",
    header="causal.json",
    files=frozenset({"causal.json"}) | _CAUSAL_TABLES,
    made_by="causal trace",
    in_full="a causal trace",
    read_by="load_causal",
)
"""What causal tracing found."""

EVIDENCE = FolderKind(
    noun="evidence",
    one="evidence",
    header="evidence.json",
    files=_CAUSAL_TABLES
    | {
        *("evidence.json", "js.parquet", "importance.parquet", "target_prob.parquet", "lenses.parquet"),
        *("particles.parquet", "agreements.parquet", "doses.parquet", "probes.parquet"),
    },
    made_by="validation",
    in_full="evidence",
    read_by="load_evidence",
)
"""What a validation found; a causal trace is part of it."""

LENS = FolderKind(
    noun="lens",
    one="a lens",
    header="lens.json",
    files=frozenset({"lens.json", "lens.safetensors"}),
    made_by="lens fit",
    in_full="a fitted lens",
    read_by="load_lens (on the command line: `layertracer lens show`)",
)
"""A fitted lens."""

KINDS = (RUN, ADVICE, CAUSAL, EVIDENCE, LENS)


def kinds_at(folder: Path) -> Iterator[FolderKind]:
    """The kinds of which a folder has the header: one, or none where it is unfinished or somebody else's."""
    return (kind for kind in KINDS if os.path.lexists(folder / kind.header))


def own_names(folder: Path) -> frozenset[str]:
    """Names of files that are LayerTracer's in a folder; where nothing says what it is, those of every kind."""
    kinds = tuple(kinds_at(folder)) or KINDS
    return frozenset().union(*(kind.files for kind in kinds))
