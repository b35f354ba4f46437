"""What one pass of the ladder takes and does, estimated layer by layer from the costs of its span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer.tracing._planning.token_spans import Quantity, SpanCosts

_COPIES_AT_SITE = 4
"""Tensors of the size of a layer's new rows that are alive while they are perturbed inside it."""
_COPIES_LOOKED_AT = 4
"""Of the size of the clean rows that are looked at: their values and their squares in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassShape:
    """Which rows go through a pass.

    Attributes:
        n_prompts: Clean rows.
        n_own: Tokens that are read.
        n_scored: Positions that are kept.
        inside: How many perturbed copies of them come in before each layer runs.
        behind: How many come in after it has run.
        keeps: Whether what is remembered afterwards is wanted; the tail then runs as well.
        sees: Whether the clean rows are looked at.
        n_calls: In how many calls the tokens are read, each as the span's costs say.
    """

    n_prompts: int
    n_own: int
    n_scored: int
    inside: Float[np.ndarray, " layer"]
    behind: Float[np.ndarray, " layer"]
    keeps: bool = False
    sees: bool = False
    n_calls: int = 1

    @property
    def draws(self) -> Float[np.ndarray, " layer"]:
        """How many copies each layer adds."""
        return np.asarray(self.inside + self.behind)

    @property
    def entering(self) -> Float[np.ndarray, " layer"]:
        """Rows that run through each layer."""
        return np.asarray(self.n_prompts * (1 + np.cumsum(self.draws) - self.behind))

    @property
    def leaving(self) -> Float[np.ndarray, " layer"]:
        """Rows that leave each layer."""
        return np.asarray(self.n_prompts * (1 + np.cumsum(self.draws)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Work, apart from the time that it takes.

    Attributes:
        flops: Floating-point operations of products of matrices and attention.
        traffic: Bytes that other operators read and write.
        n_operators: Operators that run.
        n_passes: How often the layers' weights are read.
    """

    flops: float = 0.0
    traffic: float = 0.0
    n_operators: float = 0.0
    n_passes: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        """Both together."""
        return Effort(
            flops=self.flops + other.flops,
            traffic=self.traffic + other.traffic,
            n_operators=self.n_operators + other.n_operators,
            n_passes=self.n_passes + other.n_passes,
        )

    def times(self, number: float) -> Effort:
        """The same work that many times."""
        return Effort(
            flops=number * self.flops,
            traffic=number * self.traffic,
            n_operators=number * self.n_operators,
            n_passes=number * self.n_passes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """What a pass takes.

    Attributes:
        peak_bytes: The most that is live at any time, without what was there before it.
        rows_bytes: What is left of it for the reduction: lens rows and rows.
        memory_bytes: What its rows remember afterwards.
        widest_rows: Rows that leave the last layer.
        effort: Its work.
    """

    peak_bytes: float
    rows_bytes: float
    memory_bytes: float
    widest_rows: int
    effort: Effort


def estimate_pass(costs: SpanCosts, shape: PassShape) -> PassCost:
    """What a pass takes, whose rows are in each layer as many as `shape` says."""
    entering, leaving, stream = shape.entering, shape.leaving, costs.stream_bytes
    n_clean, n_layers = shape.n_prompts, len(shape.draws)
    spread = entering * costs.memory_bytes
    memory = spread + np.maximum(costs.layers(Quantity.KEPT, entering) - entering * stream, 0)
    position = stream / shape.n_own * shape.n_calls
    lens_row = n_clean * shape.n_scored * position
    before = costs.front(Quantity.KEPT, n_clean) - n_clean * stream  # masks and tables, beside the stream itself
    reserved = before + lens_row * np.arange(1, n_layers + 1) + spread
    if shape.keeps:
        reserved = reserved + np.concatenate([[0], np.cumsum(memory)[:-1]])
    if shape.n_calls > 1:  # what the call before left is there until the next one has ended
        before += float(spread.sum())
        reserved = reserved + float(spread.sum())
    peaks = reserved + _inside(costs, shape)
    tops = [costs.front(Quantity.PEAK, n_clean), float(peaks.max())]
    if shape.keeps:
        after = before + float(memory.sum()) + leaving[-1] * stream
        tops.append(after + costs.back(Quantity.PEAK, n_clean))
    n_kept = (1 + n_layers) * n_clean * shape.n_scored + int(leaving[-1]) * shape.n_scored
    return PassCost(
        peak_bytes=max(tops),
        rows_bytes=n_kept * position,
        memory_bytes=float(memory.sum()) if shape.keeps else 0.0,
        widest_rows=int(leaving[-1]),
        effort=_effort(costs, shape),
    )


def clean_row_bytes(costs: SpanCosts, *, n_own: int, n_scored: int) -> float:
    """The most that is live in a pass of one clean row."""
    none = np.zeros(len(costs.memory_bytes))
    shape = PassShape(n_prompts=1, n_own=n_own, n_scored=n_scored, inside=none, behind=none)
    return estimate_pass(costs, shape).peak_bytes


def _inside(costs: SpanCosts, shape: PassShape) -> Float[np.ndarray, " layer"]:
    """The most that is live around and in each layer, beside what is held over all of them."""
    entering, leaving, stream = shape.entering, shape.leaving, costs.stream_bytes
    inside, behind = shape.n_prompts * shape.inside, shape.n_prompts * shape.behind
    n_clean = shape.n_prompts
    around = entering * stream + n_clean * stream  # what goes in, and a copy of the clean rows of it
    looked_at = n_clean * stream * _COPIES_LOOKED_AT if shape.sees else 0.0
    # The caller still holds the stream without the rows that come in before the layer runs.
    around = around + (entering - inside) * stream * (inside > 0)
    at_site = costs.layers(Quantity.KEPT, entering) + np.maximum(
        _COPIES_AT_SITE * inside * stream + looked_at,
        np.maximum((behind + leaving) * stream * (behind > 0), looked_at),
    )
    return np.asarray(around + np.maximum(costs.layers(Quantity.PEAK, entering), at_site))


def _effort(costs: SpanCosts, shape: PassShape) -> Effort:
    entering, stream = shape.entering, costs.stream_bytes
    n_back = shape.n_prompts if shape.keeps else 0
    sums = {
        quantity: costs.front(quantity, shape.n_prompts)
        + float(costs.layers(quantity, entering).sum())
        + (costs.back(quantity, n_back) if n_back else 0.0)
        for quantity in (Quantity.FLOPS, Quantity.TRAFFIC, Quantity.OPERATORS)
    }
    # Each layer's rows are laid out anew where some are added, and what is remembered is given to its rows.
    copied = float((2 * shape.leaving * stream * (shape.draws > 0) + 2 * entering * costs.memory_bytes).sum())
    whole = Effort(
        flops=sums[Quantity.FLOPS],
        traffic=sums[Quantity.TRAFFIC] + copied,
        n_operators=sums[Quantity.OPERATORS],
        n_passes=1,
    )
    return whole.times(shape.n_calls)
