"""Form of softmax attention (full, latent, sparse, chunked) of a part, found by changing what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from layertracer.models._anatomy.replay import activations_of
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._calling.hooks import CallRecord, hooking
from layertracer.models._calling.operators import operators_of, sizes_of

_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPart:
    """A part of a layer with its calls in the two probes.

    Attributes:
        smaller: Its call in the shorter probe.
        larger: Its call in the longer probe.
        shape: Where rows and positions are in the longer one.
    """

    smaller: CallRecord
    larger: CallRecord
    shape: StreamShape

    @property
    def module(self) -> nn.Module:
        """The part."""
        return self.larger.module


def selects_positions(part: ObservedPart) -> bool:
    """Whether it picks positions by a top-k: over more entries the longer the prompt, unlike a router of experts."""
    long = sizes_of(operators_of(part.larger), "topk")
    return bool(long) and sizes_of(operators_of(part.smaller), "topk") != long


def is_latent(part: ObservedPart) -> bool:
    """Whether its keys and values come out of a low-rank latent.

    They do where something projects few entries of a position up to many, where what it makes of earlier positions
    reaches the last one (unlike for queries), and where nothing as wide as that comes from the stream directly
    (unlike for an adapter beside a full projection).
    """
    linears = _linears(part.module)
    d_model = max(map(_n_inputs, linears), default=0)
    if not any(_n_inputs(linear) < min(d_model, _n_outputs(linear)) for linear in linears):
        return False
    reaching = [linear for linear in linears if _reaches_last(part, linear)]
    d_model = max(map(_n_inputs, reaching), default=0)
    raised = [_n_outputs(linear) for linear in reaching if _n_inputs(linear) < min(d_model, _n_outputs(linear))]
    direct = [_n_outputs(linear) for linear in reaching if _n_inputs(linear) == d_model]
    return bool(raised) and max(direct, default=0) < max(raised)


def is_chunked(part: ObservedPart) -> bool:
    """Whether positions see their own block only, and not, as in a window, the same number of positions back."""
    clean = _outputs(part, {})
    if clean is None:
        return False
    reach = [0] * part.shape.n_positions
    for changed in range(part.shape.n_positions):
        other = _outputs(part, {index: [changed] for index in _streams(part)})
        assert other is not None  # the same call returned a tensor before
        differences = (other - clean).abs().flatten(2).amax(dim=(0, 2))
        for seen_from in (differences > _TOLERANCE * _scale(clean)).nonzero().flatten().tolist():
            reach[seen_from] = max(reach[seen_from], seen_from - changed)
    return any(later < earlier for earlier, later in pairwise(reach))


def _linears(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if _n_inputs(part) and _n_outputs(part)]


def _n_inputs(linear: nn.Module) -> int:
    return getattr(linear, "in_features", None) or 0


def _n_outputs(linear: nn.Module) -> int:
    return getattr(linear, "out_features", None) or 0


def _reaches_last(part: ObservedPart, linear: nn.Module) -> bool:
    """Whether what a projection makes of earlier positions changes the part's output at the last one."""

    def change(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        del module, args, kwargs
        return _earlier_changed(output, part.shape)

    clean = _outputs(part, {})
    with hooking([linear], after=change):
        other = _outputs(part, {})
    if clean is None or other is None:
        return False
    return bool((other[:, -1] - clean[:, -1]).abs().max() > _TOLERANCE * _scale(clean[:, -1]))


def _streams(part: ObservedPart) -> list[int]:
    """The arguments that have a value for every position."""
    return [index for index, leaf in part.larger.inputs.tensors() if part.shape.activations(leaf) is not None]


def _outputs(part: ObservedPart, changes: Mapping[int, Sequence[int]]) -> Tensor | None:
    """What the part returns, [row, position, …], with some positions of some arguments changed."""
    values = list(part.larger.inputs.values)
    for index, positions in changes.items():
        values[index] = _changed(values[index], part.shape, positions)
    return activations_of(part.larger, part.shape, values)


def _changed(values: Any, shape: StreamShape, positions: Sequence[int]) -> Any:
    """A copy with other values at some positions; the same object where it has none by position."""
    if not isinstance(values, Tensor) or shape.activations(values) is None:
        return values
    copy = values.clone()
    rows = shape.activations(copy)
    assert rows is not None  # a copy has the same shape
    rows[:, list(positions)] = 1 - 3 * rows.flip(0)[:, list(positions)]
    return copy


def _earlier_changed(values: Any, shape: StreamShape) -> Any:
    """A copy of what a projection returns with other values at all positions but the last; heads may come first."""
    if not isinstance(values, Tensor):
        return values
    axes = [axis for axis in range(values.ndim - 1) if values.shape[axis] == shape.n_positions]
    if len(axes) != 1:
        return _changed(values, shape, range(shape.n_positions - 1))
    copy = values.clone()
    rows = copy.movedim(axes[0], 0)
    rows[:-1] = 1 - 3 * rows[:-1].flip(-1)
    return copy


def _scale(values: Tensor) -> Tensor:
    return values.abs().max().clamp(min=1e-12)
