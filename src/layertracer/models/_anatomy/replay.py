"""Replay of a layer: run again on what it was given in a probe, or on something else, and looked at inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._anatomy.dataflow import FlowRecorder, Value, has_stream_shape, operand_tensors
from layertracer.models._anatomy.op_sites import OpSite, OpSites
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._anatomy.wiring import Wiring
from layertracer.models._calling.hooks import CallRecord, call_again
from layertracer.models._calling.pytree import cloned, flatten
from layertracer.models._weights.shapes import is_quantised

Operand = tuple[OpSite, int]
"""An operator's site, and which of its operands."""


class _Watch(TorchDispatchMode):
    """Looks at operands at given sites, and puts some of them back to what they were."""

    def __init__(
        self, shape: StreamShape, op_sites: OpSites, wanted: set[Operand], clean: Mapping[Operand, Tensor]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._shape, self._op_sites, self._clean = shape, op_sites, clean
        self._wanted: dict[OpSite, list[int]] = {}
        for op_site, operand in wanted:
            self._wanted.setdefault(op_site, []).append(operand)
        self.seen: dict[Operand, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = operand_tensors(args, kwargs)
        if not has_stream_shape(self._shape, tensors):
            return func(*args, **kwargs)
        op_site = self._op_sites.next(func._schema.name)
        for operand in self._wanted.get(op_site, ()):
            self.seen[op_site, operand] = tensors[operand].clone()
            if (op_site, operand) in self._clean:
                args, kwargs = self._restored(func, args, kwargs, op_site=op_site, operand=operand)
        return func(*args, **kwargs)

    def _restored(self, func: Any, args: Any, kwargs: Any, *, op_site: OpSite, operand: int) -> tuple[Any, Any]:
        """An operator's arguments with one put back; what it writes to is put back itself, since it is read later."""
        leaves, clean = flatten((args, kwargs)), self._clean[op_site, operand]
        index, tensor = leaves.tensors()[operand]
        if operand == 0 and func._schema.is_mutable:
            tensor.copy_(clean)
            return args, kwargs
        changed: tuple[Any, Any] = leaves.replaced(index, clean.clone())
        return changed


def change_up_to(rows: Tensor, last_changed: Sequence[int]) -> None:
    """Other values in [row, position, …] up to a last position of each row, in place: made of another row's."""
    untouched = rows.clone()
    for row, last in enumerate(last_changed):
        rows[row, : last + 1] = 1 - 3 * untouched[row - 1, : last + 1]


def activations_of(call: CallRecord, shape: StreamShape, values: Sequence[Any]) -> Tensor | None:
    """What a part returns for other inputs, [row, position, …]; None where it returns nothing by position."""
    leaves = call_again(call.module, call.inputs, values).tensors()
    return next((rows for _, leaf in leaves if (rows := shape.activations(leaf)) is not None), None)


def rounding_between_positions(module: nn.Module) -> float:
    """How much of one position reaches others by rounding alone, relatively.

    Some quantised maps round all positions by common factors: whatever one holds changes the others a little.
    """
    return 0.05 if is_quantised(module) else 1e-5


def moved(before: Tensor, after: Tensor, *, tolerance: float) -> Tensor:
    """Where [row, position] two tensors differ by more than a share of the largest entry."""
    difference = (before - after).abs()
    if difference.ndim > 2:
        difference = difference.flatten(2).amax(-1)
    return difference > tolerance * before.abs().max().clamp(min=1e-12)


@dataclass(slots=True, kw_only=True)
class Trials:
    """Runs the layer on what it was given in a probe, or on something else."""

    layer: CallRecord
    wiring: Wiring
    shape: StreamShape

    def record(self) -> tuple[Value, OpSites]:
        """What leaves the layer, with how it came about, and where."""
        recorder = FlowRecorder(self.layer.module, self.shape)
        values = cloned(self.layer.inputs.values)
        recorder.begin(
            [(index, value) for index, value in enumerate(values) if isinstance(value, Tensor)],
            stream=self.wiring.stream_in,
        )
        with recorder.recording():
            output = call_again(self.layer.module, self.layer.inputs, values)
        return recorder.value_of(output.values[self.wiring.stream_out]), recorder.op_sites

    def look(
        self, values: Sequence[Any], wanted: set[Operand], clean: Mapping[Operand, Tensor]
    ) -> dict[Operand, Tensor]:
        """What some operands are when the layer is given `values`, with `clean` put back after each look."""
        module = self.layer.module
        op_sites = OpSites(module)
        watch = _Watch(self.shape, op_sites, wanted, clean)
        with op_sites.following(part for part in module.modules() if part is not module), watch:
            call_again(module, self.layer.inputs, cloned(values))
        return watch.seen

    def changed_values(self) -> list[Any]:
        """The layer's arguments, with each row changed up to a position in all that has positions."""
        values = list(self.layer.inputs.values)
        for index, leaf in self._inputs():
            axis = self.wiring.batch_axis if index == self.wiring.stream_in else self.wiring.inputs[index].axis  # type: ignore[union-attr]  # _inputs has seen to it
            length = self.shape.n_positions
            along = self.wiring.position_axis if index == self.wiring.stream_in else _axis_of(leaf, axis, length)
            if along is not None:
                values[index] = leaf.clone()
                change_up_to(values[index].movedim((axis, along), (0, 1)), self.shape.last_changed)
        return values

    def without_others(self, others: frozenset[int], *, stream: Tensor) -> list[Any]:
        """The layer's arguments with some of them zero, and with another stream."""
        values = list(self.layer.inputs.values)
        for index in others:
            values[index] = torch.zeros_like(values[index])
        values[self.wiring.stream_in] = stream
        return values

    def others(self) -> frozenset[int]:
        """Inputs by row beside the stream that hold numbers: an encoder's states, embeddings of the tokens."""
        return frozenset(index for index, _ in self._inputs() if index != self.wiring.stream_in)

    def _inputs(self) -> list[tuple[int, Tensor]]:
        """The tensors by row among the arguments, masks excepted."""
        return [
            (index, leaf)
            for index, leaf in self.layer.inputs.tensors()
            if index == self.wiring.stream_in
            or (
                leaf.is_floating_point()
                and leaf.ndim >= 3
                and (axis := self.wiring.inputs[index]) is not None
                and axis.per_row == 1
                and bool((leaf.abs() < 1e4).all())
            )
        ]


def _axis_of(leaf: Tensor, batch_axis: int, length: int) -> int | None:
    return next((axis for axis, size in enumerate(leaf.shape[:-1]) if axis != batch_axis and size == length), None)
