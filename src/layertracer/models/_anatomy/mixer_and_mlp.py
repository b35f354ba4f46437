"""Which part of a layer is its mixer and which is its MLP, found by what they do.

A part mixes where its output at some position changes when only an earlier position of its input
does. Of the parts that have weights, those that mix are the mixer, the others the MLP. Where a layer
has several parts that mix and some of them look back one position only (the token shift of RWKV's
channel mix), those are the MLP. What adds to the stream has the last word: a part that serves
cross-attention alone, or a gate by another input, is neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from layertracer.models._anatomy.additions import Additions, Role
from layertracer.models._calling.hooks import CallRecord
from layertracer.models._calling.operators import OperatorLog
from layertracer.models._calling.pytree import flatten
from layertracer.models._weights.shapes import has_matrix, is_quantised


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a layer with a role.

    Attributes:
        module: The part.
        role: "mixer", "mlp", or "other" where it is neither, e.g. cross-attention.
        reach: How many positions back its output depends on its input: 0, 1, some (2), or all (3).
        has_softmax: Whether it weighs positions by a softmax.
    """

    module: nn.Module
    role: Role
    reach: int
    has_softmax: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where rows and positions are in a model's stream.

    Attributes:
        batch_axis: Axis of the batch.
        position_axis: Axis of the position.
        n_rows: Size of the one.
        n_positions: Size of the other.
    """

    batch_axis: int
    position_axis: int
    n_rows: int
    n_positions: int

    @classmethod
    def of(cls, stream: Tensor, *, batch_axis: int, position_axis: int) -> Layout:
        """The layout of a stream with these axes."""
        return cls(
            batch_axis=batch_axis,
            position_axis=position_axis,
            n_rows=stream.shape[batch_axis],
            n_positions=stream.shape[position_axis],
        )

    def by_position(self, leaf: Tensor) -> Tensor | None:
        """A view as [row, position, …], also where both were flattened into one axis; None for other tensors."""
        if not torch.is_floating_point(leaf):
            return None
        fits = leaf.ndim > max(self.batch_axis, self.position_axis) and leaf.ndim > 2
        if fits and (leaf.shape[self.batch_axis], leaf.shape[self.position_axis]) == (self.n_rows, self.n_positions):
            return leaf.movedim((self.batch_axis, self.position_axis), (0, 1))
        is_flat = leaf.ndim == 2 and leaf.shape[0] == self.n_rows * self.n_positions
        if is_flat and (self.batch_axis, self.position_axis) == (0, 1):
            return leaf.view(self.n_rows, self.n_positions, -1)
        return None

    def by_position_or_head(self, leaf: Tensor) -> Tensor | None:
        """As `by_position`, also for what has an axis of heads between: keys and values of another layer."""
        found = self.by_position(leaf)
        has_heads = found is None and leaf.ndim == 4 and torch.is_floating_point(leaf)
        if has_heads and (leaf.shape[0], leaf.shape[2]) == (self.n_rows, self.n_positions):
            return leaf.transpose(1, 2)
        return found


REACH_NONE, REACH_ONE, REACH_SOME, REACH_ALL = range(4)

_NUDGE = 0.03
"""Share of the way back to its own value by which one of several equal positions is moved: keys stay nearly equal."""
_DAMPINGS = (1.0, 0.1)
"""Factors of the input: scores fall with their squares where nothing norms queries and keys."""


def find_parts(layer: CallRecord, calls: Sequence[CallRecord], *, layout: Layout) -> tuple[Part, ...]:
    """The mixer and the MLP of a layer.

    Args:
        layer: The layer's call in a probe.
        calls: All calls of the probe.
        layout: Where rows and positions are.

    Returns:
        No part at all where one that mixes has no weights: then its projections are parts of their own, and what
        belongs together cannot be told.
    """
    inner = [call for call in calls if call.parent is layer and call.outputs is not None]
    weighty = [call for call in inner if has_matrix(call.module)]
    if len(weighty) == 1 and _is_whole_block(weighty[0], layer):
        return find_parts(weighty[0], calls, layout=layout)
    parts: dict[nn.Module, Part] = {}
    for call in inner:
        reach, has_softmax = _measure_reach(call, layout)
        if reach > REACH_NONE and call not in weighty:
            return ()
        if reach > REACH_NONE:
            parts[call.module] = Part(module=call.module, role="mixer", reach=reach, has_softmax=has_softmax)
        elif call in weighty:
            parts[call.module] = Part(module=call.module, role="mlp", reach=reach, has_softmax=False)
    return _settle(list(parts.values()))


def settle_by_additions(parts: Sequence[Part], additions: Additions) -> tuple[Part, ...]:
    """Parts with the role of the only additions that they serve, where these are not a mixer's."""
    return tuple(_settled_by_additions(part, additions) for part in parts)


def _settled_by_additions(part: Part, additions: Additions) -> Part:
    served = [role for role, modules in additions.served.items() if part.module in modules]
    if len(served) == 1 and served[0] != "mixer":
        return replace(part, role=served[0], has_softmax=False)
    return part


def measure_layer(layer: CallRecord, *, layout: Layout) -> Part | None:
    """A layer as a whole, where it mixes positions; None where it does not.

    For layers in which no part mixes: then the layer's own code does, and what belongs to which part cannot be told.
    """
    reach, has_softmax = _measure_reach(layer, layout)
    if reach == REACH_NONE:
        return None
    return Part(module=layer.module, role="mixer", reach=reach, has_softmax=has_softmax)


