"""Costs of a long stretch foreseen from shorter ones, so that measuring it takes no more than there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from layertracer.tracing._planning.token_spans import Quantity, Stretch, StretchCosts

_SHORTEST = 32
"""Tokens below which a stretch is run at once: it takes next to nothing."""
_PROBED_ROWS = 2
_ENOUGH_POINTS = 3


def shorter(stretch: Stretch, *, least_before: int) -> Iterator[Stretch]:
    """A half, a quarter and so on of a stretch, the shortest first.

    Args:
        stretch: The whole one.
        least_before: How many tokens before its own it must keep, where it has that many.
    """
    whole = tokens_of(stretch)
    for shift in range(max(0, (whole // _SHORTEST).bit_length() - 1), 0, -1):
        yield replace(
            stretch,
            n_before=max(stretch.n_before >> shift, min(stretch.n_before, least_before)),
            n_own=max(1, stretch.n_own >> shift),
            n_source=max(stretch.n_source >> shift, min(1, stretch.n_source)),
        )


def tokens_of(stretch: Stretch) -> int:
    """All tokens that its layers see."""
    return stretch.n_before + stretch.n_own + stretch.n_source


def foresee(known: Sequence[tuple[Stretch, StretchCosts]], stretch: Stretch) -> StretchCosts:
    """The costs of a stretch from those of shorter ones: the parabola through the last three of them.

    None is below that of the longest that is known, nor grows faster than the square of the length.

    Args:
        known: Shorter stretches with their costs, in order of length; one at least.
        stretch: The longer one.
    """
    last = known[-1][1]
    ratio = tokens_of(stretch) / tokens_of(known[-1][0])
    points = known[-_ENOUGH_POINTS:]
    lengths = np.array([tokens_of(one) for one, _ in points], dtype=float)
    weights = [
        float(np.prod([(tokens_of(stretch) - other) / (own - other) for other in lengths if other != own]))
        for own in lengths
    ]

    def grown(name: str) -> np.ndarray:
        values = [np.asarray(getattr(costs, name), dtype=float) for _, costs in points]
        longest = values[-1]
        parabola = sum((weight * value for weight, value in zip(weights, values, strict=True)), np.zeros_like(longest))
        low, high = np.minimum(longest, ratio**2 * longest), np.maximum(longest, ratio**2 * longest)
        return np.asarray(high if len(points) == 1 else parabola.clip(low, high))

    lines = grown("lines")
    lines[Quantity.OPERATORS] = np.minimum(lines[Quantity.OPERATORS], ratio * last.lines[Quantity.OPERATORS])
    return StretchCosts(
        lines=lines, stream_bytes=ratio * last.stream_bytes, memory_bytes=np.asarray(ratio * last.memory_bytes)
    )


def probed_bytes(costs: StretchCosts) -> float:
    """The most that is live while the costs are measured, on two rows."""
    rows = np.full(len(costs.memory_bytes), float(_PROBED_ROWS))
    kept = np.maximum(costs.layers(Quantity.KEPT, rows) - _PROBED_ROWS * costs.stream_bytes, 0)
    before = costs.front(Quantity.KEPT, _PROBED_ROWS) + _PROBED_ROWS * float(costs.memory_bytes.sum())
    inside = before + np.cumsum(kept) - kept + costs.layers(Quantity.PEAK, rows)
    after = before + float(kept.sum()) + costs.back(Quantity.PEAK, _PROBED_ROWS)
    return max(costs.front(Quantity.PEAK, _PROBED_ROWS), float(inside.max()), after)
