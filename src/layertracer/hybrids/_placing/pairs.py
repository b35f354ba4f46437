"""Pairs of layers: what two lose together less what each loses alone, and placements chosen by that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from layertracer.advice import Pairs
from layertracer.hybrids._placing.search import (
    MOST_ENUMERATED,
    Kept,
    Objective,
    SingleScores,
    best_of,
    exchange,
    grow,
    search_exactly,
    shrink,
    without,
)

_IN_ONE_CALL = 64


def score_pairs(objective: Objective, singles: SingleScores) -> Pairs:
    """Every two layers substituted in the full model.

    interaction[i, j] = objective(i and j) − objective(i) − objective(j); positive where they stand in for one another.
    """
    layers = singles.layers
    together = np.diag(singles.removed)
    pairs = list(combinations(range(len(layers)), 2))
    for first in range(0, len(pairs), _IN_ONE_CALL):
        some = pairs[first : first + _IN_ONE_CALL]
        placements = [without(without(layers, layers[i]), layers[j]) for i, j in some]
        for (i, j), value in zip(some, objective(placements).tolist(), strict=True):
            together[i, j] = together[j, i] = value
    alone = singles.removed[:, None] + singles.removed[None, :]
    interaction = np.where(np.eye(len(layers), dtype=bool), 0.0, together - alone)
    return Pairs(layers=layers, kl_nats=together, interaction=interaction)


def choose_by_pairs(pairs: Pairs, size: int) -> Kept:
    """The placement whose substituted layers lose least by the sum of their single losses and interactions.

    Exact where there are few placements; else greedy from both ends, then every swap until none lowers the sum.
    """
    predicted = _predicted(pairs)
    layers = pairs.layers
    if math.comb(len(layers), size) <= MOST_ENUMERATED:
        return search_exactly(predicted, layers, size)
    everything = len(layers)
    ends = (
        grow(predicted, layers, size, at_once=everything).kept[size],
        shrink(predicted, layers, size, at_once=everything).kept[size],
    )
    start = best_of(predicted, ends)
    return exchange(predicted, start, layers, most_swaps=everything**2)


def _predicted(pairs: Pairs) -> Objective:
    """The sum of single losses and interactions, of the layers that a placement does not keep."""
    alone = np.diag(pairs.kl_nats)

    def predict(placements: Sequence[Kept]) -> Float64[np.ndarray, " placement"]:
        gone = np.array([[layer not in kept for layer in pairs.layers] for kept in placements], np.float64)
        return np.asarray(gone @ alone + 0.5 * np.einsum("pi,ij,pj->p", gone, pairs.interaction, gone))

    return predict
