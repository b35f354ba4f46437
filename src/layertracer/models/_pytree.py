"""The tensors inside a module's arguments and outputs, whatever containers they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree


@dataclass(frozen=True, slots=True)
class Leaves:
    """A nested structure taken apart.

    Attributes:
        values: Its leaves in a fixed order; None and objects of unknown classes are leaves too.
        spec: What puts them together again.
    """

    values: list[Any]
    spec: _pytree.TreeSpec

    def replaced(self, index: int, value: Any) -> Any:
        """The structure with one leaf replaced."""
        values = list(self.values)
        values[index] = value
        return _pytree.tree_unflatten(values, self.spec)

    def rebuilt(self, values: Sequence[Any]) -> Any:
        """The structure with all leaves replaced."""
        return _pytree.tree_unflatten(list(values), self.spec)

    def tensors(self) -> list[tuple[int, Tensor]]:
        """The leaves that are tensors, with their index."""
        return [(index, leaf) for index, leaf in enumerate(self.values) if isinstance(leaf, Tensor)]


def take_apart(structure: Any) -> Leaves:
    """The leaves of nested tuples, lists, dictionaries, named tuples and model outputs."""
    values, spec = _pytree.tree_flatten(structure)
    return Leaves(values, spec)
