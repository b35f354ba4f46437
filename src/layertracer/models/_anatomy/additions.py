"""Additions to the residual stream by a layer's mixer and MLP, told apart by what they do.

The layer runs once and its dataflow is recorded. An addition is where a branch, something computed
from the stream by matrices, is added to the residual path, which leads from the stream that enters
to the stream that leaves. Then the layer runs with its input changed up to some position, and with every
branch put back to what it was once it has been looked at, so that none reaches the next: a branch
that changes at a later position is the mixer's. One that says nothing about the stream without another
input (an encoder's states, an embedding of the token) belongs to neither site. The others are the
MLP's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from layertracer.models._anatomy.dataflow import (
    ADDITIONS,
    FACTORS,
    Operation,
    PathEntry,
    Value,
    behind_matrices,
    branch_of,
    entries_on_path,
)
from layertracer.models._anatomy.op_sites import OpSite, OpSites
from layertracer.models._anatomy.replay import Operand, Trials, moved, rounding_between_positions
from layertracer.models._anatomy.stream_shape import StreamShape
from layertracer.models._anatomy.wiring import Wiring
from layertracer.models._calling.hooks import CallRecord

Role = Literal["mixer", "mlp", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Where a branch adds to the stream.

    Attributes:
        op_site: Where the two are added.
        operand: Which of the two is the branch.
        role: Whose branch it is; "other" where it is neither the mixer's nor the MLP's.
    """

    op_site: OpSite
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
    shape = StreamShape.of(layer.inputs.values[wiring.stream_in], wiring)
    trials = Trials(layer=layer, wiring=wiring, shape=shape)
    leaving, op_sites = trials.record()
    if not leaving.on_path:
        reason = "its stream does not lead through it: what leaves it is computed by matrices alone"
        return Additions(unclear={"mixer": reason, "mlp": reason})
    return _Judge(trials, entries_on_path(leaving), op_sites).additions()


_SHORT = 3
"""Positions that a token shift or a short convolution reaches back. A branch that reaches no farther, beside one that
does, is no mixer."""

_Piece = tuple[Operation, int]
"""An operation and one of its operands."""


