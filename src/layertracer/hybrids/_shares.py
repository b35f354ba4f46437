"""Shares of prompts, with intervals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

_Z = 1.959963984540054
"""Normal quantile of 95 %."""


def share_intervals(hits: Bool[np.ndarray, "prompt item"]) -> Float[np.ndarray, "item 2"]:
    """Wilson's score interval, at 95 %, of the share of prompts for which each item holds.

    Laws: within [0, 1]; it holds the share.

    Source:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    n, shares = len(hits), hits.mean(axis=0)
    centre = (shares + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * np.sqrt(shares * (1 - shares) / n + _Z**2 / (4 * n**2))
    low, high = np.minimum(centre - reach, shares), np.maximum(centre + reach, shares)
    return np.stack([np.maximum(low, 0.0), np.minimum(high, 1.0)], axis=1)
