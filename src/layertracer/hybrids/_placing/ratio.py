"""How much each layer more brings: the objective against the number of layers kept, and the knee of that curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval
from layertracer.hybrids._placing.row_kl import RowKL

_N_RESAMPLES = 2_000
_LEVEL = 0.95
_LEAST_GAP = 0.15
"""A curve that keeps nearer to the straight line between its ends, in shares of its height, has no knee."""
_LEAST_SHARE = 0.95
"""Share of the resamples that must have a knee for its interval to be told."""


def find_knee(sizes: Sequence[int], curve: Float64[np.ndarray, " size"]) -> int | None:
    """The number of layers at which the curve bends: on average each layer more brings less from there on than before.

    It is where the curve, falling from its first to its last value, lies farthest below the straight line between the
    two; None where it lies nowhere far below, does not fall, or has fewer than three points.

    Laws: adding a constant, and multiplying by a positive one, changes nothing.

    Example:
        >>> find_knee([0, 2, 4, 6, 8], np.array([1.0, 0.2, 0.1, 0.05, 0.0]))
        2
        >>> find_knee([0, 4, 8], np.array([1.0, 0.5, 0.0])) is None
        True

    Source:
        Satopää et al. (2011), "Finding a 'kneedle' in a haystack: detecting knee points in system behavior".
    """
    height = curve[0] - curve[-1]
    if len(sizes) < 3 or not height > 0:
        return None
    along = (np.array(sizes) - sizes[0]) / (sizes[-1] - sizes[0])
    gap = 1.0 - along - (curve - curve[-1]) / height
    best = int(np.argmax(gap))
    return int(sizes[best]) if gap[best] >= _LEAST_GAP else None


def knee_with_interval(sizes: Sequence[int], rows: RowKL, *, seed: int) -> tuple[int | None, Interval | None, str]:
    """The knee of the objective, its interval over rows, and what must be said of it.

    Args:
        sizes: Numbers of layers kept, ascending.
        rows: One placement of each size.
        seed: Seed of the resamples.
    """
    knee = find_knee(sizes, rows.objective())
    if knee is None:
        return None, None, "The curve has no knee: it falls about as fast at its end as at its beginning."
    if not rows.has_intervals:
        return knee, None, "Rows are too few to say how sure the knee is."
    found = [find_knee(sizes, curve) for curve in rows.resampled(n_resamples=_N_RESAMPLES, seed=seed)]
    knees = [one for one in found if one is not None]
    if len(knees) < _LEAST_SHARE * len(found):
        share = len(knees) / len(found)
        return None, None, f"Whether the curve has a knee is undecided: {share:.0%} of the resamples of its rows do."
    low, high = np.quantile(knees, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2), method="inverted_cdf")
    return knee, Interval(low=float(low), high=float(high), level=_LEVEL), ""
