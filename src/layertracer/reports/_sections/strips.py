"""Two rows of cells: what each layer adds to the target, and how far the output moves."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._drawing.strip_rows import draw_strip_rows
from layertracer.reports._sections.clauses import gaps, marked
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.wording import site_name
from layertracer.runs import TraceRecord


def draw_strips(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """One row of cells for the gain in target probability, one for the JS divergence."""
    del budget
    return draw_strip_rows(overview.strips, record.n_layers)


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the rows."""
    return (
        "What each layer adds to the target's probability (green up, red down), and the mean JS divergence at the "
        f"{site_name(record.spec)}. Frames mark the task particle and {_framed(overview)}."
        f"{gaps(record, 'A dotted, empty cell is a layer with')}"
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the rows show."""
    return f"Two heat strips over {record.n_layers} layers: {marked(overview)}."


def _framed(overview: Overview) -> str:
    vulnerable = overview.findings.vulnerable
    is_clear = vulnerable is None or vulnerable.is_clear
    return "the vulnerable layer" if is_clear else "the layer of the largest divergence, which does not stand out"


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    from layertracer.reports._drawing.paper_style import draw_strip_rows as draw_rows

    draw_rows(figure, overview.strips, record.n_layers)


STRIPS = Subject(
    id="strips",
    short="Heat strips",
    title="Layer by layer",
    lead=_lead,
    alt=_alt,
    figure=draw_strips,
    strips=lambda _record, overview: overview.strips,
    paper=_draw_paper,
)
