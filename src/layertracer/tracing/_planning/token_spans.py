"""What one pass of a model's own code over a span of tokens costs, for each layer and any number of rows.

A span has a number of tokens of its own and a number of tokens before it, which the rows remember.
Everything is a straight line over the number of rows: so much at any rate, and so much for each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float

LINES = Float[np.ndarray, "quantity coefficient phase"]
"""What is measured, fixed and per row, before the first layer, in each layer and after the last."""


class Quantity(IntEnum):
    """What is known of each phase.

    PEAK is the most that is live in it beyond what was live when it began, in bytes, and KEPT what is left of that in
    its end. FLOPS are those of products of matrices and attention, TRAFFIC the bytes that all other operators read and
    write.
    """

    PEAK = 0
    KEPT = 1
    FLOPS = 2
    TRAFFIC = 3
    OPERATORS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpan:
    """Some tokens of every row.

    Attributes:
        n_before: How many tokens the rows remember.
        n_own: How many tokens are read.
        cached: Whether the model's own cache is used.
        n_source: How many tokens the encoder reads; 0 without one.
        through_tail: Whether the model's tail runs over every position.
    """

    n_before: int
    n_own: int
    cached: bool
    n_source: int = 0
    through_tail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanCosts:
    """What a span costs.

    Attributes:
        lines: See `Quantity`; the phases are what comes before the first layer, every layer, and what comes after.
        stream_bytes: Size of the stream of one row.
        memory_bytes: What each layer remembers of the tokens before, in one row.
    """

    lines: LINES
    stream_bytes: float
    memory_bytes: Float[np.ndarray, " layer"]

    def front(self, quantity: Quantity, n_rows: int) -> float:
        """Before the first layer."""
        fixed, per_row = self.lines[quantity, :, 0]
        return float(fixed + n_rows * per_row)

    def back(self, quantity: Quantity, n_rows: int) -> float:
        """After the last layer."""
        fixed, per_row = self.lines[quantity, :, -1]
        return float(fixed + n_rows * per_row)

    def layers(self, quantity: Quantity, n_rows: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
        """In every layer, which has that many rows."""
        fixed, per_row = self.lines[quantity, :, 1:-1]
        return np.asarray(fixed + n_rows * per_row)


def fit_lines(one: Float[np.ndarray, "quantity phase"], two: Float[np.ndarray, "quantity phase"]) -> LINES:
    """The lines through what one row and two rows cost; they never fall, and none is below zero at no row."""
    grows = two > 2 * one
    per_row = np.where(grows, two / 2, np.maximum(two - one, 0))
    return np.stack([np.where(grows, 0, one - per_row), per_row], axis=1)


def between(corners: dict[tuple[int, int], SpanCosts], n_before: int, n_own: int) -> SpanCosts:
    """Costs between the corners of a rectangle of (tokens before, own tokens), bilinear.

    Laws: at a corner they are that corner's.

    Args:
        corners: Costs at all pairs out of one or two numbers of tokens before, and one or two of own tokens.
        n_before: How many tokens the rows remember.
        n_own: How many tokens are read.
    """
    weights = {
        (before, own): _weight(before, n_before, [pair[0] for pair in corners])
        * _weight(own, n_own, [pair[1] for pair in corners])
        for before, own in corners
    }
    used = [(weight, corners[pair]) for pair, weight in weights.items() if weight]
    return SpanCosts(
        lines=np.sum([weight * costs.lines for weight, costs in used], axis=0),
        stream_bytes=sum(weight * costs.stream_bytes for weight, costs in used),
        memory_bytes=np.sum([weight * costs.memory_bytes for weight, costs in used], axis=0),
    )


def _weight(corner: int, wanted: int, corners: list[int]) -> float:
    low, high = min(corners), max(corners)
    if low == high:
        return 1.0
    share = (wanted - low) / (high - low)
    return share if corner == high else 1 - share
