"""How well a score that needs no training foretells what training gives, over all placements of a size.

Placements share layers, so that they are no independent observations: what is drawn again or shuffled is layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from layertracer.measures import average_ranks

Placement: TypeAlias = "tuple[int, ...]"

_N_RESAMPLES = 2000
_N_SHUFFLES = 100_000
_FEWEST_PLACEMENTS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correlation:
    """Spearman's correlation of a score with the trained result.

    Attributes:
        value: The correlation; NaN where one of the two is constant.
        low: Lower end of the 95 % interval, layers drawn again.
        high: Upper end.
        p: Share of all ways to give the layers other numbers in which the correlation is as large or larger.
        null: The correlation in each of these ways.
    """

    value: float
    low: float
    high: float
    p: float
    null: Float64[np.ndarray, " permutation"]


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation, ties by their mean rank, in [-1, 1]; NaN where one is constant."""
    a, b = (_centre(average_ranks(np.asarray(values, dtype=np.float64))) for values in (first, second))
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float("nan") if norm == 0 else float(a @ b) / norm


def correlate(score: Mapping[Placement, float], result: Mapping[Placement, float], *, n_layers: int) -> Correlation:
    """Correlation over all placements of a size.

    The interval draws layers with replacement: a placement counts as often as the product of its layers' counts says,
    and those with a layer that was not drawn not at all. With eight layers this is coarse, and it holds for layers
    like these of a model like this, not for other models. p is of a stricter kind and exact: it asks whether another
    numbering of the layers would foretell as well.

    Args:
        score: A number a placement; high foretells a high result.
        result: What training gave, for the same placements.
        n_layers: Layers of the model.
    """
    placements = sorted(result)
    values, trained = (np.array([of[kept] for kept in placements]) for of in (score, result))
    value = spearman(values, trained)
    null = _permuted(placements, values, trained, n_layers)
    resampled = _resampled(placements, values, trained, n_layers)
    known = resampled[np.isfinite(resampled)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    p = float(np.mean(null >= value - 1e-12))
    return Correlation(value=value, low=float(low), high=float(high), p=p, null=null)


def mean_p(correlations: Sequence[Correlation], *, seed: int = 0) -> float:
    """P of the mean correlation over several models: each one's layers numbered anew, independently.

    Args:
        correlations: One a model.
        seed: Seed of the shuffles.
    """
    rng = np.random.default_rng(seed)
    null = np.mean([rng.choice(one.null, _N_SHUFFLES) for one in correlations], axis=0)
    observed = np.mean([one.value for one in correlations])
    return float((1 + np.sum(null >= observed - 1e-12)) / (1 + _N_SHUFFLES))


def rank_of(chosen: Placement, result: Mapping[Placement, float]) -> int:
    """Rank of a placement by its result: 1 is the smallest of all."""
    return 1 + sum(value < result[chosen] for value in result.values())


def ranks_p(ranks: Sequence[int], n: int) -> float:
    """Probability that ranks that are drawn blindly, each out of `n`, add up to no more."""
    sums = [sum(one) for one in product(range(1, n + 1), repeat=len(ranks))]
    return sum(one <= sum(ranks) for one in sums) / len(sums)


def _centre(values: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
    centred: np.ndarray = values - values.mean()
    return centred


def _permuted(
    placements: Sequence[Placement], values: np.ndarray, trained: np.ndarray, n_layers: int
) -> Float64[np.ndarray, " permutation"]:
    """The correlation under every numbering of the layers."""
    a, b = _centre(average_ranks(values)), _centre(average_ranks(trained))
    norm = np.sqrt((a @ a) * (b @ b))
    null: np.ndarray = (a[_renumbered(tuple(placements), n_layers)] @ b) / (norm or np.nan)
    return null


@cache
def _renumbered(placements: tuple[Placement, ...], n_layers: int) -> Int64[np.ndarray, "permutation placement"]:
    """Where each placement goes under each numbering of the layers."""
    numberings = np.array(list(permutations(range(n_layers))))
    moved = (1 << numberings[:, np.array(placements)]).sum(-1)
    masks = [sum(1 << layer for layer in kept) for kept in placements]
    place = np.full(1 << n_layers, -1)
    place[masks] = np.arange(len(placements))
    found: np.ndarray = place[moved]
    if (found < 0).any():
        raise AssertionError("not all placements of the size are there")
    return found


def _resampled(
    placements: Sequence[Placement], values: np.ndarray, trained: np.ndarray, n_layers: int
) -> Float64[np.ndarray, " resample"]:
    """The correlation with layers drawn again."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n_layers, np.full(n_layers, 1 / n_layers), size=_N_RESAMPLES)
    weights = counts[:, np.array(placements)].prod(-1)
    enough = weights[(weights > 0).sum(1) >= _FEWEST_PLACEMENTS]
    return np.array([spearman(np.repeat(values, row), np.repeat(trained, row)) for row in enough])
