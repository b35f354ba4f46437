"""Wilson's interval of a share."""

from __future__ import annotations

import math

from layertracer._types import Interval

_Z, _LEVEL = 1.959963984540054, 0.95


def wilson(n_found: float, n: int) -> Interval:
    """Wilson's score interval of a share, at 95 % (Wilson 1927).

    Example:
        >>> interval = wilson(5, 10)
        >>> round(interval.low, 4), round(interval.high, 4)
        (0.2366, 0.7634)
    """
    share, spread = n_found / n, _Z**2 / n
    centre = (share + spread / 2) / (1 + spread)
    reach = _Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return Interval(low=max(0.0, min(share, centre - reach)), high=min(1.0, max(share, centre + reach)), level=_LEVEL)
