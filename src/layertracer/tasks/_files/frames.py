"""Tables inside a JSON object, as pandas, Hugging Face datasets and others write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layertracer.tasks._files.facts import find_relation
from layertracer.tasks._files.material import FieldNames, Part
from layertracer.tasks._files.recognize import is_read, recognize_fields

_Object = Mapping[str, object]

_MAX_COLUMNS = 3
"""So many columns can be read without names."""

_LISTS = ("data", "rows", "samples", "examples", "records", "instances")
"""Names under which records stand where there are other lists beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The records of a table.

    Attributes:
        records: Its records.
        part: What their parts are called.
        notes: What is to be said about how they were found.
        is_named: Whether the table names its columns.
        relation: Name of the relation that the records are samples of; None where none is named.
    """

    records: tuple[_Object, ...]
    part: Part = "column"
    notes: tuple[str, ...] = ()
    is_named: bool = True
    relation: str | None = None


def find_frame(value: object, names: FieldNames) -> Frame | None:
    """The table that a JSON value holds; None where it holds none.

    ========================  =========================================================================================
    shape                     written by
    ========================  =========================================================================================
    columns, data             pandas, orient="split"
    schema, data              pandas, orient="table"
    column, row, value        pandas, orient="columns"; with lists for the inner objects, a dict of lists
    row, column, value        pandas, orient="index"
    one list of objects       {"data": […]} and its kin; {"rows": [{"row": {…}}]}, the dataset viewer; relations with
                              their "samples"
    ========================  =========================================================================================
    """
    if not isinstance(value, dict):
        return None
    inner = list(value.values())
    if inner and all(isinstance(part, list) for part in inner):
        frame = _join_lists(value)
    elif inner and all(isinstance(part, dict) for part in inner):
        frame = _join_objects(value, names)
    else:
        frame = _join_split(value)
    return _find_list(value) if frame is None else frame


def _join_split(value: _Object) -> Frame | None:
    """Columns and rows apart."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    names = [str(column) for column in columns]
    is_table = all(isinstance(row, list) and len(row) == len(names) for row in data)
    if not is_table or len(set(names)) < len(names):
        return None
    return _make_frame([dict(zip(names, row, strict=True)) for row in data], names)


def _join_lists(value: _Object) -> Frame | None:
    """One list of values for each column."""
    split = _join_split(value)  # its three parts are lists, too
    if split is not None:
        return split
    columns = [column for column in value.values() if isinstance(column, list)]
    if len(columns) < 2 or len({len(column) for column in columns}) > 1 or _holds_objects(columns[0]):
        return None
    return _make_frame([dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)], list(value))


def _join_objects(value: _Object, names: FieldNames) -> Frame | None:
    """One object for each column or for each row, whichever has the names of fields, or else is not numbered."""
    inner = [part for part in value.values() if isinstance(part, dict)]
    keys = list(inner[0])
    if any(part.keys() != inner[0].keys() for part in inner):
        return None
    outer_fields, inner_fields = _has_fields(list(value), names), _has_fields(keys, names)
    are_columns = outer_fields or (not inner_fields and _are_numbered(keys))
    are_rows = inner_fields or (not outer_fields and _are_numbered(list(value)))
    if are_columns and are_rows:  # neither has names: the shorter side is that of columns
        are_columns, are_rows = len(value) <= _MAX_COLUMNS < len(keys), len(keys) <= _MAX_COLUMNS < len(value)
    if are_columns:
        columns = list(zip(value, inner, strict=True))
        return _make_frame([{name: column[key] for name, column in columns} for key in keys], list(value))
    return _make_frame(inner, keys) if are_rows else None


def _find_list(value: _Object) -> Frame | None:
    """One list of objects, beside what describes it."""
    lists = {name: rows for name, rows in value.items() if _holds_objects(rows)}
    if len(lists) > 1:
        lists = {name: rows for name, rows in lists.items() if name in _LISTS}
    if len(lists) != 1:
        return None
    (name, rows), *_ = lists.items()
    assert isinstance(rows, list)
    if all(isinstance(row.get("row"), dict) for row in rows):
        rows = [row["row"] for row in rows]
    beside = [key for key in value if key not in (name, "schema")]
    notes = (f"the records stand under {name!r}; {', '.join(map(repr, beside))} beside it were not read",)
    part: Part = "column" if "schema" in value else "field"
    relation = find_relation(value)
    told = (*notes, *relation.notes) if beside else relation.notes
    return Frame(records=tuple(rows), part=part, notes=told, relation=relation.name)


def _holds_objects(value: object) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _has_fields(present: Sequence[str], names: FieldNames) -> bool:
    """Whether these are the names of fields that are read."""
    fields = recognize_fields(present, names)
    return fields is not None and is_read(fields, present)


def _are_numbered(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, 2, …, as pandas numbers rows and columns that have none."""
    return bool(names) and all(name == str(n) for n, name in enumerate(names))


def _make_frame(records: Sequence[_Object], columns: Sequence[str]) -> Frame:
    """The table; columns that pandas numbered have no names."""
    if _are_numbered(columns):
        numbered = tuple({str(n): value for n, value in enumerate(row.values(), start=1)} for row in records)
        return Frame(records=numbered, is_named=False)
    return Frame(records=tuple(records))
