"""Tasks from the `datasets` library: "hf:name:split"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layertracer._errors import TaskError, UnknownNameError, UsageError
from layertracer.tasks._files.columns import name_class
from layertracer.tasks._files.content import hash_content
from layertracer.tasks._files.fields import make_material
from layertracer.tasks._files.material import FieldNames, Material, Records, Row
from layertracer.tasks._files.recognize import find_beside, recognize_fields, tells_kind

PREFIX = "hf:"


def read_hub(name: str, names: FieldNames) -> Material:
    """A split of a dataset, from the hub, its local cache, or a local folder.

    Args:
        name: "hf:name:split" or "hf:name/config:split"; the name may have an owner ("hf:openai/gsm8k/main:test") or
            be a local folder of data files ("hf:./folder:train").
        names: Fields to read.

    Raises:
        UsageError: If no split is named.
        TaskError: If the `datasets` library is missing, or the dataset cannot be loaded.
    """
    location, _, split = name.removeprefix(PREFIX).rpartition(":") if "[" not in name else _split_slice(name)
    if not location or not split:
        raise UsageError(
            f"The task {name!r} names no split. Write it as hf:name:split or hf:name/config:split, "
            f"e.g. hf:openai/gsm8k/main:test."
        )
    dataset = _select_columns(_load(location, split, name), names)
    classes = {column: feature.names for column, feature in dataset.features.items() if hasattr(feature, "names")}
    rows = tuple(
        Row(source=name, place=f"row {index}", values=_name_classes(dict(record), classes))
        for index, record in enumerate(dataset)
    )
    content = "\n".join(json.dumps(dict(row.values), sort_keys=True, default=str) for row in rows)
    sha256 = hash_content(content.encode("utf-8", "surrogatepass"))
    notes = tuple(f"numbers of column {name!r} stand for classes, and were read as their names" for name in classes)
    return make_material(Records(source=name, sha256=sha256, rows=rows, part="column", notes=notes), names)


def _name_classes(record: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any]:
    """The record with the names of classes in place of their numbers."""
    return record | {column: name_class(record[column], names) for column, names in classes.items()}


def _split_slice(name: str) -> tuple[str, str, str]:
    """Location and split of a name such as "hf:name:train[:100]", in which the slice has a colon of its own."""
    before, bracket, behind = name.removeprefix(PREFIX).partition("[")
    location, colon, split = before.rpartition(":")
    return location, colon, split + bracket + behind


def _locations(location: str) -> list[tuple[str, str | None]]:
    """The dataset and configuration that a location may mean, in the order of trying."""
    parts = location.split("/")
    if len(parts) == 1 or Path(location).is_dir():
        return [(location, None)]
    if len(parts) == 2:
        # An owner and a name, or an old name without an owner and a configuration.
        return [(location, None), (parts[0], parts[1])]
    return [("/".join(parts[:2]), "/".join(parts[2:]))]


def _load(location: str, split: str, name: str) -> Any:
    """The dataset's split."""
    try:
        import datasets
    except ImportError:
        raise TaskError(
            f"The task {name!r} needs the library `datasets`, which is not installed. "
            f"Install it with: pip install 'layertracer[datasets]'"
        ) from None
    problems: list[str] = []
    for path, config in _locations(location):
        try:
            return datasets.load_dataset(path, config, split=split)
        except (OSError, ValueError, RuntimeError) as error:
            if "Unknown split" in str(error):
                raise UnknownNameError(f"{name}: {error}") from None
            problems.append(f"{path}: {str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}")
    raise TaskError(
        f"The task {name!r} could not be loaded by the `datasets` library ({'; '.join(problems)}). Check the name "
        f"and the connection; offline, only datasets in the local cache can be loaded, and a file can be given instead."
    )


def _select_columns(dataset: Any, names: FieldNames) -> Any:
    """The dataset without the columns that are not read: images or long documents are then never decoded."""
    columns: list[str] = list(dataset.column_names)
    fields = recognize_fields(dict.fromkeys(columns), names)
    if fields is None or fields.prompt not in columns:
        return dataset
    read = {fields.prompt, fields.answer, "label", *find_beside(columns, fields).values()}
    return dataset.select_columns([column for column in columns if column in read or tells_kind(column)])
