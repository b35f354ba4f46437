"""What the fields of advice may be, as rules made of the records' own types and of what is said of single numbers."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray

from layertracer._types.substitutes import Substitute
from layertracer.advice._limits import TEXTS, limit_of
from layertracer.runs import Anything, Entries, Fields, Items, Nullable, Rule, Text, Truth, described

NoneKind = type(None)
_MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Numbered:
    """An object whose names are whole numbers, such as how many layers are kept.

    Attributes:
        rule: What each of its values may be.
    """

    rule: Rule

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Names that are no whole numbers, and what is wrong with the values."""
        if not isinstance(value, dict):
            yield f"{place} is {described(value)}, and must be {self}"
            return
        for name, one in value.items():
            if not (name.isascii() and name.isdigit() and len(name) < _MOST_DIGITS and str(int(name)) == name):
                yield f"{place} has {described(name)}, and its names must be whole numbers"
            else:
                yield from self.rule.faults(one, f"{place}.{name}")

    def __str__(self) -> str:
        """In words."""
        return f"an object whose names are whole numbers, each value {self.rule}"


def is_array(hint: Any) -> bool:
    """Whether a field's type is an array of NumPy."""
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def is_optional(hint: Any) -> bool:
    """Whether a field may be None."""
    return get_origin(hint) in (Union, types.UnionType) and NoneKind in get_args(hint)


def without_none(hint: Any) -> Any:
    """The type of a field that may be None where it is not."""
    return next(one for one in get_args(hint) if one is not NoneKind)


def hints_of(kind: type) -> Mapping[str, Any]:
    """The types of a record's fields, in their order."""
    return _hints_of(cast("Any", kind))  # mypy takes the classes of some records for unhashable


@cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def has_default(kind: type, name: str) -> bool:
    """Whether a record can be made without a field, as those can that were stored before there was one."""
    field = next(one for one in dataclasses.fields(kind) if one.name == name)
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


@cache
def rule_of(kind: type) -> Fields:
    """What a record may be in JSON: its fields, and no others."""
    rules = {name: rule_of_hint(hint, f"{kind.__name__}.{name}") for name, hint in hints_of(kind).items()}
    return Fields(
        required={name: rule for name, rule in rules.items() if not has_default(kind, name)},
        optional={name: rule for name, rule in rules.items() if has_default(kind, name)},
        closed=True,
    )


def rule_of_hint(hint: Any, place: str) -> Rule:
    """What a field of a type may be in JSON.

    Args:
        hint: Its type.
        place: The record's name and the field's, by which `LIMITS` knows what its numbers may be.
    """
    origin = get_origin(hint)
    if is_optional(hint):
        return Nullable(rule_of_hint(without_none(hint), place))
    if is_array(hint):
        rule = limit_of(place, is_whole="int64" in hint.dtypes)
        return _nested(rule, len(hint.dim_str.split()))
    if origin is tuple:
        return Items(rule_of_hint(get_args(hint)[0], place))
    if origin is Literal:
        return Text(choices=get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        key, value = get_args(hint)
        inner = rule_of_hint(value, place)
        return Numbered(inner) if key is int else Entries(inner)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return rule_of(hint)
    return _plain_rule(hint, place)


def _nested(rule: Rule, depth: int) -> Rule:
    for _ in range(depth):
        rule = Items(rule)
    return rule


def _plain_rule(hint: Any, place: str) -> Rule:
    if hint is Substitute:
        return Fields(required={"kind": Text()})
    if hint is bool:
        return Truth()
    if hint is str:
        return TEXTS.get(place, Text())
    return Anything() if hint is Any else limit_of(place, is_whole=hint is int)
