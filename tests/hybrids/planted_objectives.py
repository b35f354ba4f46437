"""Objectives of placements that are known by construction, and that count what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Kept = tuple[int, ...]


class Counting:
    """An objective that remembers which placements it was asked for."""

    def __init__(self, of_kept: Callable[[Kept], float]) -> None:
        self._of_kept = of_kept
        self.asked: list[Kept] = []

    def __call__(self, placements: Sequence[Kept]) -> np.ndarray:
        """The objective of each placement."""
        self.asked += placements
        return np.array([self._of_kept(kept) for kept in placements], dtype=np.float64)


def additive(losses: Sequence[float]) -> Counting:
    """Every layer that is not kept costs what it is worth."""
    return Counting(lambda kept: sum(loss for layer, loss in enumerate(losses) if layer not in kept))


def both_needed(first: int, second: int, *, n_layers: int) -> Counting:
    """Recall needs two layers together; every other layer is worth next to nothing, the lower ones a little more."""
    rest = [0.01 + 0.001 * (n_layers - layer) for layer in range(n_layers)]
    rest[first] = rest[second] = 0.0

    def cost(kept: Kept) -> float:
        return sum(rest[layer] for layer in range(n_layers) if layer not in kept) + float(
            not {first, second} <= {*kept}
        )

    return Counting(cost)


def covering(n_layers: int, *, n_skills: int, seed: int) -> Counting:
    """Each layer has some skills; what no kept layer has is lost. Layers stand in for one another (submodular)."""
    generator = np.random.default_rng(seed)
    has = generator.random((n_layers, n_skills)) < 0.3
    worth = generator.random(n_skills)
    return Counting(lambda kept: float(worth[~has[list(kept)].any(axis=0)].sum()))
