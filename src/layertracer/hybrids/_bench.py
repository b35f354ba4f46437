"""Placements measured on rows of several kinds: the objective of a search, and what single layers are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from layertracer.advice import Singles
from layertracer.hybrids._kept_measures import KeptMeasures
from layertracer.hybrids._row_kl import TEXT, RowKL
from layertracer.hybrids._search import Kept, SingleScores, without
from layertracer.tracing import JudgedRow, RowMeasures


class Bench:
    """Rows on which placements are measured; called, it is the objective of a search.

    Args:
        measures: What measures placements.
        rows: The rows, by kind: text, or a task's name.
    """

    def __init__(self, measures: KeptMeasures, rows: Mapping[str, Sequence[JudgedRow]]) -> None:
        self._measures = measures
        self._rows = {kind: tuple(some) for kind, some in rows.items() if some}

    def __call__(self, placements: Sequence[Kept]) -> Float64[np.ndarray, " placement"]:
        """The objective of each placement."""
        return self.row_kl(placements).objective()

    @property
    def n_rows(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        return {kind: len(rows) for kind, rows in self._rows.items()}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The kinds that are tasks."""
        return tuple(kind for kind in self._rows if kind != TEXT)

    def row_kl(self, placements: Sequence[Kept]) -> RowKL:
        """KL of each row and placement, a mean over the positions that are read."""
        return RowKL(
            by_kind={
                kind: np.stack([row.kl_nats.mean(axis=1) for row in measured])
                for kind, measured in self._measured(placements).items()
            }
        )

    def solved(self, placements: Sequence[Kept]) -> dict[str, Bool[np.ndarray, "row placement"]]:
        """By task, whether the answer is the top token at every position that is read."""
        found = {}
        for kind, measured in self._measured(placements).items():
            if kind != TEXT:
                answers = [np.array([row.ids[place + 1] for place in row.read]) for row in self._rows[kind]]
                right = [(one.top_ids == answer).all(axis=1) for one, answer in zip(measured, answers, strict=True)]
                found[kind] = np.stack(right)
        return found

    def _measured(self, placements: Sequence[Kept]) -> dict[str, tuple[RowMeasures, ...]]:
        """All rows in one call: those of equal length run together, whatever their kind."""
        everything = [row for rows in self._rows.values() for row in rows]
        measured = iter(self._measures.measure(everything, placements))
        return {kind: tuple(next(measured) for _ in rows) for kind, rows in self._rows.items()}


def describe_singles(
    bench: Bench, layers: Kept, scores: SingleScores, *, joint_js: Float64[np.ndarray, " placeable"] | None
) -> Singles:
    """Single layers by kind of rows, out of what `score_singles` had measured already."""
    removed = [without(layers, one) for one in layers]
    restored = [(), *((one,) for one in layers)]
    restored_kl = bench.row_kl(restored).means()
    restored_solved = bench.solved(restored)
    return Singles(
        layers=layers,
        removed_kl_nats=bench.row_kl(removed).means(),
        restored_kl_nats={kind: values[1:] for kind, values in restored_kl.items()},
        removed_accuracy={task: right.mean(axis=0) for task, right in bench.solved(removed).items()},
        restored_accuracy={task: right[:, 1:].mean(axis=0) for task, right in restored_solved.items()},
        all_kl_nats={kind: float(values[0]) for kind, values in restored_kl.items()},
        joint_js=joint_js,
        rank_agreement=rank_correlation(scores.removed, -scores.restored),
    )


def rank_correlation(first: Float64[np.ndarray, " item"], second: Float64[np.ndarray, " item"]) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN where one is constant or there are fewer than two.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2]))
        0.5
    """
    ranks = [_mean_ranks(values) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / size) if size > 0 else float("nan")


def _mean_ranks(values: Float64[np.ndarray, " item"]) -> Float64[np.ndarray, " item"]:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2)
