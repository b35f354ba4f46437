"""Costs of a long span foreseen from shorter ones, so that measuring it takes no more than there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from layertracer.tracing._planning.token_spans import Quantity, SpanCosts, TokenSpan

_SHORTEST = 32
"""Tokens below which a span is run at once: it takes next to nothing."""
_PROBED_ROWS = 2
_ENOUGH_POINTS = 3


def shorter(span: TokenSpan, *, least_before: int) -> Iterator[TokenSpan]:
    """A half, a quarter and so on of a span, the shortest first.

    Args:
        span: The whole one.
        least_before: How many tokens before its own it must keep, where it has that many.
    """
    whole = tokens_of(span)
    for shift in range(max(0, (whole // _SHORTEST).bit_length() - 1), 0, -1):
        yield replace(
            span,
            n_before=max(span.n_before >> shift, min(span.n_before, least_before)),
            n_own=max(1, span.n_own >> shift),
            n_source=max(span.n_source >> shift, min(1, span.n_source)),
        )


def tokens_of(span: TokenSpan) -> int:
    """All tokens that its layers see."""
    return span.n_before + span.n_own + span.n_source


def foresee(known: Sequence[tuple[TokenSpan, SpanCosts]], span: TokenSpan) -> SpanCosts:
    """The costs of a span from those of shorter ones: the parabola through the last three of them.

    None is below that of the longest that is known, nor grows faster than the square of the length.

    Args:
        known: Shorter spans with their costs, in order of length; one at least.
        span: The longer one.
    """
    last = known[-1][1]
    ratio = tokens_of(span) / tokens_of(known[-1][0])
    points = known[-_ENOUGH_POINTS:]
    lengths = np.array([tokens_of(one) for one, _ in points], dtype=float)
    weights = [
        float(np.prod([(tokens_of(span) - other) / (own - other) for other in lengths if other != own]))
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
    return SpanCosts(
        lines=lines, stream_bytes=ratio * last.stream_bytes, memory_bytes=np.asarray(ratio * last.memory_bytes)
    )


def probed_bytes(costs: SpanCosts) -> float:
    """The most that is live while the costs are measured, on two rows."""
    rows = np.full(len(costs.memory_bytes), float(_PROBED_ROWS))
    kept = np.maximum(costs.layers(Quantity.KEPT, rows) - _PROBED_ROWS * costs.stream_bytes, 0)
    before = costs.front(Quantity.KEPT, _PROBED_ROWS) + _PROBED_ROWS * float(costs.memory_bytes.sum())
    inside = before + np.cumsum(kept) - kept + costs.layers(Quantity.PEAK, rows)
    after = before + float(kept.sum()) + costs.back(Quantity.PEAK, _PROBED_ROWS)
    return max(costs.front(Quantity.PEAK, _PROBED_ROWS), float(inside.max()), after)
