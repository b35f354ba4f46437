"""The columns of one run: those that every run has, and those of its measures, effects and lenses, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layertracer._errors import UsageError
from layertracer._types import KNOWN_ROWS, MEASURE_NAME, RESERVED_NAMES, TARGET_LOG_PROB, MeasureInfo
from layertracer.runs._json_rules import described
from layertracer.runs._lens_records import LENS_AXES
from layertracer.runs._schema import (
    DIMENSIONS,
    EFFECT,
    HEADER_FILE,
    LAYERS,
    PERTURBATIONS,
    PROMPTS,
    TOKENS,
    Column,
    Limits,
    Table,
)

ROUNDING = 1e-4
"""What a measure may lie beyond its bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a run has by name, and how many rows follow.

    Attributes:
        measures: Its layer measures.
        rows: Its row measures beside the JS divergence.
        lenses: Names of its lenses beside the logit lens.
        n_draws: Number of draws of every perturbation.
    """

    measures: tuple[MeasureInfo, ...] = ()
    rows: tuple[MeasureInfo, ...] = ()
    lenses: tuple[str, ...] = ()
    n_draws: tuple[int, ...] = (1,)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of the run."""
        several = len(self.n_draws) > 1
        layers = [*LAYERS.columns, *map(_measure_column, self.measures), *self._lens_columns(LAYERS)]
        rows = [*PERTURBATIONS.columns, *map(_row_column, self.rows)]
        return (
            replace(LAYERS, columns=tuple(layers)),
            _by_effect(replace(PERTURBATIONS, columns=tuple(rows)), several=several),
            replace(PROMPTS, columns=(*PROMPTS.columns, *self._lens_columns(PROMPTS))),
            _by_effect(DIMENSIONS, several=several),
            TOKENS,
        )

    def _lens_columns(self, table: Table) -> Iterator[Column]:
        for lens in self.lenses:
            for column in table.columns:
                if column.name in LENS_AXES and not (table is PROMPTS and column.name != "embedding_log_prob"):
                    yield replace(column, name=f"{lens}.{column.name}", meaning=f"of the lens {lens}: {column.meaning}")


def _measure_column(info: MeasureInfo) -> Column:
    limits = Limits(low=info.low, high=info.high, allowance=ROUNDING, nan="anywhere")
    return Column(name=info.name, type="float32", meaning=info.meaning, unit=info.unit, limits=limits)


def _row_column(info: MeasureInfo) -> Column:
    column = _measure_column(info)
    if info == TARGET_LOG_PROB:
        return replace(column, limits=Limits(high=0.0, allowance=1e-3, nan="layer"))
    return column


def _by_effect(table: Table, *, several: bool) -> Table:
    """A table whose rows are of several perturbations, one behind the other; with one it has no such column."""
    if not several:
        return table
    return replace(
        table,
        rows=f"effect × {table.rows}",
        axes=(EFFECT.name, *table.axes),
        columns=(EFFECT, *table.columns),
    )


def without_effect(table: Table) -> Table:
    """The table of the rows of one effect alone."""
    if EFFECT.name not in table.axes:
        return table
    return replace(table, axes=table.axes[1:], columns=table.columns[1:])


def describe_columns(table: Table) -> list[dict[str, Any]]:
    """The columns of a table as JSON values, as they stand in the header."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "unit": column.unit,
            "meaning": column.meaning,
            "nullable": column.nullable,
            "low": None if column.limits is None else column.limits.low,
            "high": None if column.limits is None else column.limits.high,
        }
        for column in table.columns
    ]


def named_in(header: Mapping[str, Any]) -> Named:
    """What a run has by name, as its header says; its fields are of their types.

    Raises:
        UsageError: If a measure cannot be: its bounds, its unit or its meaning.
    """
    files = header["files"]
    shape = header["shape"]
    return Named(
        measures=tuple(_infos(files[LAYERS.file]["columns"], LAYERS)),
        rows=tuple(_infos(files[PERTURBATIONS.file]["columns"], PERTURBATIONS)),
        lenses=tuple(lens["name"] for lens in header["lenses"]),
        n_draws=(shape["n_draws"], *shape["n_further_draws"]),
    )


def _infos(columns: Sequence[Mapping[str, Any]], table: Table) -> Iterator[MeasureInfo]:
    """What is said of the columns that not every run has, as far as they can be measures."""
    known = {EFFECT.name, *(column.name for column in table.columns), *RESERVED_NAMES}
    if table is PERTURBATIONS:
        known -= {TARGET_LOG_PROB.name}
    for column in columns:
        name = column["name"]
        if name in known or column["type"] != "float32" or not MEASURE_NAME.fullmatch(name):
            continue
        bounds = {bound: column[bound] for bound in ("low", "high")}  # one that is a name is refused there
        given = MeasureInfo(name=name, unit=column["unit"] or "", meaning=column["meaning"], **bounds)
        yield KNOWN_ROWS.get(name, given) if table is PERTURBATIONS else given


def find_column_faults(header: Mapping[str, Any]) -> Iterator[str]:
    """Columns in a header that are not those of what the run has by name; its fields are of their types."""
    try:
        named = named_in(header)
    except UsageError as error:
        yield f"files has a column that cannot be: {error}"
        return
    for name in sorted({info.name for info in named.measures} & {info.name for info in named.rows}):
        yield f"files has {described(name)} twice, as a layer measure and as a row measure"
    for table in named.tables:
        place, listed = f"files.{table.file}.columns", header["files"][table.file]["columns"]
        names, known = [column["name"] for column in listed], {column.name for column in table.columns}
        odd = [name for name in names if name not in known or names.count(name) > 1]
        if odd:
            yield f"{place} has {described(odd[0])}, which is no measure, is there twice, or is of no lens of the run"
        else:
            yield from _compare_columns(table, listed, place)


def find_other_words(header: Mapping[str, Any]) -> Iterator[str]:
    """What a header says otherwise of columns that every run has than this version, by which their numbers are held.

    Args:
        header: A header without faults.
    """
    for table in named_in(header).tables:
        listed = {column["name"]: column for column in header["files"][table.file]["columns"]}
        for known in describe_columns(table):
            name = known["name"]
            others = [word for word in ("meaning", "low", "high") if listed.get(name, known)[word] != known[word]]
            if others:
                said = ", ".join(f"{word} {described(listed[name][word])}" for word in others)
                must = ", ".join(f"{word} {described(known[word])}" for word in others)
                yield (
                    f"{HEADER_FILE} says of {name} in {table.file}: {said}. This version, which holds the numbers to "
                    f"what it knows itself, says: {must}."
                )


def _compare_columns(table: Table, listed: Sequence[Mapping[str, Any]], place: str) -> Iterator[str]:
    """The first column of a table that is not listed, or is listed as another one."""
    for index, column in enumerate(table.columns):
        if index >= len(listed):
            yield f"{place} has no {described(column.name)}"
            return
        for name in ("name", "type", "unit", "nullable"):
            found, expected = listed[index][name], getattr(column, name)
            if found != expected:
                yield f"{place}[{index}].{name} is {described(found)}, and must be {described(expected)}"
                return
