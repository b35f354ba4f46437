"""Holm's correction of several p-values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload


@overload
def holm(p: Sequence[float]) -> tuple[float, ...]: ...
@overload
def holm(p: Sequence[float | None]) -> tuple[float | None, ...]: ...
def holm(p: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's correction of several p, in the order given; None, where there is none, stays and is not counted.

    Laws: none falls; none is above 1; the order of the p stays; entries of None change nothing.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        (0.03, 0.06, None, 0.06)

    Source:
        Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((value, index) for index, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[index] = largest
    return tuple(corrected)
