"""A task out of records that are in memory already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from layertracer.tasks._files.fields import make_material
from layertracer.tasks._files.material import FieldNames, Records, Row
from layertracer.tasks._make import make_task
from layertracer.tasks._recipe import Recipe, TaskOptions
from layertracer.tasks._task import Task

_SOURCE, _SHOWN = "records", "The list of records"


def task_from_records(records: Iterable[Mapping[Any, Any]]) -> Task:
    """A task of records as a file would hold them: the same fields are known, and mean the same.

    Laws: equal records give equal tasks; a file of the same records gives the same prompts.

    Args:
        records: Values by the names of their fields.

    Raises:
        TaskFileError: If the fields are not known, or one is missing or empty; the message names the record.
        EmptyTaskError: If no sample is left.

    Example:
        >>> task_from_records([{"prompt": "hot ->", "answer": " cold"}])[0].answer
        ' cold'
    """
    rows = tuple(
        Row(source=_SHOWN, place=f"record {number}", values={str(name): value for name, value in record.items()})
        for number, record in enumerate(records)
    )
    content = json.dumps([row.values for row in rows], default=repr, sort_keys=True).encode()
    names = FieldNames()
    sha256 = hashlib.sha256(content).hexdigest()
    material = make_material(Records(source=_SHOWN, sha256=sha256, rows=rows), names)
    options = TaskOptions(n_shot=5, limit=None, seed=0, template=None, names=names, prompt_words=32)
    return make_task(Recipe(source=_SOURCE, material=material, options=options))
