"""Other measures of each layer: a row of cells for each, whatever it is."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._drawing.strip_rows import draw_strip_rows
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.named import measure_columns, measure_strips, measure_title
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.visible import visible_line
from layertracer.runs import TraceRecord


def _lead(record: TraceRecord, overview: Overview) -> str:
    del overview
    said = (
        f"{measure_title(measure)}: {visible_line(measure.meaning).rstrip('.')} ({visible_line(measure.unit)})."
        for measure in record.measures.values()
    )
    return f"{' '.join(said)} Means over the prompts."


def _alt(record: TraceRecord, overview: Overview) -> str:
    del overview
    names = ", ".join(map(measure_title, record.measures.values()))
    return f"Rows of cells over {record.n_layers} layers: {names}."


def draw_measures(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """One row of cells for each layer measure."""
    del overview, budget
    return draw_strip_rows(measure_strips(record), record.n_layers)


def _numbers(record: TraceRecord, overview: Overview, budget: Budget) -> Table:
    del overview, budget
    columns = measure_columns(record)
    rows = zip(map(str, range(record.n_layers)), *columns.values(), strict=True)
    return Table(columns=("Layer", *columns), rows=tuple(rows), numeric=frozenset(range(1 + len(columns))))


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    del overview
    from layertracer.reports._drawing.paper_style import draw_strip_rows as draw_rows

    draw_rows(figure, measure_strips(record), record.n_layers)


MEASURES = Subject(
    id="measures",
    short="Measures",
    title="Other measures of each layer",
    lead=_lead,
    alt=_alt,
    applies=lambda record, _overview: bool(record.measures),
    figure=draw_measures,
    numbers=_numbers,
    strips=lambda record, _overview: measure_strips(record),
    paper=_draw_paper,
)
