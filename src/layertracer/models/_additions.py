"""What a layer's branches add to its stream, and which of them is the mixer's, found by what they do.

The layer runs once and its dataflow is recorded. An addition is where a branch, something computed
from the stream by matrices, is added to the trunk, which leads from the stream that enters to the
stream that leaves. Then the layer runs with its input changed up to some position, and with every
branch put back to what it was once it has been looked at, so that none reaches the next: a branch
that changes at a later position is the mixer's. One that says nothing about the stream without another
input (an encoder's states, an embedding of the token) belongs to neither site. The others are the
MLP's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._dataflow import (
    ADDITIONS,
    FACTORS,
    FlowRecorder,
    Join,
    Operation,
    Value,
    behind_matrices,
    branch_of,
    has_stream_shape,
    joins_of,
    operand_tensors,
)
from layertracer.models._observe import CallRecord
from layertracer.models._places import Place, Places, StreamShape
from layertracer.models._pytree import take_apart
from layertracer.models._weights import is_quantised
from layertracer.models._wiring import Wiring

Role = Literal["mixer", "mlp", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Where a branch adds to the stream.

    Attributes:
        place: Where the two are added.
        operand: Which of the two is the branch.
        role: Whose branch it is; "other" where it is neither the mixer's nor the MLP's.
    """

    place: Place
    operand: int
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """What the branches of a layer add to its stream.

    Attributes:
        found: The additions.
        modules: Modules whose calls must be told apart to find them again.
        counts: How many additions of the stream's shape each call ran in which one was found.
        unclear: For a role whose additions cannot be told, why.
        gates: Modules from which factors of the stream itself were computed.
        shift: How many positions its MLP looks back, by a token shift or a short convolution.
        served: For each role, the modules inside which its branches were computed.
    """

    found: tuple[Addition, ...] = ()
    modules: tuple[nn.Module, ...] = ()
    counts: Mapping[tuple[nn.Module, int], int] = field(default_factory=dict)
    unclear: Mapping[Role, str] = field(default_factory=dict)
    gates: frozenset[nn.Module] = frozenset()
    shift: int = 0
    served: Mapping[Role, frozenset[nn.Module]] = field(default_factory=dict)

    def of(self, role: Role) -> tuple[Addition, ...]:
        """The additions of one role."""
        return tuple(addition for addition in self.found if addition.role == role)


def find_additions(layer: CallRecord, wiring: Wiring) -> Additions:
    """The additions of a layer, from its call in a probe of several rows and positions."""
    stream = layer.inputs.values[wiring.stream_in]
    shape = StreamShape(shape=stream.shape, batch_axis=wiring.batch_axis, position_axis=wiring.position_axis)
    bench = _Bench(layer=layer, wiring=wiring, shape=shape)
    leaving, places = bench.record()
    if not leaving.on_trunk:
        reason = "its stream does not lead through it: what leaves it is computed by matrices alone"
        return Additions(unclear={"mixer": reason, "mlp": reason})
    return _Judge(bench, joins_of(leaving), places).additions()


# ---------------------------------------------------------------- running the layer

_Piece = tuple[Operation, int]
_Spot = tuple[Place, int]
"""A place and one of its operands."""


