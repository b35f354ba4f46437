"""Dataflow of the residual stream through a layer's operators, recorded while the layer runs once.

The *residual path* is what leads from the stream that enters to the stream that leaves without passing a
matrix: additions, norms, factors, mixtures of several streams. Whatever else is computed from the
stream, by matrices, is a branch; it *enters* the path where the two meet, by an addition or otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._anatomy.op_sites import OpSite, OpSites
from layertracer.models._anatomy.stream_shape import StreamShape

ADDITIONS = ("aten::add", "aten::add_")
FACTORS = ("aten::mul", "aten::mul_", "aten::div", "aten::div_", "aten::bmm", "aten::matmul", "aten::einsum")
_PRODUCTS = ("aten::mul", "aten::mul_", "aten::div", "aten::div_")
_COPIES = ("aten::clone", "aten::_to_copy", "aten::contiguous", "aten::dropout", "aten::native_dropout", "aten::detach")
CONTRACTIONS = frozenset(
    f"aten::{name}"
    for name in [
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "linear",
        "matmul",
        "mv",
        "addmv",
        "einsum",
        "convolution",
        "_convolution",
        "conv1d",
        "conv2d",
        "mkldnn_convolution",
        "mkldnn_linear",
        "_grouped_mm",
        "_scaled_mm",
        "_int_mm",
        "_weight_int8pack_mm",
        "_weight_int4pack_mm",
    ]
)
_CHOICES = frozenset(
    f"aten::{name}{ending}"
    for name in ("index", "index_select", "gather", "index_add", "index_put", "scatter", "scatter_add", "masked_select")
    for ending in ("", "_")
)
"""Operators that pick rows. What is picked by a router's choice is no longer the stream."""
_SHAPES_ONLY = frozenset(
    f"aten::{name}"
    for name in [
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
        "new_empty_strided",
    ]
)
"""Operators that take nothing of a tensor but its shape."""
_CELL = "_layertracer_cell"


@dataclass(slots=True, eq=False)
class Value:
    """What one operator computed, or what the layer was given.

    Attributes:
        operation: What computed it; None for what the layer was given and for constants.
        leaf: Which of the layer's arguments it is.
        on_path: Whether the stream leads to it without passing a matrix.
        is_live: Whether it depends on what the layer was given.
        modules: The modules inside which it was computed.
    """

    operation: Operation | None = None
    leaf: int | None = None
    on_path: bool = False
    is_live: bool = False
    modules: tuple[nn.Module, ...] = ()


@dataclass(slots=True, eq=False)
class Operation:
    """An operator that ran.

    Attributes:
        name: Its name.
        operands: What it took, one for each tensor among its arguments.
        tensors: Copies of those, where they can be a branch's.
        op_site: Where it ran; None where no tensor of the stream's shape took part.
        passes_matrix: Whether it leaves the residual path.
    """

    name: str
    operands: tuple[Value, ...]
    tensors: tuple[Tensor | None, ...]
    op_site: OpSite | None
    passes_matrix: bool

    @property
    def is_addition(self) -> bool:
        """Whether it adds two tensors."""
        return self.name in ADDITIONS and len(self.operands) == 2

    @property
    def embeds_tokens(self) -> bool:
        """Whether it looks up embeddings of what the layer was given."""
        return self.name == "aten::embedding" and any(operand.is_live for operand in self.operands)

    @property
    def is_copy(self) -> bool:
        """Whether its result has the values of what it took."""
        return self.name in _COPIES


@dataclass(slots=True, eq=False)
class _Cell:
    """What a piece of memory holds: shared by a tensor and its views."""

    owner: FlowRecorder
    value: Value


