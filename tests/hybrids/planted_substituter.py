"""A substituter whose measurements are known by construction: no model is run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from layertracer.tracing import JudgedRow, RowMeasures

Kept = tuple[int, ...]


class PlantedSubstituter:
    """KL of a row and a placement out of a function; noise of each row by its own seed, alike for all placements."""

    def __init__(self, n_layers: int, cost: Callable[[Kept, str], float], *, noise: float = 0.0) -> None:
        self.placeable = tuple(range(n_layers))
        self._cost, self._noise = cost, noise
        self.calls: list[tuple[int, tuple[Kept, ...]]] = []
        self.fails_after: int | None = None

    def measure(self, rows: Sequence[JudgedRow], placements: Sequence[Collection[int]]) -> tuple[RowMeasures, ...]:
        """What each row says of each placement."""
        if self.fails_after is not None and len(self.calls) >= self.fails_after:
            raise KeyboardInterrupt
        self.calls.append((len(rows), tuple(tuple(kept) for kept in placements)))
        return tuple(self._row(row, placements) for row in rows)

    def _row(self, row: JudgedRow, placements: Sequence[Collection[int]]) -> RowMeasures:
        """A row whose first token says its kind: 0 for text, else recall. The answer is right where KL is below 0.5."""
        kind = "text" if row.ids[0] == 0 else "recall"
        own = 1.0 + self._noise * np.random.default_rng(row.ids[1]).standard_normal()
        kl = np.array([[self._cost(tuple(kept), kind) * own] * len(row.read) for kept in placements])
        right = np.array([row.ids[place + 1] for place in row.read if place + 1 < len(row.ids)] or [0])
        top = np.where(kl < 0.5, right[: kl.shape[1]] if len(right) >= kl.shape[1] else 0, -1)
        return RowMeasures(
            kl_nats=kl,
            nll_nats=kl + 1.0,
            full_nll_nats=np.ones(len(row.read)),
            top_ids=top.astype(np.int64),
            full_top_ids=np.zeros(len(row.read), np.int64),
        )
