"""Prompts in whatever form users hold them, taken as samples. No torch, no pandas at import."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

from layertracer._errors import AnswerError, UnknownNameError, UsageError
from layertracer._types import Sample
from layertracer.api._taken import describe, refused
from layertracer.tasks import Task, list_tasks, load_task, task_from_records

_N_BUILT_IN = 32
"""Prompts of a built-in task that is given by its name, as on the command line."""

_FIELDS = {field.name for field in dataclasses.fields(Sample)}
_RECORD_FIELDS = {"prompt", "answer", "answers", "subject", "contrast", "contrast_answer", "relation"}
_CAUSAL_FIELDS = _RECORD_FIELDS - {"prompt", "answer", "answers"}
"""Fields of a sample that records of a file have too, where they may be empty or mean something else."""

_TAKEN = (
    "Give a name or a file that load_task takes, a task, or prompts: samples, pairs (prompt, answer), texts, "
    "dictionaries, token ids, a table of them (DataFrame, Dataset), or what a tokenizer returned."
)


def take_samples(
    given: object, *, needs_answers: bool, pad_id: int | None = None, whole: bool = False
) -> Task | tuple[Sample, ...]:
    """A task, or samples, out of whatever plainly holds prompts.

    ==========================================  =====================================================================
    what is given                               what is taken
    ==========================================  =====================================================================
    a task; a name, a path                      that task; what `load_task` makes of it (32 prompts of a built-in one)
    one sample, or several                      the samples
    (prompt, answer), {"prompt", "answer"}      one sample, alone or in a list; an answer may be a token id
    other dictionaries, a DataFrame, a Dataset  records as in a file, see `load_task`
    "text" in a list                            a prompt without an answer
    token ids, in lists, arrays or tensors      one prompt, or one a row
    {"input_ids", "attention_mask"}             the same without what the mask leaves out
    ==========================================  =====================================================================

    Args:
        given: What a user gave.
        needs_answers: Whether an answer is to be followed.
        pad_id: The token that pads rows of the model's tokenizer; None where none does.
        whole: Whether the name of a built-in task stands for all its prompts, as where it is read until something is
            certain.

    Raises:
        UsageError: If it is none of these, or rows may be padded and no mask says where.
        AnswerError: If an answer is needed and there are texts alone.
        LayerTracerError: If a task cannot be loaded, or records are not understood.
    """
    if isinstance(given, Task):
        return given
    if isinstance(given, str | os.PathLike):
        return _load(given, whole=whole)
    table = _records_of(given)
    if table is not None:
        items: list[Any] = table
    elif isinstance(given, Mapping | Sample) or _is_pair(given):
        items = [given]
    else:
        items = _items_of(given, pad_id)
    texts = sum(isinstance(item, str) for item in items)
    if texts and needs_answers:
        raise AnswerError(
            f"{texts} of {len(items)} prompts are texts without an answer to follow. Give pairs (prompt, answer), e.g. "
            "[('hot -> cold\\nwide ->', ' narrow')], or follow the model's own top token with target='model'."
        )
    return _samples_of(items, pad_id)


def _load(name: str | os.PathLike[str], *, whole: bool) -> Task:
    """The task of a name or a path; a moderate number of prompts of one that is built in."""
    is_built_in = name in {info.name for info in list_tasks()}
    try:
        return load_task(name, limit=_N_BUILT_IN if is_built_in and not whole else None)
    except UnknownNameError as error:
        if any(char.isspace() for char in os.fspath(name)):
            raise UnknownNameError(f"{error} One prompt of your own is given in a list: [text].") from None
        raise


def _records_of(given: object) -> list[Any] | None:
    """The records of a table: a DataFrame, a Dataset, a dictionary of columns; None where it is no table."""
    if isinstance(given, Mapping):
        return _records_of_columns(given)
    if hasattr(given, "to_dict") and hasattr(given, "columns") and not isinstance(given, type):
        return cast("list[Any]", given.to_dict(orient="records"))
    if hasattr(given, "column_names") and isinstance(given, Iterable):
        return [dict(row) for row in given]
    return None


def _records_of_columns(columns: Mapping[Any, Any]) -> list[Any] | None:
    """The records of columns of text by their names; None where the values are something else."""
    if any(hasattr(part, "column_names") for part in columns.values()):
        raise UsageError(f"task has several parts: {', '.join(map(repr, columns))}. Choose one, e.g. data['train'].")
    if not columns or not all(_is_column(values) for values in columns.values()):
        return None
    lengths = sorted({len(values) for values in columns.values()})
    if len(lengths) > 1:
        raise UsageError(f"task has columns of {' and '.join(map(str, lengths))} rows. Make them equally long.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_column(values: object) -> bool:
    values = _plain(values)
    return isinstance(values, list | tuple) and bool(values) and all(isinstance(value, str) for value in values)


def _is_record(item: object) -> bool:
    """Whether a dictionary has fields that no sample has, or those that files have, so that it is read as theirs."""
    if not isinstance(item, Mapping) or "input_ids" in item:
        return False
    names = set(item)
    return not names <= _FIELDS or (names <= _RECORD_FIELDS and bool(names & _CAUSAL_FIELDS))


def _is_pair(given: object) -> bool:
    """Whether a tuple is one prompt with its answer: text and text, text and a token, or tokens and a token."""
    if not isinstance(given, tuple) or len(given) != 2:
        return False
    prompt, answer = given
    is_text = isinstance(prompt, str)
    return (is_text and isinstance(answer, str)) or ((is_text or _is_ids(prompt)) and _is_whole(answer))


def _items_of(given: object, pad_id: int | None) -> list[Any]:
    """The prompts in a collection; token ids alone are one prompt, rows of a tensor one each."""
    values = None if isinstance(given, bytes | bytearray | type) else _plain(given)
    if not isinstance(values, Iterable):
        raise refused("task", given, _TAKEN)
    items = list(values)
    if items and all(_is_whole(item) for item in items):
        return [items]
    if values is not given and items and all(_is_ids(item) for item in items):  # rows of an array or a tensor
        _refuse_padding(items, pad_id)
    return items


def _samples_of(items: Sequence[Any], pad_id: int | None) -> Task | tuple[Sample, ...]:
    """Samples out of prompts of any form."""
    records = [_is_record(item) for item in items]
    if items and all(records):
        return task_from_records(items)
    if any(records):
        index = records.index(True)
        raise refused(f"task[{index}]", items[index], "Where other prompts are none, it must have a sample's fields.")
    samples: list[Sample] = []
    for index, item in enumerate(items):
        try:
            samples += _read(item, index, pad_id)
        except UsageError as error:
            text = str(error)
            raise UsageError(text if text.startswith(("task[", "Row ")) else f"task[{index}]: {text}") from None
    return tuple(samples)


def _read(item: Any, index: int, pad_id: int | None) -> Iterator[Sample]:
    """The sample, or the rows of samples, that one item is."""
    if isinstance(item, Sample):
        yield item
    elif isinstance(item, Mapping):
        yield from _without_padding(item, index, pad_id) if "input_ids" in item else [Sample(**item)]
    elif isinstance(item, str):
        yield Sample(prompt=item)
    elif isinstance(item, tuple | list) and len(item) == 2 and _is_pair(tuple(item)):
        prompt = {"prompt": item[0]} if isinstance(item[0], str) else {"prompt_ids": _flat(item[0])}
        answer = {"answer": item[1]} if isinstance(item[1], str) else {"answer_id": _plain(item[1])}
        yield Sample(**cast("dict[str, Any]", {**prompt, **answer}))
    elif _is_ids(item):
        yield Sample(prompt_ids=_flat(item))
    else:
        raise UsageError(f"task[{index}] cannot be {describe(item)}. {_TAKEN}")


def _without_padding(item: Mapping[Any, Any], index: int, pad_id: int | None) -> Iterator[Sample]:
    """The rows of what a tokenizer returned, without what the mask leaves out at their ends."""
    rows = _rows(item["input_ids"])
    mask = item.get("attention_mask")
    if rows is None:
        raise refused(f"task[{index}]['input_ids']", item["input_ids"], "Give whole numbers, [position] or one a row.")
    if mask is None:
        _refuse_padding(rows, pad_id)
        masks = [[1] * len(row) for row in rows]
    else:
        masks = _rows(mask) or []
    if [len(row) for row in rows] != [len(row) for row in masks]:
        raise UsageError(f"task[{index}] has an attention_mask of another shape than its input_ids. Give one for each.")
    for row, kept in zip(rows, masks, strict=True):
        runs = [bool(value) for value, _ in groupby(kept, key=bool)]
        if runs.count(True) != 1:
            raise UsageError(
                f"task[{index}] has an attention_mask that leaves out {'tokens between others' if any(runs) else 'all'}"
                ". LayerTracer pads nothing and masks no position: give the tokens that are to be read, without gaps."
            )
        yield Sample(prompt_ids=tuple(token for token, keep in zip(row, kept, strict=True) if keep))


def _refuse_padding(rows: Sequence[Sequence[int]], pad_id: int | None) -> None:
    """Raise for rows of one length that begin or end with the padding's token: no mask says whether it is one.

    Raises:
        UsageError: If that is so.
    """
    if pad_id is None or len({len(row) for row in rows}) != 1:
        return
    for number, row in enumerate(rows):
        n_before = next((n for n, token in enumerate(row) if token != pad_id), len(row))
        n_behind = next((n for n, token in enumerate(reversed(row)) if token != pad_id), len(row))
        # One such token in front of every row may be the start token, where the two are the same.
        if n_behind or n_before > 1 or (n_before and any(other[0] != pad_id for other in rows)):
            where = f"begins with {n_before}" if n_before else f"ends with {n_behind}"
            raise UsageError(
                f"Row {number} of the token ids {where} of the padding's token {pad_id}. Give the attention_mask too "
                "({'input_ids': ids, 'attention_mask': mask}), or lists of ids without padding."
            )


def _plain(value: Any) -> Any:
    """Tensors, arrays and series as Python's own numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_whole(value: object) -> bool:
    value = _plain(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _rows(value: object) -> list[list[int]] | None:
    """Rows of token ids; a single one is one row, None where it is neither."""
    plain = _plain(value)
    if not isinstance(plain, list | tuple) or not plain:
        return None
    rows = [_plain(row) for row in plain]
    if all(_is_whole(token) for token in rows):
        return [rows]
    if all(isinstance(row, list | tuple) and row and all(_is_whole(token) for token in row) for row in rows):
        return [[_plain(token) for token in row] for row in rows]
    return None


def _is_ids(value: object) -> bool:
    """Whether something is one prompt as token ids, [position] or [1, position]."""
    rows = None if isinstance(value, str | bytes) else _rows(value)
    return rows is not None and len(rows) == 1


def _flat(value: object) -> tuple[int, ...]:
    rows = _rows(value)
    assert rows is not None  # looked at before
    return tuple(rows[0])
