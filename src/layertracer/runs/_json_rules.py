"""What JSON values may be, as data: types and ranges, said in words and checked by the same objects."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol, runtime_checkable

from layertracer._types import is_line

MOST_FAULTS = 20
"""How many faults of one list or object are looked for; it may have millions."""

_SHOWN = 60


@runtime_checkable
class Rule(Protocol):
    """What a value may be."""

    def faults(self, value: object, place: str) -> Iterator[str]:
        """What is wrong with a value, one sentence a place."""

    def __str__(self) -> str:
        """What it may be, in words."""


def described(value: object) -> str:
    """A JSON value for a message: short, whatever it holds."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value[:_SHOWN]) + ("…" if len(value) > _SHOWN else "")
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return "a whole number of more than 60 digits"
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))


def _wrong(value: object, place: str, rule: Rule) -> str:
    return f"{place} is {described(value)}, and must be {rule}"


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value."""

    def faults(self, value: object, place: str) -> Iterator[str]:
        """None."""
        del value, place
        return iter(())

    def __str__(self) -> str:
        """In words."""
        return "any value"


@dataclass(frozen=True, slots=True)
class Truth:
    """True or false."""

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but true and false."""
        if not isinstance(value, bool):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        return "true or false"


@dataclass(frozen=True, slots=True)
class Text:
    """A text, perhaps one of a few or of a pattern.

    Attributes:
        choices: The texts that are known; any where there are none.
        pattern: What all of it must match, with its meaning in words.
    """

    choices: tuple[str, ...] = ()
    pattern: tuple[str, str] | None = None

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but a text, and unknown ones."""
        is_known = isinstance(value, str) and (not self.choices or value in self.choices)
        if not is_known or (self.pattern is not None and not re.fullmatch(self.pattern[0], str(value))):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        if self.pattern is not None:
            return self.pattern[1]
        return " or ".join(f'"{choice}"' for choice in self.choices) or "a text"


@dataclass(frozen=True, slots=True)
class Line:
    """A text of one line without hidden characters, such as a unit.

    Attributes:
        most: How many characters it may have.
    """

    most: int

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but such a text."""
        if not is_line(value, self.most):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        return f"one line of 1 to {self.most} printable characters"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value of one kind or another.

    Attributes:
        rules: What it may be.
    """

    rules: tuple[Rule, ...]

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything that none of the rules lets through."""
        if all(any(True for _ in rule.faults(value, place)) for rule in self.rules):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        return ", or ".join(map(str, self.rules))


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both included.

    Attributes:
        low: The least.
        high: The greatest; None where there is none.
    """

    low: int = 0
    high: int | None = 2**63 - 1

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but such a number; true and false are none."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not _within(value, self.low, self.high):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        if self.high is None or self.high == 2**63 - 1:
            return f"a whole number of at least {self.low}"
        return f"a whole number in [{self.low}, {self.high}]"


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds, both included.

    Attributes:
        low: The least.
        high: The greatest; infinite where there is none.
        finite: Whether infinities and NaN are refused.
    """

    low: float = 0.0
    high: float = math.inf
    finite: bool = True

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but such a number; true and false are none."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not self.finite and value != value:  # noqa: PLR0124 - NaN alone
            return
        highest = min(self.high, sys.float_info.max) if self.finite or isinstance(value, int) else self.high
        lowest = max(self.low, -sys.float_info.max) if self.finite or isinstance(value, int) else self.low
        if not is_number or not _within(value, lowest, highest):
            yield _wrong(value, place, self)

    def __str__(self) -> str:
        """In words."""
        words = f" of at least {self.low:g}" if self.high == math.inf else f" in [{self.low:g}, {self.high:g}]"
        words = "" if (self.low, self.high) == (-math.inf, math.inf) else words
        return f"a finite number{words}" if self.finite else f"a number{words}, infinite and NaN included"


def _within(value: Any, low: float, high: float | None) -> bool:
    return bool(low <= value and (high is None or value <= high))


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value, or null.

    Attributes:
        rule: What it may be where it is not null.
    """

    rule: Rule

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Those of the value."""
        for fault in () if value is None else self.rule.faults(value, place):
            whole = _wrong(value, place, self.rule)
            yield _wrong(value, place, self) if fault == whole else fault

    def __str__(self) -> str:
        """In words."""
        return f"{self.rule}, or null"


@dataclass(frozen=True, slots=True)
class Items:
    """A list.

    Attributes:
        rule: What each of its items may be.
        most: How many there may be; None where that follows from something else.
    """

    rule: Rule
    most: int | None = None

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but a list, one that is too long, and what is wrong with its items."""
        if not isinstance(value, list) or (self.most is not None and len(value) > self.most):
            yield _wrong(value, place, self)
            return
        found = (self.rule.faults(item, f"{place}[{index}]") for index, item in enumerate(value))
        yield from islice(chain.from_iterable(found), MOST_FAULTS)

    def __str__(self) -> str:
        """In words."""
        return f"a list{'' if self.most is None else f' of at most {self.most}'}, each {self.rule}"


@dataclass(frozen=True, slots=True)
class Fields:
    """An object whose fields are known by name.

    Attributes:
        required: Fields that must be there.
        optional: Fields that may be.
        closed: Whether it may have no others.
    """

    required: Mapping[str, Rule] = field(default_factory=dict)
    optional: Mapping[str, Rule] = field(default_factory=dict)
    closed: bool = False

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but an object, missing fields, others where none may be, and what is wrong with each."""
        if not isinstance(value, dict):
            yield _wrong(value, place, self)
            return
        for name in self.required:
            if name not in value:
                yield f"{_join(place, name)} is missing"
        if self.closed and (others := [name for name in value if name not in {**self.required, **self.optional}]):
            yield f"{place} has {described(others[0])}, which is no field of it: {', '.join(self.required)}"
        for name, rule in {**self.required, **self.optional}.items():
            if name in value:
                yield from rule.faults(value[name], _join(place, name))

    def __str__(self) -> str:
        """In words."""
        return "an object"


@dataclass(frozen=True, slots=True)
class Entries:
    """An object with any names.

    Attributes:
        rule: What each of its values may be.
    """

    rule: Rule

    def faults(self, value: object, place: str) -> Iterator[str]:
        """Anything but an object, and what is wrong with its values."""
        if not isinstance(value, dict):
            yield _wrong(value, place, self)
            return
        found = (self.rule.faults(item, _join(place, described(name))) for name, item in value.items())
        yield from islice(chain.from_iterable(found), MOST_FAULTS)

    def __str__(self) -> str:
        """In words."""
        return "an object" if isinstance(self.rule, Anything) else f"an object, each value {self.rule}"


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def flatten_rules(rule: Rule, place: str) -> Iterator[tuple[str, Rule]]:
    """Every place below a value for which there is a rule, with it, for a table."""
    yield place, rule
    inner = rule.rule if isinstance(rule, Nullable) else rule
    if isinstance(inner, Items):
        inner, place = inner.rule, f"{place}[]"
    if isinstance(inner, Fields):
        for name, one in {**inner.required, **inner.optional}.items():
            yield from flatten_rules(one, _join(place, name))


def in_words(rule: Rule) -> str:
    """What a value may be, and of an object whether it may have other fields than those that are listed."""
    inner = rule.rule if isinstance(rule, Nullable) else rule
    inner = inner.rule if isinstance(inner, Items) else inner
    is_closed = isinstance(inner, Fields) and inner.closed
    return str(rule).replace("an object", "an object of the fields below alone") if is_closed else str(rule)
