"""Operators that a part of a layer runs, and over how many entries: what its weights alone do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models._calling.hooks import CallRecord, call_again


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator that ran.

    Attributes:
        name: Its name, e.g. "aten.topk.default".
        n_entries: Size of the last axis of its first tensor.
    """

    name: str
    n_entries: int


class OperatorLog(TorchDispatchMode):
    """The operators that run while it is on, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.operators: list[Operator] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = next((arg for arg in args if isinstance(arg, Tensor) and arg.ndim), None)
        self.operators.append(Operator(str(func), 0 if first is None else first.shape[-1]))
        return func(*args, **(kwargs or {}))


def operators_of(call: CallRecord) -> tuple[Operator, ...]:
    """The operators of a call that was observed, from running it once more."""
    with OperatorLog() as log:
        call_again(call.module, call.inputs)
    return tuple(log.operators)


def sizes_of(operators: Sequence[Operator], fragment: str) -> list[int]:
    """How many entries each operator whose name contains `fragment` ran over."""
    return [operator.n_entries for operator in operators if fragment in operator.name]
