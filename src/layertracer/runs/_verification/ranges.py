"""Numbers of the tables that cannot be: outside of their range, in the wrong order, NaN where a number must stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from layertracer.runs._schema import LAYERS, PROMPTS, Column, Limits, Table

_MOST_PROB = 1 + 1e-3
"""What the probabilities of different tokens may add up to, rounding included."""


def bounds_of(header: Mapping[str, Any], *, n_draws: int) -> dict[str, float]:
    """The bounds and lengths that depend on a run, by the names that the schema has for them.

    Args:
        header: The content of `run.json`, its fields of their types.
        n_draws: Number of draws of the perturbation whose rows are judged.
    """
    shape, model = header["shape"], header["model"]
    return {
        "d_vocab": model["d_vocab"],
        "d_vocab - 1": model["d_vocab"] - 1,
        "log2(d_vocab)": math.log2(model["d_vocab"]),
        "d_model - 1": model["d_model"] - 1,
        "n_draws": n_draws,
        "top_k": shape["top_k"],
    }


def find_out_of_range(table: Table, stored: pa.Table, shape: list[int], bounds: Mapping[str, float]) -> Iterator[str]:
    """What no trace can have measured: of each column the first place, and in how many others it is wrong.

    Args:
        table: The table's schema, without an axis of effects.
        stored: Its rows, one per index of its axes.
        shape: Lengths of its axes.
        bounds: What `bounds_of` says.
    """
    for column in table.columns:
        if column.limits is not None and column.name in stored.schema.names:
            cells = _Cells.of(stored[column.name], table, shape)
            yield from _judge(column, column.limits, cells, bounds)
    for name in stored.schema.names:
        if table.file == LAYERS.file and name.endswith("top_prob"):
            yield from _judge_sums(name, _Cells.of(stored[name], table, shape))
    if table.file == PROMPTS.file:
        yield from _judge_answers(stored, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The values of a column, those of lists one behind the other.

    Attributes:
        values: Its numbers.
        lengths: How many of them each row has; None where it is one a row.
        table: The table that it stands in.
        shape: Lengths of the table's axes.
    """

    values: NDArray[Any]
    lengths: NDArray[np.int64] | None
    table: Table
    shape: list[int]

    @classmethod
    def of(cls, column: pa.ChunkedArray, table: Table, shape: list[int]) -> _Cells:
        """The cells of a column that holds numbers, or lists of them."""
        whole = column.combine_chunks()
        lengths = None
        if pa.types.is_list(whole.type):
            offsets = whole.offsets.to_numpy().astype(np.int64)
            whole = whole.flatten()
            if pa.types.is_list(whole.type):  # lists of lists: all that a row has, one behind the other
                offsets, whole = whole.offsets.to_numpy()[offsets - offsets[0]].astype(np.int64), whole.flatten()
            lengths = np.diff(offsets)
        return cls(values=whole.to_numpy(zero_copy_only=False), lengths=lengths, table=table, shape=shape)

    def place(self, index: int) -> str:
        """Where a value stands, in words."""
        if self.lengths is None:
            return self.row_place(index)
        row = int(np.searchsorted(np.cumsum(self.lengths), index, side="right"))
        return f"{self.row_place(row)}, item {index - int(self.lengths[:row].sum())}"

    def row_place(self, row: int) -> str:
        """Which row, in words."""
        if not self.shape:
            return f"row {row}"
        where = np.unravel_index(row, self.shape)
        return ", ".join(f"{axis} {index}" for axis, index in zip(self.table.axes, where, strict=True))

    def lists(self) -> NDArray[Any]:
        """The lists as rows of an array, where all are equally long."""
        return self.values.reshape(len(self.lengths) if self.lengths is not None else 1, -1)


def _judge(column: Column, limits: Limits, cells: _Cells, bounds: Mapping[str, float]) -> Iterator[str]:
    wrong_lengths = _judge_lengths(column, limits, cells, bounds)
    if wrong_lengths is not None:
        yield wrong_lengths
        return
    wrong = _out_of_range(cells, limits, bounds)
    if wrong.any():
        index = int(wrong.argmax())
        where = f"at {cells.place(index)}{_others(wrong)}"
        yield f"{column.name} is {cells.values[index]:g} {where}, and must be {_within(limits, bounds)}"
        return
    disorder = _find_disorder(limits, cells)
    if disorder is not None:
        yield f"{column.name} {disorder}"


