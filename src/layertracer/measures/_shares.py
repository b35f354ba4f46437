"""Intervals of shares: of prompts solved, of criteria that fire."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import UsageError
from layertracer._types import Interval

_LEVEL, _Z = 0.95, 1.959963984540054
"""Of the normal distribution, for 95 %."""


def wilson(n_found: float, n: float, level: float = _LEVEL) -> Interval:
    """Wilson's score interval of a share.

    Laws: it lies within [0, 1] and holds the share; of nothing it is all of [0, 1].

    Args:
        n_found: How many were found.
        n: Of how many; a fraction where they are worth fewer than they are.
        level: Coverage, in (0, 1).

    Raises:
        UsageError: If there are more found than there are, or the level is out of range.

    Example:
        >>> interval = wilson(5, 10)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.2366, 0.7634)

    Source:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= n_found <= n or not 0.0 < level < 1.0:
        raise UsageError(f"wilson needs 0 <= n_found <= n and a level in (0, 1), got {n_found}, {n} and {level}.")
    if n == 0:
        return Interval(low=0.0, high=1.0, level=level)
    z = _Z if level == _LEVEL else NormalDist().inv_cdf((1.0 + level) / 2.0)
    share, spread = n_found / n, z**2 / n
    centre = (share + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return Interval(low=max(0.0, min(share, centre - reach)), high=min(1.0, max(share, centre + reach)), level=level)


def paired_change(solved: NDArray[np.bool_], full: NDArray[np.bool_]) -> tuple[float, Interval]:
    """How much the share of solved prompts changes, both asked the same prompts, with its interval.

    Laws: it holds the change, lies within [−1, 1], and turns over where the two are exchanged.

    Args:
        solved: Of the placed model, [prompt].
        full: Of the full model, [prompt].

    Source:
        Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
        data", method 10.
    """
    n = len(full)
    both, neither = int((solved & full).sum()), int((~solved & ~full).sum())
    gained, lost = int((solved & ~full).sum()), int((~solved & full).sum())
    own, other = wilson(both + gained, n), wilson(both + lost, n)
    share, full_share = (both + gained) / n, (both + lost) / n
    sizes = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    product = float(both * neither - gained * lost)
    # Newcombe corrects a positive association for continuity, and takes none where a margin is empty.
    product = max(product - n / 2, 0.0) if product > 0 else product
    phi = product / math.sqrt(sizes) if sizes else 0.0
    change = share - full_share

    def reach(near: float, far: float) -> float:
        return math.sqrt(max(0.0, near**2 - 2 * phi * near * far + far**2))

    low = change - reach(share - own.low, other.high - full_share)
    high = change + reach(own.high - share, full_share - other.low)
    return change, Interval(low=max(-1.0, low), high=min(1.0, high), level=_LEVEL)
