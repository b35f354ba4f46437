"""Placements measured on rows of several kinds: the objective of a search, and what single layers are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from layertracer.advice import Singles
from layertracer.hybrids._judging.judge import solved_prompts
from layertracer.hybrids._judging.rows import TEXT, RowSet
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.hybrids._placing.row_kl import RowKL
from layertracer.hybrids._placing.search import Kept, SingleScores, without
from layertracer.measures import correlate


class Bench:
    """Rows on which placements are measured; called, it is the objective of a search.

    Args:
        measures: What measures placements.
        rows: The rows: text, and prompts of tasks.
    """

    def __init__(self, measures: KeptMeasures, rows: RowSet) -> None:
        self._measures, self._rows = measures, rows

    def __call__(self, placements: Sequence[Kept]) -> Float64[np.ndarray, " placement"]:
        """The objective of each placement."""
        return self.row_kl(placements).objective()

    def row_kl(self, placements: Sequence[Kept]) -> RowKL:
        """KL of each row and placement, a mean over the positions that are read; of a prompt, at its first answer."""
        measured = self._measures.measure(self._rows.rows, placements)
        kl = [row.kl_nats.mean(axis=1) for row in measured]
        n_text = len(self._rows.text)
        by_kind = {TEXT: np.stack(kl[:n_text])} if n_text else {}
        start = n_text
        for task in self._rows.tasks:
            by_kind[task.name] = np.stack([kl[start + first] for first in task.firsts])
            start += len(task.rows)
        return RowKL(by_kind=by_kind)

    def share_solved(self, placements: Sequence[Kept]) -> dict[str, Float64[np.ndarray, " placement"]]:
        """By task, the share of prompts solved."""
        solved = solved_prompts(self._rows, self._measures.measure(self._rows.rows, placements))
        return {task: found.placed.mean(axis=1) for task, found in solved.items()}


def describe_singles(
    bench: Bench, layers: Kept, scores: SingleScores, *, joint_js: Float64[np.ndarray, " placeable"] | None
) -> Singles:
    """Single layers by kind of rows, out of what `score_singles` had measured already."""
    removed = [without(layers, one) for one in layers]
    restored = [(), *((one,) for one in layers)]
    restored_kl = bench.row_kl(restored).means()
    restored_solved = bench.share_solved(restored)
    return Singles(
        layers=layers,
        removed_kl_nats=bench.row_kl(removed).means(),
        restored_kl_nats={kind: values[1:] for kind, values in restored_kl.items()},
        removed_accuracy=bench.share_solved(removed),
        restored_accuracy={task: share[1:] for task, share in restored_solved.items()},
        all_kl_nats={kind: float(values[0]) for kind, values in restored_kl.items()},
        joint_js=joint_js,
        rank_agreement=float(correlate(scores.removed, -scores.restored, "spearman")),
    )
