"""Task files in columns that programs read: Parquet, Arrow, and folders of `datasets`' save_to_disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from layertracer._errors import TaskFileError
from layertracer.tasks._files.content import Content, hash_content, is_file, read_content
from layertracer.tasks._files.material import FieldNames, Records, Row
from layertracer.tasks._files.recognize import recognize_fields
from layertracer.tasks._files.unpacking import (
    UnpacksTooLargeError,
    count_texts,
    is_readable,
    read_arrow_table,
    read_parquet_table,
)
from layertracer.tasks._files.values import listed

_STATE, _SPLITS = "state.json", "dataset_dict.json"
"""By these files a folder of save_to_disk is known: one split, or several in folders of their own."""


def read_parquet(content: Content, names: FieldNames) -> Records:
    """A .parquet file."""
    return _make_records(_read(content, read_parquet_table), names, source=str(content.path), sha256=content.sha256)


def read_arrow(content: Content, names: FieldNames) -> Records:
    """An .arrow or .feather file."""
    return _make_records(_read(content, read_arrow_table), names, source=str(content.path), sha256=content.sha256)


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is one of `datasets`' save_to_disk."""
    return is_file(folder / _STATE) or is_file(folder / _SPLITS)


def read_saved_dataset(folder: Path, names: FieldNames) -> Records:
    """The one split of a folder of `datasets`' save_to_disk.

    Raises:
        TaskFileError: If there are several splits, or a file of it is missing or damaged.
    """
    import pyarrow as pa

    if (folder / _SPLITS).is_file():
        splits = [str(name) for name in _read_description(folder / _SPLITS, "splits")]
        if len(splits) != 1:
            named = " or ".join(repr(str(folder / name)) for name in splits) or "none"
            raise TaskFileError(f"{folder} holds {len(splits)} splits, and a task is one. Name {named}.")
        return read_saved_dataset(folder / splits[0], names)
    state = folder / _STATE
    files = [_file_of(entry, state) for entry in _read_description(state, "_data_files")]
    contents = [read_content(folder / name) for name in files]
    if not files:
        raise TaskFileError(f"{state} names no data. Save a dataset with rows.")
    table = pa.concat_tables([_read(content, read_arrow_table) for content in contents])
    _refuse_large(table, state)
    sha256 = hash_content(b"".join(content.data for content in contents))
    return _make_records(table, names, source=str(folder), sha256=sha256)


def _read_description(path: Path, key: str) -> list[Any]:
    """A list in a description of save_to_disk.

    Raises:
        TaskFileError: If it is not there, or rows are picked by a file of their own.
    """
    try:
        described = json.loads(read_content(path).data)
        found = described[key]
        is_picked = bool(described.get("_indices_data_files"))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise TaskFileError(f"{path} is damaged: it does not say {key!r}. Save the dataset again.") from None
    if not isinstance(found, list) or is_picked:
        raise TaskFileError(f"{path} names files that are not known here. Save dataset.flatten_indices() instead.")
    return found


def _file_of(entry: object, state: Path) -> str:
    """The name of a data file, which must lie in the folder itself.

    Raises:
        TaskFileError: If it does not.
    """
    name = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise TaskFileError(f"{state} is damaged: {entry!r} is no file of its folder. Save the dataset again.")
    return name


def _read(content: Content, read: Callable[[Any], Any]) -> Any:
    """The table of a file.

    Raises:
        TaskFileError: If the file is damaged.
    """
    import pyarrow as pa

    try:
        return read(pa.BufferReader(content.data))
    except UnpacksTooLargeError as error:
        raise TaskFileError(f"{content.path} {error}. A task is read as a whole: give a part of it.") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise TaskFileError(f"{content.path} is damaged or of another format ({reason}). Write it again.") from None


def _make_records(table: Any, names: FieldNames, *, source: str, sha256: str) -> Records:
    """Records of a table, without the columns that can be no text, such as images."""
    present: list[str] = list(table.column_names)
    twins = sorted({name for name in present if present.count(name) > 1})
    if twins:
        raise TaskFileError(f"{source}: {present.count(twins[0])} columns are called {twins[0]!r}. Rename all but one.")
    read = [name for name in present if is_readable(table.schema.field(name).type)]
    if not read:
        raise TaskFileError(f"{source}: the columns {listed(dict.fromkeys(present))} hold no text. Expected text.")
    _refuse_large(table.select(read), Path(source))
    labels = class_names(table.schema.metadata or {})
    columns = [_read_column(table.column(name), labels.get(name)) for name in read]
    rows = tuple(
        Row(source=source, place=f"row {n}", values=dict(zip(read, cells, strict=True)))
        for n, cells in enumerate(zip(*columns, strict=True))
    )
    fields = recognize_fields(read, names)
    told = [name for name in labels if fields is None or name == fields.answer]
    notes = tuple(f"numbers of column {name!r} stand for classes, and were read as their names" for name in told)
    return Records(source=source, sha256=sha256, rows=rows, part="column", notes=notes)


def _refuse_large(table: Any, path: Path) -> None:
    """Refuse rows that take far more memory as records than in their columns.

    Raises:
        TaskFileError: If they do.
    """
    try:
        count_texts(table)
    except UnpacksTooLargeError as error:
        raise TaskFileError(f"{path} {error}. A task is read as a whole: give a part of it.") from None


def _read_column(column: Any, classes: Sequence[str] | None) -> list[object]:
    """A column's values; whole numbers that were made fractions by missing ones among them are whole again."""
    values: list[object] = column.to_pylist()
    if classes is not None:
        return [name_class(value, classes) for value in values]
    numbers = [value for value in values if isinstance(value, float) and value == value]  # noqa: PLR0124 - NaN
    is_gappy = len(numbers) < len(values)
    if is_gappy and numbers and all(number.is_integer() for number in numbers):
        return [int(value) if isinstance(value, float) and value == value else None for value in values]  # noqa: PLR0124
    return values


def name_class(value: object, classes: Sequence[str]) -> object:
    """The name of a class by its number; nothing for a number that has none, as -1 in splits without labels."""
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else None


def class_names(metadata: Any) -> dict[str, list[str]]:
    """Names of the classes that numbers stand for, by column, as `datasets` writes them beside a table."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        labels = {name: feature for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
        return {name: [str(label) for label in feature["names"]] for name, feature in labels.items()}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
