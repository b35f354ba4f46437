"""A layer run again on what it was given in a probe, or on something else, and looked at inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._anatomy.dataflow import FlowRecorder, Value, has_stream_shape, operand_tensors
from layertracer.models._anatomy.op_sites import Place, Places, StreamShape
from layertracer.models._anatomy.wiring import Wiring
from layertracer.models._calling.hooks import CallRecord
from layertracer.models._calling.pytree import flatten

Spot = tuple[Place, int]
"""A place and one of its operands."""


class _Watch(TorchDispatchMode):
    """Looks at operands at given places, and puts some of them back to what they were."""

    def __init__(self, shape: StreamShape, places: Places, wanted: set[Spot], clean: Mapping[Spot, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._shape, self._places, self._clean = shape, places, clean
        self._wanted: dict[Place, list[int]] = {}
        for place, operand in wanted:
            self._wanted.setdefault(place, []).append(operand)
        self.seen: dict[Spot, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = operand_tensors(args, kwargs)
        if not has_stream_shape(self._shape, tensors):
            return func(*args, **kwargs)
        place = self._places.next(func._schema.name)
        for operand in self._wanted.get(place, ()):
            self.seen[place, operand] = tensors[operand].clone()
            if (place, operand) in self._clean:
                args, kwargs = self._restored(func, args, kwargs, place=place, operand=operand)
        return func(*args, **kwargs)

    def _restored(self, func: Any, args: Any, kwargs: Any, *, place: Place, operand: int) -> tuple[Any, Any]:
        """An operator's arguments with one put back; what it writes to is put back itself, since it is read later."""
        leaves, clean = flatten((args, kwargs)), self._clean[place, operand]
        index, tensor = leaves.tensors()[operand]
        if operand == 0 and func._schema.is_mutable:
            tensor.copy_(clean)
            return args, kwargs
        changed: tuple[Any, Any] = leaves.replaced(index, clean.clone())
        return changed


@dataclass(slots=True, kw_only=True)
class Trials:
    """Runs the layer on what it was given in a probe, or on something else."""

    layer: CallRecord
    wiring: Wiring
    shape: StreamShape

    def record(self) -> tuple[Value, Places]:
        """What leaves the layer, with how it came about, and where."""
        recorder = FlowRecorder(self.layer.module, self.shape)
        values = self._fresh(self.layer.inputs.values)
        recorder.begin(
            [(index, value) for index, value in enumerate(values) if isinstance(value, Tensor)],
            stream=self.wiring.stream_in,
        )
        args, kwargs = self.layer.inputs.rebuilt(values)
        with recorder.recording():
            output = flatten(self.layer.module(*args, **kwargs))
        return recorder.value_of(output.values[self.wiring.stream_out]), recorder.places

    def look(self, values: Sequence[Any], wanted: set[Spot], clean: Mapping[Spot, Tensor]) -> dict[Spot, Tensor]:
        """What stands at some places when the layer is given `values`, with `clean` put back after each look."""
        module = self.layer.module
        places = Places(module)
        watch = _Watch(self.shape, places, wanted, clean)
        args, kwargs = self.layer.inputs.rebuilt(self._fresh(values))
        with places.following(part for part in module.modules() if part is not module), watch:
            module(*args, **kwargs)
        return watch.seen

    def _fresh(self, values: Sequence[Any]) -> list[Any]:
        """Copies, since a layer may add to what it is given in place."""
        return [value.clone() if isinstance(value, Tensor) else value for value in values]

    @property
    def n_rows(self) -> int:
        return self.shape.shape[self.shape.batch_axis]

    @property
    def n_positions(self) -> int:
        return self.shape.shape[self.shape.position_axis]

    def last_changed(self, row: int) -> int:
        """The position up to which a row is changed: another one in each, in the middle."""
        return min(self.n_positions // 2 + row, self.n_positions - 2)

    def changed_values(self) -> list[Any]:
        """The layer's arguments, with each row changed up to a position in all that has positions."""
        values = list(self.layer.inputs.values)
        for index, leaf in self._inputs():
            axis = self.wiring.batch_axis if index == self.wiring.stream_in else self.wiring.inputs[index].axis  # type: ignore[union-attr]  # _inputs has seen to it
            length = self.n_positions
            along = self.wiring.position_axis if index == self.wiring.stream_in else _axis_of(leaf, axis, length)
            if along is not None:
                values[index] = self._changed(leaf.movedim((axis, along), (0, 1))).movedim((0, 1), (axis, along))
        return values

    def _changed(self, rows: Tensor) -> Tensor:
        changed = rows.clone()
        for row in range(self.n_rows):
            first = slice(0, self.last_changed(row) + 1)
            changed[row, first] = 1 - 3 * rows[row - 1, first]
        return changed

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