class _Watch(TorchDispatchMode):
    """Looks at operands at given places, and puts some of them back to what they were."""

    def __init__(self, shape: StreamShape, places: Places, wanted: set[_Spot], clean: Mapping[_Spot, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._shape, self._places, self._clean = shape, places, clean
        self._wanted: dict[Place, list[int]] = {}
        for place, operand in wanted:
            self._wanted.setdefault(place, []).append(operand)
        self.seen: dict[_Spot, Tensor] = {}

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
        leaves, clean = take_apart((args, kwargs)), self._clean[place, operand]
        index, tensor = leaves.tensors()[operand]
        if operand == 0 and func._schema.is_mutable:
            tensor.copy_(clean)
            return args, kwargs
        changed: tuple[Any, Any] = leaves.replaced(index, clean.clone())
        return changed


@dataclass(slots=True, kw_only=True)
class _Bench:
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
            output = take_apart(self.layer.module(*args, **kwargs))
        return recorder.value_of(output.values[self.wiring.stream_out]), recorder.places

    def look(self, values: Sequence[Any], wanted: set[_Spot], clean: Mapping[_Spot, Tensor]) -> dict[_Spot, Tensor]:
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


# ---------------------------------------------------------------- judging

_SHORT = 3
"""Positions that a token shift or a short convolution reaches back. A branch that reaches no farther, beside one that
does, is no mixer."""


@dataclass(slots=True)
class _Judge:
    """Says of every join whose it is."""

    bench: _Bench
    joins: list[Join]
    places: Places
    clean: dict[_Spot, Tensor] = field(init=False, default_factory=dict)
    changed: dict[_Spot, Tensor] = field(init=False, default_factory=dict)
    short: int = field(init=False, default=0)

    def additions(self) -> Additions:
        """All of it."""
        unclear: dict[Role, str] = {}
        spots = self._collect()
        added = [join for join in self.joins if self._is_addition(join)]
        restored = {_spot(join.operation, join.operand) for join in added}
        self.changed = self.bench.look(
            self.bench.changed_values(), set(spots), {spot: self.clean[spot] for spot in restored}
        )
        reaches = [self._reach(join.operation, join.operand) for join in added]
        if None in reaches:
            unclear["mixer"] = unclear["mlp"] = "what a branch adds cannot be seen again in a second run"
            return Additions(unclear=unclear)
        self.short = _SHORT if any(reach is not None and reach > _SHORT for reach in reaches) else 0
        gates = {
            module
            for join in self.joins
            if join not in added and self._is_factor(join, unclear)
            for module in _modules_of(join.value)
        }
        pieces = [piece for join in added for piece in self._pieces(join.operation, join.operand, unclear)]
        return self._assembled(pieces, unclear, frozenset(gates))

    def _assembled(
        self, pieces: Sequence[_Piece], unclear: Mapping[Role, str], gates: frozenset[nn.Module]
    ) -> Additions:
        found = [self._judge(*piece) for piece in pieces]
        served: dict[Role, frozenset[nn.Module]] = {}
        for addition, (operation, operand) in zip(found, pieces, strict=True):
            modules = _modules_of(operation.operands[operand])
            served[addition.role] = served.get(addition.role, frozenset()) | modules
        owners = {addition.place.module for addition in found}
        calls = {(addition.place.module, addition.place.call) for addition in found}
        return Additions(
            found=tuple(found),
            modules=tuple(
                module for module, callers in self.places.callers.items() if module in owners or callers & owners
            ),
            counts={call: sum(self.places.counts[call][name] for name in ADDITIONS) for call in calls},
            unclear=unclear,
            gates=gates,
            shift=max(
                (self._reach(*piece) or 0 for one, piece in zip(found, pieces, strict=True) if one.role == "mlp"),
                default=0,
            ),
            served=served,
        )

    def _collect(self) -> list[_Spot]:
        """Every operand worth a look: what joins the trunk, and what was added up into it before."""
        operations = {id(join.operation): join.operation for join in self.joins}
        for join in self.joins:
            for value in behind_matrices(join.value):
                if value.operation is not None:
                    operations[id(value.operation)] = value.operation
        for operation in operations.values():
            for operand, tensor in enumerate(operation.tensors):
                if tensor is not None and operation.place is not None:
                    self.clean[operation.place, operand] = tensor
        return list(self.clean)

    def _reach(self, operation: Operation, operand: int) -> int | None:
        """How many positions on an operand still changes with the stream; None where that cannot be measured."""
        if operation.place is None:
            return None
        spot = _spot(operation, operand)
        if spot not in self.changed or spot not in self.clean:
            return None
        moved = self._differences(self.clean[spot], self.changed[spot])
        if moved is None:
            return None
        last = [self.bench.last_changed(row) for row in range(self.bench.n_rows)]
        reached = [position - last[row] for row, position in moved.nonzero().tolist() if position > last[row]]
        return max(reached, default=0)

    def _mixes(self, operation: Operation, operand: int) -> bool | None:
        """Whether an operand is the mixer's; None where that cannot be measured."""
        reach = self._reach(operation, operand)
        return None if reach is None else reach > self.short

    def _differences(self, clean: Tensor, changed: Tensor) -> Tensor | None:
        """Where [row, position] two values differ."""
        one, other = self.bench.shape.by_position(clean), self.bench.shape.by_position(changed)
        if one is None or other is None or one.shape != other.shape:
            return None
        if not one.is_floating_point():
            return (one != other).flatten(2).any(-1) if one.ndim > 2 else one != other
        gap = (one - other).abs().flatten(2).amax(-1) if one.ndim > 2 else (one - other).abs()
        rounding = 0.05 if is_quantised(self.bench.layer.module) else 1e-5  # by factors common to all positions
        tolerance = max(rounding, 8 * torch.finfo(clean.dtype).eps)  # experts batch other tokens together, and round so
        return gap > tolerance * one.abs().max().clamp(min=1e-12)

    def _is_addition(self, join: Join) -> bool:
        """Whether a branch is added to the trunk there."""
        operation, tensor = join.operation, join.operation.tensors[join.operand]
        return (
            operation.is_addition
            and operation.place is not None
            and operation.operands[1 - join.operand].on_trunk
            and tensor is not None
            and self.bench.shape.view(tensor) is not None
        )

    def _pieces(self, operation: Operation, operand: int, unclear: dict[Role, str]) -> list[_Piece]:
        """The branches of which a sum that joins the trunk was made, where they differ in kind."""
        value = operation.operands[operand]
        for inner in behind_matrices(value):
            inside = inner.operation
            if inside is None or not inside.is_addition or inside.passes_matrix:
                continue
            live = [which for which, one in enumerate(inside.operands) if one.is_live and not one.on_trunk]
            mixes = [self._mixes(inside, which) for which in live]
            if set(mixes) == {True, False}:
                if _is_copy_of(value, inner):
                    return [piece for which in live for piece in self._pieces(inside, which, unclear)]
                reason = "mixer and MLP are added up and changed together before they are added to the stream"
                unclear["mixer"] = unclear["mlp"] = reason
        return [(operation, operand)]

    def _is_factor(self, join: Join, unclear: dict[Role, str]) -> bool:
        """Whether a join that is no addition is a factor of the stream at its own position."""
        mixes = self._mixes(join.operation, join.operand)
        if mixes is False and join.operation.name in FACTORS:
            return True
        roles: tuple[Role, ...] = ("mixer", "mlp") if mixes is None else ("mixer",) if mixes else ("mlp",)
        for role in roles:
            name = join.operation.name.removeprefix("aten::")
            unclear[role] = f"its branch meets the stream by {name!r}, not by an addition"
        return False

    def _judge(self, operation: Operation, operand: int) -> Addition:
        assert operation.place is not None  # additions are of the stream's shape
        addition = Addition(place=operation.place, operand=operand, role="mlp")
        if self._is_of_another_input(operation, operand):
            return replace(addition, role="other")
        return replace(addition, role="mixer") if self._mixes(operation, operand) else addition

    def _is_of_another_input(self, operation: Operation, operand: int) -> bool:
        """Whether a branch says nothing about the stream once the layer's other inputs are silent."""
        spot, branch = _spot(operation, operand), branch_of(operation.operands[operand])
        if any(value.operation is not None and value.operation.embeds_tokens for value in branch):
            return True
        if not any(value.on_trunk for value in branch):
            return True
        others = self.bench.others() & {value.leaf for value in branch if value.leaf is not None}
        if self._mixes(operation, operand) or not others:
            return False
        stream = self.bench.layer.inputs.values[self.bench.wiring.stream_in]
        restored = {_spot(join.operation, join.operand) for join in self.joins if self._is_addition(join)}
        clean = {one: self.clean[one] for one in restored}
        silent = [
            self.bench.look(self.bench.without_others(others, stream=one), {spot} | restored, clean)[spot]
            for one in (stream, 1 - 3 * stream.flip(self.bench.wiring.batch_axis))
        ]
        differences = self._differences(*silent)
        return differences is not None and not bool(differences.any())


def _spot(operation: Operation, operand: int) -> _Spot:
    assert operation.place is not None  # only such operations are looked at
    return operation.place, operand


def _modules_of(value: Value) -> frozenset[nn.Module]:
    """The modules inside which a branch was computed, the layer itself excepted."""
    return frozenset(module for one in branch_of(value) if not one.on_trunk for module in one.modules[1:])


def _is_copy_of(value: Value, inner: Value) -> bool:
    """Whether a value is another one, up to copies."""
    while value is not inner:
        if value.operation is None or not value.operation.is_copy:
            return False
        value = value.operation.operands[0]
    return True
