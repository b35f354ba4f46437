"""Mixer and MLP of a layer, found among its parts by what they do.

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
from layertracer.models._anatomy.replay import activations_of, change_up_to, moved, rounding_between_positions
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._calling.hooks import CallRecord
from layertracer.models._calling.operators import OperatorLog
from layertracer.models._weights.shapes import has_matrix


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


REACH_NONE, REACH_ONE, REACH_SOME, REACH_ALL = range(4)

_NUDGE = 0.03
"""Share of the way back to its own value by which one of several equal positions is moved: keys stay nearly equal."""
_DAMPINGS = (1.0, 0.1)
"""Factors of the input: scores fall with their squares where nothing norms queries and keys."""


def find_parts(layer: CallRecord, calls: Sequence[CallRecord], *, shape: StreamShape) -> tuple[Part, ...]:
    """The mixer and the MLP of a layer.

    Args:
        layer: The layer's call in a probe.
        calls: All calls of the probe.
        shape: Where rows and positions are.

    Returns:
        No part at all where one that mixes has no weights: then its projections are parts of their own, and what
        belongs together cannot be told.
    """
    inner = [call for call in calls if call.parent is layer and call.outputs is not None]
    weighty = [call for call in inner if has_matrix(call.module)]
    if len(weighty) == 1 and _is_whole_block(weighty[0], layer):
        return find_parts(weighty[0], calls, shape=shape)
    parts: dict[nn.Module, Part] = {}
    for call in inner:
        reach, has_softmax = _measure_reach(call, shape)
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


def measure_layer(layer: CallRecord, *, shape: StreamShape) -> Part | None:
    """A layer as a whole, where it mixes positions; None where it does not.

    For layers in which no part mixes: then the layer's own code does, and what belongs to which part cannot be told.
    """
    reach, has_softmax = _measure_reach(layer, shape)
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


def _measure_reach(call: CallRecord, shape: StreamShape) -> tuple[int, bool]:
    """How far back a part looks, and whether by a softmax.

    Every row is changed up to a position in the middle, each up to another, and all later positions are looked at: what
    the border of a chunk hides in one of them it does not hide in all.
    """
    touched = [index for index, leaf in call.inputs.tensors() if shape.activations_or_heads(leaf) is not None]
    if not touched or shape.n_positions < 3:
        return REACH_NONE, False
    # Run again rather than taken from the probe: what a part returned may have been added to in place since.
    before = _replay(call, shape, touched, last_changed=[])
    if before is None:
        return REACH_NONE, False
    rounding, last = rounding_between_positions(call.module), shape.last_changed
    with OperatorLog() as log:
        after = _replay(call, shape, touched, last_changed=last)
    # Other tokens beside it change how experts are batched, hence the rounding of the last one.
    reached = _moved(before, after, tolerance=max(rounding, 8 * torch.finfo(before.dtype).eps))
    reaches = [int(reached[row, at + 1 :].any()) + int(reached[row, at + 2 :].any()) for row, at in enumerate(last)]
    if not any(reaches):
        return REACH_NONE, False
    names = {operator.name for operator in log.operators}
    has_softmax = any("softmax" in name or "scaled_dot_product" in name for name in names)
    first = _replay(call, shape, touched, last_changed=[0] * shape.n_rows)
    sees_first = bool(_moved(before, first, tolerance=rounding)[:, -1].any())
    if sees_first or (has_softmax and _sees_first_evenly(call, shape, touched, tolerance=rounding)):
        return REACH_ALL, has_softmax
    return (REACH_SOME if max(reaches) > 1 else REACH_ONE), has_softmax


def _sees_first_evenly(call: CallRecord, shape: StreamShape, touched: Sequence[int], *, tolerance: float) -> bool:
    """Whether the last position depends on the first one where a softmax can hardly choose between positions.

    Attention that was trained may be so sharp that a position which it sees weighs less than rounding. Between nearly
    equal positions it cannot choose by what they hold, and between small ones, whose scores are products of small
    numbers, not by their distance either. What then stays at 0 is masked.
    """
    for damping in _DAMPINGS:
        even, nudged = (_evened(call, shape, touched, damping=damping, nudge=nudge) for nudge in (0.0, _NUDGE))
        before, after = (activations_of(call, shape, values) for values in (even, nudged))
        if before is not None and bool(_moved(before, after, tolerance=tolerance)[:, -1].any()):
            return True
    return False


def _evened(
    call: CallRecord, shape: StreamShape, touched: Sequence[int], *, damping: float, nudge: float
) -> list[object]:
    """The part's inputs with all positions at their mean, made smaller; the first one moved towards its own value."""
    values = list(call.inputs.values)
    for index in touched:
        if not values[index].is_floating_point():
            continue
        evened = values[index].clone()
        rows, own = (shape.activations_or_heads(leaf) for leaf in (evened, values[index]))
        assert rows is not None and own is not None  # `touched` holds only such leaves
        mean = own.mean(dim=1, keepdim=True)
        rows[:] = damping * mean
        rows[:, :1] += damping * nudge * (own[:, :1] - mean)
        values[index] = evened
    return values


def _replay(
    call: CallRecord, shape: StreamShape, touched: Sequence[int], *, last_changed: Sequence[int]
) -> Tensor | None:
    """The part's output [row, position, …], with its input replaced up to a position of each row."""
    values = list(call.inputs.values)
    for index in touched:
        values[index] = values[index].clone()
        rows = shape.activations_or_heads(values[index])
        assert rows is not None  # `touched` holds only such leaves
        change_up_to(rows, last_changed)
    return activations_of(call, shape, values)


def _moved(before: Tensor, after: Tensor | None, *, tolerance: float) -> Tensor:
    """Where [row, position] two outputs differ."""
    assert after is not None  # the same call returned a tensor before
    return moved(before, after, tolerance=tolerance)
