"""What the fields of a record hold: text, several texts, or nothing."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from layertracer._errors import TaskFileError
from layertracer.tasks._files.material import Row

Role = Literal["prompt", "answer"]

_SPREADSHEET_ERRORS = ("#N/A", "#N/A N/A", "#NA", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?")
DOUBTFUL: frozenset[str] = frozenset(
    {"NA", "N/A", "n/a", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None", *_SPREADSHEET_ERRORS}
)
"""Words that programs write where there is no value; they may be meant, as NA is for Namibia."""


class MissingMark(str):
    """What a source writes where there is no value, such as NaN."""

    __slots__ = ()


class WrittenNumber(str):
    """A number as the file writes it: 1.10 stays 1.10."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a field holds.

    Attributes:
        texts: Its text; several where it lists several.
        missing: Why it holds none, e.g. "empty answer".
        problem: The same as a sentence for a message.
    """

    texts: tuple[str, ...] = ()
    missing: str | None = None
    problem: str = ""


def read_value(row: Row, name: str, *, role: Role) -> Value:
    """A field that must hold text or a number, or, for answers, a list of them.

    White space is kept: an answer may be a line break.

    Raises:
        TaskFileError: If the field is not there or holds something else.
    """
    if name not in row.values:
        raise TaskFileError(
            f"{row.where}: the field {name!r} is missing, got {listed(row.values)}. Every record needs it."
        )
    value = row.values[name]
    missing = _find_missing(value, name, role=role)
    if missing is not None:
        return missing
    if role == "answer" and isinstance(value, list | tuple) and all(_is_text(item) for item in value):
        texts = tuple(dict.fromkeys(_as_text(item, row=row, name=name) for item in value))
        return Value(texts=tuple(text for text in texts if text))
    if not _is_text(value):
        raise not_text(row, name, value)
    return Value(texts=(_as_text(value, row=row, name=name),))


def not_text(row: Row, name: str, value: object) -> TaskFileError:
    """The error for a field that holds no text."""
    hint = ' Write it as text, e.g. "yes".' if isinstance(value, bool) else ""
    return TaskFileError(f"{row.where}: the field {name!r} must be text, got {shortened(repr(value))}.{hint}")


def is_blank(value: object) -> bool:
    """Whether a field holds nothing that could be read."""
    return _find_missing(value, "", role="prompt") is not None or (isinstance(value, str) and not value.strip())


def _find_missing(value: object, name: str, *, role: Role) -> Value | None:
    """Why there is no value; None where there is one."""
    if isinstance(value, MissingMark) or (isinstance(value, float) and not math.isfinite(value)):
        mark = str(value) if isinstance(value, str) else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        return Value(missing=f"{role} is {mark}", problem=f"the field {name!r} must be text, got {mark}")
    if value is None:
        return Value(missing=f"empty {role}", problem=f"the field {name!r} must be text, got None")
    is_empty_list = isinstance(value, list | tuple) and not any(item not in (None, "") for item in value)
    if value == "" or is_empty_list:
        return empty_value(name, role=role)
    return None


def empty_value(name: str, *, role: Role) -> Value:
    """A field that is there and holds nothing."""
    return Value(missing=f"empty {role}", problem=f"the field {name!r} is empty. Fill it in or remove the record")


def _is_text(value: object) -> bool:
    """Whether a value is text, or something that is written in one way only."""
    kinds = str | int | float | decimal.Decimal | dt.date
    is_number = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, kinds) and not isinstance(value, bool | MissingMark) and is_number


def _as_text(value: object, *, row: Row, name: str) -> str:
    """The text, which must be one that can be written as UTF-8."""
    text = str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TaskFileError(
            f"{row.where}: the field {name!r} holds half of a character, {text[error.start]!a}. Write the whole one."
        ) from None
    return text


def listed(values: Mapping[str, object]) -> str:
    """The names of a record's fields, for messages."""
    names = [repr(name) for name in values]
    more = [f"and {len(names) - 20} more"] if len(names) > 20 else []
    return ", ".join(names[:20] + more) or "none"


def shortened(text: str, length: int = 60) -> str:
    """A text cut for a message."""
    return text if len(text) <= length else text[: length - 1] + "…"
