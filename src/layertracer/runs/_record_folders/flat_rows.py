"""Small records as rows of a table: their fields as columns, an interval as one column for each end and its level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from layertracer._types import Interval
from layertracer.runs._record_folders.hints import has_default, hints_of, is_interval, is_optional, without_none
from layertracer.runs._schema import Column, Table

Columns = dict[str, Any]
Tree = dict[str, Any]

_TYPES = {float: "float64", int: "int64", str: "string"}
_ENDS = tuple(hints_of(Interval))


def flat_columns(kind: type, left_out: tuple[str, ...] = (), *, always: tuple[str, ...] = ()) -> Iterator[Column]:
    """The fields of a record as columns; an interval is one for each end and its level, null where there is none.

    Args:
        kind: The record.
        left_out: Fields that have no column.
        always: Fields that every row has; all others are null where only a few things are known.
    """
    for name, hint in hints_of(kind).items():
        if name in left_out:
            continue
        meaning, is_known = f"as in `{kind.__name__}.{name}`", name in always
        is_late = has_default(kind, name)
        plain = without_none(hint) if is_optional(hint) else hint
        if plain is Interval:
            for end in _ENDS:
                yield Column(name=f"{name}_{end}", type="float64", meaning=meaning, nullable=True, optional=is_late)
        else:
            yield Column(name=name, type=_column_type(plain), meaning=meaning, nullable=not is_known, optional=is_late)


def _column_type(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "list<int32>" if get_args(hint)[0] is int else f"list<{_TYPES[get_args(hint)[0]]}>"
    return _TYPES[hint]


def columns_of(table: Table, rows: Iterable[Mapping[str, Any]]) -> Columns:
    """Rows as the columns of a table, null where a row has nothing."""
    listed = list(rows)
    return {column.name: [row.get(column.name) for row in listed] for column in table.columns}


def rows_of(columns: Columns) -> list[Tree]:
    """Columns as rows."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def flatten(record: Any, left_out: Sequence[str] = ()) -> Tree:
    """A record's fields as the cells of a row."""
    cells: Tree = {}
    for name, hint in hints_of(type(record)).items():
        value = getattr(record, name)
        if name in left_out:
            continue
        if is_interval(hint):
            ends = {end: None if value is None else float(getattr(value, end)) for end in _ENDS}
            cells |= {f"{name}_{end}": one for end, one in ends.items()}
        else:
            cells[name] = list(value) if isinstance(value, tuple) else value
    return cells


def deepen(kind: type, row: Tree) -> Tree:
    """The fields of a record out of the cells of a row."""
    fields: Tree = {}
    for name, hint in hints_of(kind).items():
        if is_interval(hint):
            if f"{name}_level" in row:
                ends = {end: row[f"{name}_{end}"] for end in _ENDS}
                fields[name] = None if all(one is None for one in ends.values()) else ends
        elif name in row:
            fields[name] = row[name]
    return fields
