"""Which part of a layer is its mixer and which is its MLP, found by what they do.

A part mixes where its output at the last position changes when only earlier positions of its input
do. Of the parts that have weights, those that mix are the mixer, the others the MLP. Where a layer
has several parts that mix and some of them look back one position only (the token shift of RWKV's
channel mix), those are the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._observe import CallRecord
from layertracer.models._pytree import Leaves, take_apart

Role = Literal["mixer", "mlp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a layer with a role.

    Attributes:
        module: The part.
        role: "mixer" or "mlp".
        reach: How many positions back its output depends on its input: 0, 1, some (2) or all (3).
        has_softmax: Whether it weighs positions by a softmax.
    """

    module: nn.Module
    role: Role
    reach: int
    has_softmax: bool


REACH_NONE, REACH_ONE, REACH_SOME, REACH_ALL = range(4)


def find_parts(layer: CallRecord, calls: Sequence[CallRecord], *, stream: Tensor) -> tuple[Part, ...]:
    """The mixer and the MLP of a layer.

    Args:
        layer: The layer's call in a probe.
        calls: All calls of the probe.
        stream: The stream that entered the layer, [batch, position, width] in the model's own order of axes.
    """
    inner = [call for call in calls if call.parent is layer and call.outputs is not None]
    weighty = [call for call in inner if any(parameter.ndim >= 2 for parameter in call.module.parameters())]
    if len(weighty) == 1 and _is_whole_block(weighty[0], layer):
        return find_parts(weighty[0], calls, stream=stream)
    parts: dict[nn.Module, Part] = {}
    for call in inner:
        reach, has_softmax = _measure_reach(call, stream)
        if reach > REACH_NONE:
            parts[call.module] = Part(module=call.module, role="mixer", reach=reach, has_softmax=has_softmax)
        elif call in weighty:
            parts[call.module] = Part(module=call.module, role="mlp", reach=reach, has_softmax=False)
    return _settle(list(parts.values()))


def measure_layer(layer: CallRecord, *, stream: Tensor) -> Part | None:
    """A layer as a whole, where it mixes positions; None where it does not.

    For layers in which no part mixes: then the layer's own code does, and what belongs to which part cannot be told.
    """
    reach, has_softmax = _measure_reach(layer, stream)
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


class _OperatorNames(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def _measure_reach(call: CallRecord, stream: Tensor) -> tuple[int, bool]:
    """How far back the last position of a part looks, and whether by a softmax."""
    length = stream.shape[1] if stream.ndim == 3 else 0
    touched = [index for index, leaf in call.inputs.tensors() if _by_position(leaf, stream) is not None]
    if not touched or length < 3:
        return REACH_NONE, False
    # Run again rather than taken from the probe: what a part returned may have been added to in place since.
    before = _replay(call, stream, touched, n_changed=0)
    if before is None:
        return REACH_NONE, False

    def reaches(n_first: int) -> bool:
        """Whether the last position depends on the first ones."""
        return _differs(before, _replay(call, stream, touched, n_changed=n_first))

    with _OperatorNames() as operators:
        if not reaches(length - 1):
            return REACH_NONE, False
    has_softmax = any("softmax" in name or "scaled_dot_product" in name for name in operators.names)
    if reaches(1):
        return REACH_ALL, has_softmax
    return (REACH_SOME if reaches(length - 2) else REACH_ONE), has_softmax


def _replay(call: CallRecord, stream: Tensor, touched: Sequence[int], *, n_changed: int) -> Tensor | None:
    """The part's output at the last position, with its input at the first positions replaced."""
    values = list(call.inputs.values)
    for index in touched:
        replaced = values[index].clone()
        rows = _by_position(replaced, stream)
        assert rows is not None  # `touched` holds only such leaves
        rows[:, :n_changed] = rows.flip(0)[:, :n_changed] + 0.5
        values[index] = replaced
    args, kwargs = call.inputs.rebuilt(values)
    return _last_position(take_apart(call.module(*args, **kwargs)), stream)


def _last_position(output: Leaves, stream: Tensor) -> Tensor | None:
    """What a part returns at the last position; None where it returns nothing by position."""
    for _, leaf in output.tensors():
        rows = _by_position(leaf, stream)
        if rows is not None:
            return rows[:, -1]
    return None


def _by_position(leaf: Tensor, stream: Tensor) -> Tensor | None:
    """A view of `leaf` as [batch, position, …], also where batch and position were flattened into one axis."""
    if not torch.is_floating_point(leaf) or leaf.ndim < 2:
        return None
    if leaf.shape[:2] == stream.shape[:2] and leaf.ndim > 2:
        return leaf
    if leaf.shape[0] == stream.shape[0] * stream.shape[1] and leaf.ndim == 2:
        return leaf.view(stream.shape[0], stream.shape[1], -1)
    return None


def _differs(one: Tensor, other: Tensor | None) -> bool:
    assert other is not None  # the same call returned a tensor before
    scale = one.abs().max().clamp(min=1e-12)
    return bool((one - other).abs().max() > 1e-5 * scale)
