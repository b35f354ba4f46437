"""Records as trees of JSON values, and back: by the types of their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import numpy as np

from layertracer._types.substitutes import Substitute, substitute_from_dict
from layertracer.runs._record_folders.hints import hints_of, is_array, is_optional, without_none

Made = TypeVar("Made")


def to_tree(value: Any, *, keep_arrays: bool = False) -> Any:
    """A record, or what one holds, in dictionaries, lists, texts and numbers; non-finite ones are left as they are.

    Args:
        value: The record, or what it holds.
        keep_arrays: Whether arrays stay arrays, which are too long for lists.
    """
    if isinstance(value, str | int | float):  # most of them, and `isinstance` of a protocol takes its time
        return value.tolist() if isinstance(value, np.generic) else value
    if isinstance(value, list | tuple):
        return [to_tree(one, keep_arrays=keep_arrays) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return value if keep_arrays and isinstance(value, np.ndarray) else value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_tree(one, keep_arrays=keep_arrays) for key, one in value.items()}
    if isinstance(value, Substitute):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = hints_of(type(value))
        return {name: to_tree(getattr(value, name), keep_arrays=keep_arrays) for name in fields}
    return value


def from_tree(kind: type[Made], tree: Mapping[str, Any]) -> Made:
    """The record of a tree that obeys the rules of its kind; fields that it lacks have their defaults."""
    hints = hints_of(kind)
    return kind(**{name: _value_of(hints[name], tree[name]) for name in hints if name in tree})


def _value_of(hint: Any, value: Any) -> Any:
    """A field's value out of JSON."""
    if hint is int or hint is str:
        return value
    if is_optional(hint):
        return None if value is None else _value_of(without_none(hint), value)
    if is_array(hint) or hint is np.ndarray:
        return _array_of(hint, value)
    if hint is Substitute:
        return substitute_from_dict(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_tree(hint, value)
    origin = get_origin(hint)
    if origin is tuple:
        return tuple(_value_of(get_args(hint)[0], one) for one in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, inner = get_args(hint)
        return {(int(name) if key is int else name): _value_of(inner, one) for name, one in value.items()}
    return float(value) if hint is float else value


def _array_of(hint: Any, value: list[Any] | np.ndarray) -> np.ndarray:
    """An array of the type's numbers and of as many axes; of no rows, too."""
    if hint is np.ndarray:  # a type that says neither numbers nor axes: the record's own to check
        return np.asarray(value)
    kind = next(one for one in ("int64", "float64", "float32") if one in hint.dtypes)
    made = np.array(value, dtype=kind)
    if isinstance(value, np.ndarray):
        return made
    empty = [int(axis) if axis.isdigit() else 0 for axis in hint.dim_str.split()]
    return made.reshape(empty) if made.size == 0 else made