def _out_of_range(cells: _Cells, limits: Limits, bounds: Mapping[str, float]) -> NDArray[np.bool_]:
    values = cells.values
    low, high = (bounds[one] if isinstance(one, str) else one for one in (limits.low, limits.high))
    wrong = np.zeros(values.shape, dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):  # a bound beyond the type is infinite in it
        if low is not None:
            wrong |= values < low - limits.allowance
        if high is not None:
            wrong |= values > high + limits.allowance
    if values.dtype.kind == "f" and limits.nan != "anywhere":
        is_nan = np.isnan(values)
        if limits.nan == "layer" and values.size:
            by_layer = is_nan.reshape(cells.shape)
            is_nan = (by_layer & ~by_layer.all(axis=(0, 1))).reshape(-1)
        wrong |= is_nan
    return wrong


def _judge_lengths(column: Column, limits: Limits, cells: _Cells, bounds: Mapping[str, float]) -> str | None:
    if cells.lengths is None:
        return None
    wrong, must = cells.lengths < limits.least_items, f"{limits.least_items} or more"
    if limits.n_items is not None:
        n_items = int(bounds[limits.n_items])
        wrong, must = cells.lengths != n_items, f"{n_items}"
    if not wrong.any():
        return None
    row = int(wrong.argmax())
    where = f"at {cells.row_place(row)}{_others(wrong)}"
    return f"{column.name} has {cells.lengths[row]} items {where}, and must have {must}"


def _find_disorder(limits: Limits, cells: _Cells) -> str | None:
    """Where a list, or a column without axes, is not in its order, or has something twice."""
    if cells.values.size < 2 or (limits.order is None and not limits.distinct):
        return None
    rows = cells.lists()
    step = np.diff(rows, axis=1)
    if limits.order is not None:
        wrong = np.any(step < 0 if limits.order == "ascending" else step > 0, axis=1)
        if wrong.any():
            return f"is not {limits.order} at {_row(cells, wrong)}"
    if limits.distinct:
        wrong = (np.diff(np.sort(rows, axis=1), axis=1) == 0).any(axis=1)
        if wrong.any():
            return f"names something twice at {_row(cells, wrong)}"
    return None


def _row(cells: _Cells, wrong: NDArray[np.bool_]) -> str:
    return f"{cells.row_place(int(wrong.argmax()))}{_others(wrong)}" if cells.lengths is not None else "some row"


def _judge_sums(name: str, cells: _Cells) -> Iterator[str]:
    """Probabilities of different tokens that add up to more than 1."""
    if cells.values.size and cells.lengths is not None and len(set(cells.lengths.tolist())) == 1:
        wrong = cells.lists().sum(axis=1, dtype=np.float64) > _MOST_PROB
        if wrong.any():
            yield f"{name} adds up to more than 1 at {_row(cells, wrong)}"


def _judge_answers(stored: pa.Table, shape: list[int]) -> Iterator[str]:
    """What is said of answers that are not there."""
    names, answers = stored.schema.names, _Cells.of(stored["answer_ids"], PROMPTS, shape)
    n_ids = answers.lengths if answers.lengths is not None else np.zeros(0, np.int64)
    for name in ("solved", "begins"):
        if name in names:
            wrong = (n_ids == 0) & ~np.asarray(stored[name].is_null().to_numpy())
            if wrong.any():
                yield f"{name} is not null at {_row(answers, wrong)}, where there is no answer"
    if "n_lead" in names:
        wrong = stored["n_lead"].to_numpy() > n_ids
        if wrong.any():
            yield f"n_lead is more than the answer has tokens at {_row(answers, wrong)}"


def _others(wrong: NDArray[np.bool_]) -> str:
    n_others = int(wrong.sum()) - 1
    return f" (and {n_others} more)" if n_others else ""


def _within(limits: Limits, bounds: Mapping[str, float]) -> str:
    """The limits in words, with what the bounds are in this run."""
    words = str(limits)
    named = sorted({one for one in (limits.low, limits.high) if isinstance(one, str)})
    return words + "".join(f" ({name} is {bounds[name]:g} here)" for name in named)
