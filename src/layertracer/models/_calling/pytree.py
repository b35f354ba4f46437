"""Pytrees: the tensors inside a module's arguments and outputs, whatever containers they come in."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree


@dataclass(frozen=True, slots=True)
class _Spec:
    """What puts leaves together again.

    Attributes:
        tree: Of the containers that PyTorch knows.
        mappings: For every leaf of that tree which is a mapping of another class: itself, and its content's spec.
    """

    tree: _pytree.TreeSpec
    mappings: tuple[tuple[MutableMapping[Any, Any], _Spec] | None, ...]

    def build(self, values: Iterator[Any]) -> Any:
        """The structure with the next leaves of `values`."""
        return _pytree.tree_unflatten([self._leaf(held, values) for held in self.mappings], self.tree)

    @staticmethod
    def _leaf(held: tuple[MutableMapping[Any, Any], _Spec] | None, values: Iterator[Any]) -> Any:
        if held is None:
            return next(values)
        mapping, spec = held
        mapping.update(spec.build(values))
        return mapping


@dataclass(frozen=True, slots=True)
class Leaves:
    """A nested structure taken apart.

    Attributes:
        values: Its leaves in a fixed order; None and objects of unknown classes are leaves too.
        spec: What puts them together again.
    """

    values: list[Any]
    spec: _Spec

    def replaced(self, index: int, value: Any) -> Any:
        """The structure with one leaf replaced."""
        values = list(self.values)
        values[index] = value
        return self.rebuilt(values)

    def rebuilt(self, values: Sequence[Any]) -> Any:
        """The structure with all leaves replaced; mappings of other classes than `dict` are changed in place."""
        return self.spec.build(iter(values))

    def tensors(self) -> list[tuple[int, Tensor]]:
        """The leaves that are tensors, with their index."""
        return [(index, leaf) for index, leaf in enumerate(self.values) if isinstance(leaf, Tensor)]


def cloned(values: Sequence[Any]) -> list[Any]:
    """Copies of the tensors among some leaves: a layer may add to what it is given in place."""
    return [value.clone() if isinstance(value, Tensor) else value for value in values]


def unflatten_into(original: Any, changed: Any) -> Any:
    """The changed structure, in the original's own dictionaries and lists: what a layer writes into them is read later.

    Args:
        original: What the model handed over.
        changed: A structure of the same form.
    """
    if isinstance(original, MutableMapping):
        for key in original:
            original[key] = unflatten_into(original[key], changed[key])
        return original
    if isinstance(original, list):
        original[:] = [unflatten_into(one, other) for one, other in zip(original, changed, strict=True)]
        return original
    if type(original) is tuple:
        return tuple(unflatten_into(one, other) for one, other in zip(original, changed, strict=True))
    return changed


def flatten(structure: Any) -> Leaves:
    """The leaves of nested tuples, lists, dictionaries and other mappings, named tuples and model outputs."""
    nodes, tree = _pytree.tree_flatten(structure)
    values: list[Any] = []
    mappings: list[tuple[MutableMapping[Any, Any], _Spec] | None] = []
    for node in nodes:
        if isinstance(node, MutableMapping):
            content = flatten(dict(node))
            values += content.values
            mappings.append((node, content.spec))
        else:
            values.append(node)
            mappings.append(None)
    return Leaves(values, _Spec(tree, tuple(mappings)))