def _is_whole_block(part: CallRecord, layer: CallRecord) -> bool:
    """Whether a lone part is the layer under another name: what it returns is what the layer returns."""
    assert part.outputs is not None and layer.outputs is not None  # both calls have ended
    leaving = [leaf for _, leaf in layer.outputs.tensors()]
    return any(leaf is other for _, leaf in part.outputs.tensors() for other in leaving)


def _settle(parts: list[Part]) -> tuple[Part, ...]:
    mixers = [part for part in parts if part.role == "mixer"]
    if any(part.reach > REACH_ONE for part in mixers):
        return tuple(
            Part(module=part.module, role="mlp", reach=part.reach, has_softmax=False)
            if part.role == "mixer" and part.reach == REACH_ONE
            else part
            for part in parts
        )
    return tuple(parts)


def _measure_reach(call: CallRecord, layout: Layout) -> tuple[int, bool]:
    """How far back a part looks, and whether by a softmax.

    Every row is changed up to a position in the middle, each up to another, and all later positions are looked at: what
    the border of a chunk hides in one of them it does not hide in all.
    """
    length = layout.n_positions
    touched = [index for index, leaf in call.inputs.tensors() if layout.by_position_or_head(leaf) is not None]
    if not touched or length < 3:
        return REACH_NONE, False
    # Run again rather than taken from the probe: what a part returned may have been added to in place since.
    before = _replay(call, layout, touched, last_changed=[])
    if before is None:
        return REACH_NONE, False
    # Some quantised maps round all positions by common factors: whatever one holds changes the others a little.
    rounding = 0.05 if is_quantised(call.module) else 1e-5
    last = [min(length // 2 + row, length - 2) for row in range(layout.n_rows)]
    with OperatorLog() as log:
        after = _replay(call, layout, touched, last_changed=last)
    # Other tokens beside it change how experts are batched, hence the rounding of the last one.
    moved = _moved(before, after, tolerance=max(rounding, 8 * torch.finfo(before.dtype).eps))
    reaches = [int(moved[row, at + 1 :].any()) + int(moved[row, at + 2 :].any()) for row, at in enumerate(last)]
    if not any(reaches):
        return REACH_NONE, False
    names = {operator.name for operator in log.operators}
    has_softmax = any("softmax" in name or "scaled_dot_product" in name for name in names)
    first = _replay(call, layout, touched, last_changed=[0] * layout.n_rows)
    sees_first = bool(_moved(before, first, tolerance=rounding)[:, -1].any())
    if sees_first or (has_softmax and _sees_first_evenly(call, layout, touched, tolerance=rounding)):
        return REACH_ALL, has_softmax
    return (REACH_SOME if max(reaches) > 1 else REACH_ONE), has_softmax


def _sees_first_evenly(call: CallRecord, layout: Layout, touched: Sequence[int], *, tolerance: float) -> bool:
    """Whether the last position depends on the first one where a softmax can hardly choose between positions.

    Attention that was trained may be so sharp that a position which it sees weighs less than rounding. Between nearly
    equal positions it cannot choose by what they hold, and between small ones, whose scores are products of small
    numbers, not by their distance either. What then stays at 0 is masked.
    """
    for damping in _DAMPINGS:
        even, nudged = (_evened(call, layout, touched, damping=damping, nudge=nudge) for nudge in (0.0, _NUDGE))
        before, after = (_run(call, layout, values) for values in (even, nudged))
        if before is not None and bool(_moved(before, after, tolerance=tolerance)[:, -1].any()):
            return True
    return False


def _evened(call: CallRecord, layout: Layout, touched: Sequence[int], *, damping: float, nudge: float) -> list[object]:
    """The part's inputs with all positions at their mean, made smaller; the first one moved towards its own value."""
    values = list(call.inputs.values)
    for index in touched:
        if not values[index].is_floating_point():
            continue
        evened = values[index].clone()
        rows, own = (layout.by_position_or_head(leaf) for leaf in (evened, values[index]))
        assert rows is not None and own is not None  # `touched` holds only such leaves
        mean = own.mean(dim=1, keepdim=True)
        rows[:] = damping * mean
        rows[:, :1] += damping * nudge * (own[:, :1] - mean)
        values[index] = evened
    return values


def _replay(call: CallRecord, layout: Layout, touched: Sequence[int], *, last_changed: Sequence[int]) -> Tensor | None:
    """The part's output [row, position, …], with its input replaced up to a position of each row."""
    values = list(call.inputs.values)
    for index in touched:
        replaced = values[index].clone()
        rows, untouched = (layout.by_position_or_head(leaf) for leaf in (replaced, call.inputs.values[index]))
        assert rows is not None and untouched is not None  # `touched` holds only such leaves
        for row, last in enumerate(last_changed):
            rows[row, : last + 1] = 1 - 3 * untouched[row - 1, : last + 1]
        values[index] = replaced
    return _run(call, layout, values)


def _run(call: CallRecord, layout: Layout, values: Sequence[object]) -> Tensor | None:
    """What a part returns for other inputs, [row, position, …]."""
    args, kwargs = call.inputs.rebuilt(values)
    return next(
        (
            rows
            for _, leaf in flatten(call.module(*args, **kwargs)).tensors()
            if (rows := layout.by_position(leaf)) is not None
        ),
        None,
    )


def _moved(before: Tensor, after: Tensor | None, *, tolerance: float) -> Tensor:
    """Where [row, position] two outputs differ."""
    assert after is not None  # the same call returned a tensor before
    gap = (before - after).abs().flatten(2).amax(-1)
    return gap > tolerance * before.abs().max().clamp(min=1e-12)