@dataclass(slots=True)
class _Judge:
    """Says of every entry into the residual path whose it is."""

    trials: Trials
    entries: list[PathEntry]
    op_sites: OpSites
    clean: dict[Operand, Tensor] = field(init=False, default_factory=dict)
    changed: dict[Operand, Tensor] = field(init=False, default_factory=dict)
    short: int = field(init=False, default=0)

    def additions(self) -> Additions:
        """What all branches add, and why some of it cannot be told."""
        unclear: dict[Role, str] = {}
        looked_at = self._collect()
        added = [entry for entry in self.entries if self._is_addition(entry)]
        restored = {_key(entry.operation, entry.operand) for entry in added}
        self.changed = self.trials.look(
            self.trials.changed_values(), set(looked_at), {key: self.clean[key] for key in restored}
        )
        reaches = [self._reach(entry.operation, entry.operand) for entry in added]
        if None in reaches:
            unclear["mixer"] = unclear["mlp"] = "what a branch adds cannot be seen again in a second run"
            return Additions(unclear=unclear)
        self.short = _SHORT if any(reach is not None and reach > _SHORT for reach in reaches) else 0
        gates = {
            module
            for entry in self.entries
            if entry not in added and self._is_factor(entry, unclear)
            for module in _modules_of(entry.value)
        }
        pieces = [piece for entry in added for piece in self._pieces(entry.operation, entry.operand, unclear)]
        return self._assembled(pieces, unclear, frozenset(gates))

    def _assembled(
        self, pieces: Sequence[_Piece], unclear: Mapping[Role, str], gates: frozenset[nn.Module]
    ) -> Additions:
        found = [self._judge(*piece) for piece in pieces]
        served: dict[Role, frozenset[nn.Module]] = {}
        for addition, (operation, operand) in zip(found, pieces, strict=True):
            modules = _modules_of(operation.operands[operand])
            served[addition.role] = served.get(addition.role, frozenset()) | modules
        owners = {addition.op_site.module for addition in found}
        calls = {(addition.op_site.module, addition.op_site.call) for addition in found}
        return Additions(
            found=tuple(found),
            modules=tuple(
                module for module, callers in self.op_sites.callers.items() if module in owners or callers & owners
            ),
            counts={call: sum(self.op_sites.counts[call][name] for name in ADDITIONS) for call in calls},
            unclear=unclear,
            gates=gates,
            shift=max(
                (self._reach(*piece) or 0 for one, piece in zip(found, pieces, strict=True) if one.role == "mlp"),
                default=0,
            ),
            served=served,
        )

    def _collect(self) -> list[Operand]:
        """Every operand worth a look: what enters the residual path, and what was added up into it before."""
        operations = {id(entry.operation): entry.operation for entry in self.entries}
        for entry in self.entries:
            for value in behind_matrices(entry.value):
                if value.operation is not None:
                    operations[id(value.operation)] = value.operation
        for operation in operations.values():
            for operand, tensor in enumerate(operation.tensors):
                if tensor is not None and operation.op_site is not None:
                    self.clean[operation.op_site, operand] = tensor
        return list(self.clean)

    def _reach(self, operation: Operation, operand: int) -> int | None:
        """How many positions on an operand still changes with the stream; None where that cannot be measured."""
        if operation.op_site is None:
            return None
        key = _key(operation, operand)
        if key not in self.changed or key not in self.clean:
            return None
        differences = self._differences(self.clean[key], self.changed[key])
        if differences is None:
            return None
        last = self.trials.shape.last_changed
        reached = [position - last[row] for row, position in differences.nonzero().tolist() if position > last[row]]
        return max(reached, default=0)

    def _mixes(self, operation: Operation, operand: int) -> bool | None:
        """Whether an operand is the mixer's; None where that cannot be measured."""
        reach = self._reach(operation, operand)
        return None if reach is None else reach > self.short

    def _differences(self, clean: Tensor, changed: Tensor) -> Tensor | None:
        """Where [row, position] two values differ."""
        one, other = self.trials.shape.by_position(clean), self.trials.shape.by_position(changed)
        if one is None or other is None or one.shape != other.shape:
            return None
        if not one.is_floating_point():
            return (one != other).flatten(2).any(-1) if one.ndim > 2 else one != other
        rounding = rounding_between_positions(self.trials.layer.module)
        # Experts batch other tokens together, and round so.
        return moved(one, other, tolerance=max(rounding, 8 * torch.finfo(clean.dtype).eps))

    def _is_addition(self, entry: PathEntry) -> bool:
        """Whether a branch is added to the residual path there."""
        operation, tensor = entry.operation, entry.operation.tensors[entry.operand]
        return (
            operation.is_addition
            and operation.op_site is not None
            and operation.operands[1 - entry.operand].on_path
            and tensor is not None
            and self.trials.shape.view(tensor) is not None
        )

    def _pieces(self, operation: Operation, operand: int, unclear: dict[Role, str]) -> list[_Piece]:
        """The branches of which a sum that enters the residual path was made, where they differ in kind."""
        value = operation.operands[operand]
        for inner in behind_matrices(value):
            inside = inner.operation
            if inside is None or not inside.is_addition or inside.passes_matrix:
                continue
            live = [which for which, one in enumerate(inside.operands) if one.is_live and not one.on_path]
            mixes = [self._mixes(inside, which) for which in live]
            if set(mixes) == {True, False}:
                if _is_copy_of(value, inner):
                    return [piece for which in live for piece in self._pieces(inside, which, unclear)]
                reason = "mixer and MLP are added up and changed together before they are added to the stream"
                unclear["mixer"] = unclear["mlp"] = reason
        return [(operation, operand)]

    def _is_factor(self, entry: PathEntry, unclear: dict[Role, str]) -> bool:
        """Whether an entry that is no addition is a factor of the stream at its own position."""
        mixes = self._mixes(entry.operation, entry.operand)
        if mixes is False and entry.operation.name in FACTORS:
            return True
        roles: tuple[Role, ...] = ("mixer", "mlp") if mixes is None else ("mixer",) if mixes else ("mlp",)
        for role in roles:
            name = entry.operation.name.removeprefix("aten::")
            unclear[role] = f"its branch meets the stream by {name!r}, not by an addition"
        return False

    def _judge(self, operation: Operation, operand: int) -> Addition:
        assert operation.op_site is not None  # additions are of the stream's shape
        addition = Addition(op_site=operation.op_site, operand=operand, role="mlp")
        if self._is_of_another_input(operation, operand):
            return replace(addition, role="other")
        return replace(addition, role="mixer") if self._mixes(operation, operand) else addition

    def _is_of_another_input(self, operation: Operation, operand: int) -> bool:
        """Whether a branch says nothing about the stream once the layer's other inputs are silent."""
        key, branch = _key(operation, operand), branch_of(operation.operands[operand])
        if any(value.operation is not None and value.operation.embeds_tokens for value in branch):
            return True
        if not any(value.on_path for value in branch):
            return True
        others = self.trials.others() & {value.leaf for value in branch if value.leaf is not None}
        if self._mixes(operation, operand) or not others:
            return False
        stream = self.trials.layer.inputs.values[self.trials.wiring.stream_in]
        restored = {_key(entry.operation, entry.operand) for entry in self.entries if self._is_addition(entry)}
        clean = {one: self.clean[one] for one in restored}
        silent = [
            self.trials.look(self.trials.without_others(others, stream=one), {key} | restored, clean)[key]
            for one in (stream, 1 - 3 * stream.flip(self.trials.wiring.batch_axis))
        ]
        differences = self._differences(*silent)
        return differences is not None and not bool(differences.any())


def _key(operation: Operation, operand: int) -> Operand:
    assert operation.op_site is not None  # only such operations are looked at
    return operation.op_site, operand


def _modules_of(value: Value) -> frozenset[nn.Module]:
    """The modules inside which a branch was computed, the layer itself excepted."""
    return frozenset(module for one in branch_of(value) if not one.on_path for module in one.modules[1:])


def _is_copy_of(value: Value, inner: Value) -> bool:
    """Whether a value is another one, up to copies."""
    while value is not inner:
        if value.operation is None or not value.operation.is_copy:
            return False
        value = value.operation.operands[0]
    return True