class FlowRecorder(TorchDispatchMode):
    """Records what is computed from what while a layer runs.

    Args:
        layer: The layer.
        shape: The shape of its stream.
    """

    def __init__(self, layer: nn.Module, shape: StreamShape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._shape = shape
        self.op_sites = OpSites(layer)
        self._layer = layer

    def begin(self, leaves: Sequence[tuple[int, Tensor]], *, stream: int) -> None:
        """Note what the layer is given."""
        for index, leaf in leaves:
            setattr(leaf, _CELL, _Cell(self, Value(leaf=index, on_path=index == stream, is_live=True)))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The layer runs in the block."""
        with self.op_sites.following(part for part in self._layer.modules() if part is not self._layer), self:
            yield

    def value_of(self, tensor: Tensor) -> Value:
        """What a tensor holds now."""
        cell = self._cell(tensor)
        return Value() if cell is None else cell.value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note what it took."""
        kwargs = kwargs or {}
        tensors = operand_tensors(args, kwargs)
        operation = self._operation(func, tensors)
        sizes = [tensor.numel() for tensor in tensors]
        result = func(*args, **kwargs)
        value = Value(
            operation=operation,
            on_path=not operation.passes_matrix and _keeps_path(operation, sizes),
            is_live=any(operand.is_live for operand in operation.operands),
            modules=self.op_sites.modules,
        )
        writes = bool(func._schema.is_mutable)
        for leaf in _pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf, tensors, value, writes=writes)
        return result

    def _operation(self, func: Any, tensors: Sequence[Tensor]) -> Operation:
        name = func._schema.name
        operands = tuple(Value() if name in _SHAPES_ONLY else self.value_of(tensor) for tensor in tensors)
        op_site = self.op_sites.next(name) if has_stream_shape(self._shape, tensors) else None
        is_addition = name in ADDITIONS
        kept = tuple(
            tensor.clone()
            if op_site is not None
            and operand.is_live
            and not operand.on_path
            and (is_addition or any(other.on_path for other in operands))
            else None
            for tensor, operand in zip(tensors, operands, strict=True)
        )
        return Operation(
            name=name, operands=operands, tensors=kept, op_site=op_site, passes_matrix=_passes_matrix(name, operands)
        )

    def _note(self, result: Tensor, tensors: Sequence[Tensor], value: Value, *, writes: bool) -> None:
        """A result shares the cell of the operand whose memory it is; else it gets one of its own."""
        for tensor in tensors:
            if result is tensor or _same_memory(result, tensor):
                cell = self._cell(tensor)
                if cell is None:
                    cell = _Cell(self, Value())
                if writes:
                    cell.value = value
                setattr(result, _CELL, cell)
                return
        setattr(result, _CELL, _Cell(self, value))

    def _cell(self, tensor: Tensor) -> _Cell | None:
        cell: _Cell | None = getattr(tensor, _CELL, None)
        return cell if cell is not None and cell.owner is self else None


def operand_tensors(args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors among an operator's arguments, in order."""
    return [leaf for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]


def has_stream_shape(shape: StreamShape, tensors: Sequence[Tensor]) -> bool:
    """Whether one of them holds something of every row and position."""
    return any(shape.holds_positions(tensor) for tensor in tensors)


def _passes_matrix(name: str, operands: Sequence[Value]) -> bool:
    """Whether an operator multiplies by weights, or is one whose inside is not known."""
    if not name.startswith("aten::") or "attention" in name or name in ("aten::lstm", "aten::gru", "aten::embedding"):
        return True
    if name in _CHOICES:
        return any(operand.is_live and not operand.on_path for operand in operands[1:])
    return name in CONTRACTIONS and not all(operand.is_live for operand in operands)


def _keeps_path(operation: Operation, sizes: Sequence[int]) -> bool:
    """Whether the stream leads on. A factor made of it that is spread over a larger branch is a weight of that."""
    on_path = [size for size, operand in zip(sizes, operation.operands, strict=True) if operand.on_path]
    if operation.name in _PRODUCTS and on_path:
        return max(on_path) >= max(sizes)
    return bool(on_path)


def _same_memory(one: Tensor, other: Tensor) -> bool:
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # a tensor without a storage of its own
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEntry:
    """Entry of a branch into the residual path.

    Attributes:
        operation: Where.
        operand: Which of the operation's operands is the branch.
    """

    operation: Operation
    operand: int

    @property
    def value(self) -> Value:
        """What enters."""
        return self.operation.operands[self.operand]


def entries_on_path(leaving: Value) -> list[PathEntry]:
    """Where branches enter the residual path to `leaving`, in no order."""
    entries: list[PathEntry] = []
    for value in residual_path_to(leaving):
        if value.operation is not None:
            entries += [
                PathEntry(operation=value.operation, operand=which)
                for which, operand in enumerate(value.operation.operands)
                if operand.is_live and not operand.on_path
            ]
    return entries


def residual_path_to(leaving: Value) -> list[Value]:
    """Everything on the residual path to `leaving`, itself included; empty where it is not on the path."""
    return _walk([leaving] if leaving.on_path else [], lambda value: value.on_path)


def branch_of(value: Value) -> list[Value]:
    """Everything that a branch was computed from, up to and including where it left the residual path."""
    found = _walk([value], lambda one: not one.on_path)
    ends = [operand for one in found if one.operation is not None for operand in one.operation.operands]
    return [*found, *{id(end): end for end in ends if end.on_path}.values()]


def behind_matrices(value: Value) -> list[Value]:
    """What leads to a branch's value without passing a matrix, itself included."""
    start = [value]
    return _walk(
        start, lambda one: not one.on_path, stop=lambda one: bool(one.operation and one.operation.passes_matrix)
    )


def _walk(start: Sequence[Value], wanted: Any, *, stop: Any = lambda _: False) -> list[Value]:
    seen: dict[int, Value] = {id(value): value for value in start}
    pending = list(start)
    while pending:
        value = pending.pop()
        if value.operation is None or stop(value):
            continue
        for operand in value.operation.operands:
            if id(operand) not in seen and wanted(operand):
                seen[id(operand)] = operand
                pending.append(operand)
    return list(seen.values())
