"""How far two readings are apart, and the worst of several errors: what every proof at load is measured by."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; where both are minus infinity there is none."""
    difference = (one - other).abs()
    return float(difference[~((one == other) & one.isinf())].max()) if difference.numel() else 0.0


def worst_of(errors: Iterable[float]) -> float:
    """The largest error; NaN where one of them is, which no tolerance allows."""
    return float(torch.tensor(list(errors), dtype=torch.float64).max())
