"""What the fields of records may be, as rules made of the records' own types and of what is said of single numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np

from layertracer._types.substitutes import Substitute
from layertracer.runs._json_rules import (
    Anything,
    Entries,
    Fields,
    Items,
    Nullable,
    Number,
    Rule,
    Text,
    Truth,
    Whole,
    described,
)
from layertracer.runs._record_folders.hints import has_default, hints_of, is_array, is_optional, without_none

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


@dataclass(frozen=True, slots=True)
class OrNan:
    """A finite number within bounds, or NaN.

    Attributes:
        low: The least.
        high: The greatest; infinite where there is none.
    """

    low: float = -math.inf
    high: float = math.inf

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but such a number."""
        is_nan = isinstance(value, float) and math.isnan(value)
        if not is_nan and any(True for _ in Number(low=self.low, high=self.high).faults(value, place)):
            yield f"{place} is {described(value)}, and must be {self}"

    def __str__(self) -> str:
        """In words."""
        return f"{Number(low=self.low, high=self.high)}, or NaN"


@dataclass(frozen=True, slots=True)
class Array:
    """An array of NumPy out of a table, or lists of lists of JSON.

    Attributes:
        rule: What each number may be: a `Number`, an `OrNan`, or a `Whole`.
        n_axes: How many axes it has.
    """

    rule: Rule
    n_axes: int

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but such numbers, the first that is beyond its bounds."""
        if not isinstance(value, np.ndarray):
            yield from self._as_lists().faults(value, place)
            return
        if value.ndim != self.n_axes or value.dtype.kind not in "iuf":
            yield f"{place} is an array of shape {list(value.shape)} of {value.dtype}, and must be {self}"
            return
        odd = np.argwhere(~self._is_right(value))
        if len(odd):
            where = "".join(f"[{index}]" for index in odd[0])
            yield f"{place}{where} is {described(value[tuple(odd[0])].item())}, and must be {self.rule}"

    def _is_right(self, value: np.ndarray) -> np.ndarray:
        if isinstance(self.rule, Whole):
            high = math.inf if self.rule.high is None else self.rule.high
            right: np.ndarray = (value >= self.rule.low) & (value <= high)
            return right if value.dtype.kind in "iu" else np.zeros_like(right)
        low, high = getattr(self.rule, "low", -math.inf), getattr(self.rule, "high", math.inf)
        right = np.isfinite(value) & (value >= low) & (value <= high)
        return right | np.isnan(value) if isinstance(self.rule, OrNan) else right

    def _as_lists(self) -> Rule:
        rule = self.rule
        for _ in range(self.n_axes):
            rule = Items(rule)
        return rule

    def __str__(self) -> str:
        """In words."""
        return str(self._as_lists())


ANY_OR_NAN = OrNan()


class RecordRules:
    """What records of one kind may be in JSON and in tables.

    Args:
        limits: By record and field ("Interval.low"), what its numbers may be; any of its type where nothing is said.
        others: By record and field, what it may be where its type does not say so: texts of few choices.
    """

    def __init__(self, limits: Mapping[str, Rule], others: Mapping[str, Rule]) -> None:
        self._limits, self._others = limits, others
        self._made: dict[type, Fields] = {}

    def of(self, kind: type) -> Fields:
        """What a record may be: its fields, and no others."""
        if kind not in self._made:
            rules = {name: self._of_hint(hint, f"{kind.__name__}.{name}") for name, hint in hints_of(kind).items()}
            self._made[kind] = Fields(
                required={name: rule for name, rule in rules.items() if not has_default(kind, name)},
                optional={name: rule for name, rule in rules.items() if has_default(kind, name)},
                closed=True,
            )
        return self._made[kind]

    def limit_of(self, place: str, *, is_whole: bool) -> Rule:
        """What the number at a place may be: what is said of it, else any of its type."""
        return self._limits.get(place, Whole(low=-(2**63)) if is_whole else ANY_OR_NAN)

    def _of_hint(self, hint: Any, place: str) -> Rule:
        """What a field of a type may be."""
        origin = get_origin(hint)
        if is_optional(hint):
            return Nullable(self._of_hint(without_none(hint), place))
        if is_array(hint):
            limit = self.limit_of(place, is_whole="int64" in hint.dtypes)
            return Array(limit, len(hint.dim_str.split()))
        if origin is tuple:
            return Items(self._of_hint(get_args(hint)[0], place))
        if origin is Literal:
            return Text(choices=get_args(hint))
        if origin is not None and issubclass(origin, Mapping):
            key, value = get_args(hint)
            inner = self._of_hint(value, place)
            return Numbered(inner) if key is int else Entries(inner)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.of(hint)
        return self._of_plain(hint, place)

    def _of_plain(self, hint: Any, place: str) -> Rule:
        if place in self._others:
            return self._others[place]
        if hint is Substitute:
            return Fields(required={"kind": Text()})
        if hint is bool:
            return Truth()
        if hint is str:
            return Text()
        return Anything() if hint is Any else self.limit_of(place, is_whole=hint is int)
