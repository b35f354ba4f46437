"""Confidence sequences for bounded means: intervals that hold at all rounds at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer.measures._certified.race import check_level, check_unit_range

_N_CELLS = 1000
"""Into how many cells [0, 1] is split; the ends are those of whole cells, which is on the safe side."""

_TINY = 1e-12
_MOST_BET = 0.5
"""Largest share of the capital that one round may cost; the value that the source recommends."""


def bound_mean(values: Float[np.ndarray, " round"], *, level: float) -> tuple[float, float]:
    """An interval that holds the mean of the population, whenever one stops.

    For every mean m that may be, two bettors: K⁺ bets that the mean is larger, K⁻ that it is smaller,

        K±_t(m) = Π_i (1 ± λ±_i (x_i − m)),    λ⁺_i = min(λ_i, c / m),  λ⁻_i = min(λ_i, c / (1 − m)),  c = 1/2,
        λ_i = √(2 log(2/α) / (σ̂²_{i−1} i log(1 + i))),

    with σ̂² the variance of the rounds before, started at 1/4. An m is left out once max(K⁺, K⁻)/2 reaches 1/α. The mean
    of the population is ever left out with a probability of at most α = 1 − `level`. What was left out stays so.

    Laws: within [0, 1]; more rounds never widen it; a lower level never widens it; 1 − x has the mirrored interval. No
    round says nothing: (0, 1).

    Args:
        values: Observations in [0, 1], independent draws of one population.
        level: Probability with which the mean lies in the interval at every round, in (0, 1).

    Raises:
        UsageError: If a value or the level is out of range.

    Example:
        >>> bound_mean(np.full(200, 0.25), level=0.95)
        (0.241, 0.277)

    Source:
        Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting": the hedged capital
        process with predictable plug-in bets.
    """
    check_level(level)
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 1:
        raise UsageError(f"bound_mean needs one value a round, got shape {list(observed.shape)}.")
    check_unit_range(observed)
    observed = np.clip(observed, 0.0, 1.0)
    bets = _bets(observed, 1 - level)
    threshold = math.log(2 / (1 - level))

    def is_too_small(cell: int) -> bool:
        mean = cell / _N_CELLS
        factors = np.log1p(np.minimum(bets, _MOST_BET / max(mean, _TINY)) * (observed - mean))
        return bool((np.cumsum(factors) >= threshold).any())

    def is_too_large(cell: int) -> bool:
        mean = cell / _N_CELLS
        factors = np.log1p(-np.minimum(bets, _MOST_BET / max(1 - mean, _TINY)) * (observed - mean))
        return bool((np.cumsum(factors) >= threshold).any())

    low = _last_true(is_too_small, _N_CELLS)
    high = _N_CELLS - _last_true(lambda cells: is_too_large(_N_CELLS - cells), _N_CELLS)
    ends = sorted((low / _N_CELLS, high / _N_CELLS))  # they cross only where the mean was left out
    return ends[0], ends[1]


def _last_true(is_out: Callable[[int], bool], n_cells: int) -> int:
    """The last of the cells from 0 on that are out: K⁺ falls with m and K⁻ rises, so that all before it are as well."""
    inside, outside = n_cells + 1, 0
    while inside - outside > 1:
        middle = (inside + outside) // 2
        inside, outside = (inside, middle) if is_out(middle) else (middle, outside)
    return outside


def _bets(observed: Float[np.ndarray, " round"], alpha: float) -> Float[np.ndarray, " round"]:
    """What is bet in each round, by what was seen before it."""
    counts = np.arange(1, len(observed) + 1)
    means = (0.5 + np.cumsum(observed)) / (counts + 1)
    variances = (0.25 + np.cumsum((observed - means) ** 2)) / (counts + 1)
    before = np.concatenate([[0.25], variances[:-1]])[: len(observed)]
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * counts * np.log1p(counts))))
