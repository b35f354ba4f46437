"""Records as JSON values and as tables of all their numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.reports._values.numbers import round_for_json
from layertracer.runs import to_tree, write_file

_DIGITS = 6


def plain_values(value: Any) -> Any:
    """Values as JSON has them: numbers rounded, None where one is not finite."""
    if isinstance(value, dict):
        return {str(name): plain_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(one) for one in value]
    return round_for_json(value, digits=_DIGITS)


def plain_fields(record: Any) -> dict[str, Any]:
    """The fields of a record, and of what it holds."""
    found: dict[str, Any] = plain_values(to_tree(record))
    return found


def plain_interval(interval: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON values."""
    return None if interval is None else {"low": interval.low, "high": interval.high, "level": interval.level}


def write_whole(make: Callable[[], str], path: str | Path) -> Path:
    """Write a page or a table; folders above it are made, and a file there is replaced whole.

    Args:
        make: Makes it, once it is known that there is no folder in its place.
        path: The file.

    Returns:
        The file.

    Raises:
        UsageError: If `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(
            f"Cannot write the report to {str(target)!r}: it is a folder, and a file is needed. "
            f"Give a file name, e.g. {str(target / 'report.html')!r}."
        )
    write_file(target, make().encode("utf-8"))
    return target


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as comma-separated values.

    Args:
        columns: Its columns.
        rows: Cells by column; one that is missing stays empty.
    """
    sink = io.StringIO()
    table = csv.DictWriter(sink, columns, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: _cell(row.get(name)) for name in columns})
    return sink.getvalue()


def _cell(value: Any) -> Any:
    """A cell: whole precision, nothing where a number is not known; texts that a spreadsheet would run are quoted."""
    if isinstance(value, float | np.floating):
        return repr(float(value)) if math.isfinite(value) else ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def number_row(
    head: Mapping[str, Any], quantity: str, value: float | None, unit: str, interval: Interval | None = None
) -> dict[str, Any]:
    """A row of a table of numbers.

    Args:
        head: What the number is of, by column.
        quantity: What it is.
        value: The number; None or NaN where it is not known.
        unit: Its unit.
        interval: Its interval, where it has one.
    """
    ends = {} if interval is None else {"low": interval.low, "high": interval.high}
    return {**head, "quantity": quantity, "value": value, "unit": unit, **ends}
