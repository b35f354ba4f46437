"""KL divergences of placements, row by row and kind by kind: the objective, and what it is in resamples of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from layertracer.hybrids._judging.rows import TEXT
from layertracer.measures import MIN_UNITS, resample_mean_curves

OBJECTIVE = "mean KL(full ‖ placed) over the rows of text, plus the mean over the tasks of the mean KL over their rows"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowKL:
    """Mean KL over the positions of each row, nats.

    Attributes:
        by_kind: By kind of rows, [row, placement].
    """

    by_kind: Mapping[str, Float64[np.ndarray, "row placement"]]

    def means(self) -> dict[str, Float64[np.ndarray, " placement"]]:
        """By kind, the mean over rows."""
        return {kind: rows.mean(axis=0) for kind, rows in self.by_kind.items()}

    def objective(self) -> Float64[np.ndarray, " placement"]:
        """What placements are compared by, see `OBJECTIVE`; text alone, or tasks alone, where there is but that."""
        return np.asarray(combine_kinds(self.means()))

    def resampled(self, *, n_resamples: int, seed: int) -> Float64[np.ndarray, "resample placement"]:
        """The objective in resamples of the rows, those of each kind by themselves.

        Laws: placements are paired, resample by resample; a constant stays what it is.
        """
        by_kind = {
            kind: resample_mean_curves(rows, n_resamples=n_resamples, seed=seed + index)
            for index, (kind, rows) in enumerate(self.by_kind.items())
        }
        return np.asarray(combine_kinds(by_kind))

    @property
    def has_intervals(self) -> bool:
        """Whether there are rows enough, of every kind, to say how far the objective may be off."""
        return all(len(rows) >= MIN_UNITS for rows in self.by_kind.values())

    def of(self, columns: slice | list[int]) -> RowKL:
        """Some of the placements."""
        return RowKL(by_kind={kind: rows[:, columns] for kind, rows in self.by_kind.items()})

    def beside(self, other: RowKL) -> RowKL:
        """These placements, and others measured on the same rows."""
        return RowKL(
            by_kind={kind: np.concatenate([rows, other.by_kind[kind]], axis=1) for kind, rows in self.by_kind.items()}
        )


def combine_kinds(by_kind: Mapping[str, Float[np.ndarray, "*any"]]) -> Float[np.ndarray, "*any"]:
    """The objective out of its parts: that of text, plus the mean of those of the tasks.

    Example:
        >>> parts = {"text": np.array([0.5]), "recall": np.array([0.2]), "antonym": np.array([0.4])}
        >>> combine_kinds(parts).round(3).tolist()
        [0.8]
    """
    tasks = [values for kind, values in by_kind.items() if kind != TEXT]
    parts = [by_kind[TEXT]] if TEXT in by_kind else []
    if tasks:
        parts.append(np.mean(tasks, axis=0))
    return np.asarray(np.sum(parts, axis=0))
