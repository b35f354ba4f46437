"""Tensors inside an object of any class: found by walking its attributes, and replaced in a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from operator import setitem
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_DEEPEST = 8
_OPAQUE = (str, bytes, int, float, complex, type, torch.dtype, torch.device, nn.Module)
"""Of these the contents are of no interest: they hold no tensors, or are modules, which a cache may refer to."""


class TensorPlace(NamedTuple):
    """A tensor inside a structure.

    Attributes:
        tensor: What stands there.
        put: Puts another tensor there; None where nothing can be put, as in a tuple.
    """

    tensor: Tensor
    put: Callable[[Tensor], None] | None


def find_tensors(structure: Any) -> dict[str, Tensor]:
    """Every tensor that is reachable from `structure`, by its path, in a fixed order.

    Attributes, lists, tuples and dictionaries are followed, not modules.

    Example:
        >>> list(find_tensors({"keys": [torch.zeros(2)]}))
        ["['keys'][0]"]
    """
    return {path: place.tensor for path, place in find_places(structure).items()}


def find_places(structure: Any) -> dict[str, TensorPlace]:
    """Every tensor that `find_tensors` finds, with the way to put another one in its place."""
    found: dict[str, TensorPlace] = {}
    _walk(structure, "", found, put=None, seen=set(), depth=0)
    return found


def copy_with(structure: Any, replacements: Mapping[str, Tensor]) -> Any:
    """A copy of `structure` in which tensors are replaced, wherever they occur; what is left out is copied too.

    Args:
        structure: An object that holds tensors; it stays as it is.
        replacements: New tensors by path, see `find_tensors`.
    """
    tensors = find_tensors(structure)
    # What `deepcopy` finds here it takes for already copied.
    memo: dict[int, Any] = {id(tensors[path]): tensor for path, tensor in replacements.items()}
    memo |= {id(module): module for module in _modules_in(structure)}
    return copy.deepcopy(structure, memo)


def _walk(
    value: Any,
    path: str,
    found: dict[str, TensorPlace],
    *,
    put: Callable[[Tensor], None] | None,
    seen: set[int],
    depth: int,
) -> None:
    if id(value) in seen or value is None or isinstance(value, _OPAQUE) or depth > _DEEPEST:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        found[path] = TensorPlace(value, put)
        return
    for step, member, put_member in _members(value):
        _walk(member, path + step, found, put=put_member, seen=seen, depth=depth + 1)


def _members(value: Any) -> Iterator[tuple[str, Any, Callable[[Any], None] | None]]:
    """What an object holds: the step to it on the path, itself, and what puts something else there."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield f"[{key!r}]", member, partial(setitem, value, key) if isinstance(value, MutableMapping) else None
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield f"[{index}]", member, partial(setitem, value, index) if isinstance(value, list) else None
    for name, member in getattr(value, "__dict__", {}).items():
        yield f".{name}", member, partial(setattr, value, name)


def _modules_in(structure: Any) -> list[nn.Module]:
    modules: list[nn.Module] = []
    pending, seen = [structure], set()
    while pending:
        value = pending.pop()
        if isinstance(value, nn.Module):
            modules.append(value)
        elif id(value) not in seen and not isinstance(value, (*_OPAQUE, Tensor)):
            seen.add(id(value))
            pending += [member for _, member, _ in _members(value)]
    return modules
