"""What a page holds besides its words: the data of its figures, and its tables."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import PROB_SCALE, axis, layout
from layertracer.reports._sections.curves import draw_curves
from layertracer.reports._sections.heat import draw_map, draw_strips
from layertracer.reports._sections.lens_grid import lens_data
from layertracer.reports._sections.tables import layer_table, prompt_table, sensitivity_table
from layertracer.reports._sections.trust import draw_dominant, draw_sensitivity
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


def figure_data(record: TraceRecord, overview: Overview, budget: Budget) -> dict[str, Any]:
    """Everything that the page's script draws, as JSON values."""
    figures = {
        "curves": draw_curves(record, overview, n_lines=budget.lines),
        "strips": draw_strips(record, overview),
        "map": draw_map(record, list(range(budget.map_rows))),
        **({"sensitivity": draw_sensitivity(record)} if record.sensitivity.parameter else {}),
    }
    if record.dominant.is_known:
        figures["dominant"] = draw_dominant(record)
    return {
        "figures": figures,
        "lens": lens_data(record, budget.lens),
        "lens_layout": _lens_layout(),
        "prob_scale": PROB_SCALE,
    }


def _lens_layout() -> dict[str, Any]:
    top = axis(side="top", showgrid=False, tickmode="array")
    side = axis(
        showgrid=False,
        tickmode="linear",
        tick0=0,
        title={"text": "layer", "font": {"size": 12, "color": "var(--ink-soft)"}},
    )
    return layout(400, margin={"l": 76, "r": 16, "t": 30, "b": 16}, xaxis=top, yaxis=side)


def table_data(record: TraceRecord, overview: Overview, budget: Budget) -> dict[str, Table]:
    """The tables behind the figures, by section."""
    return {
        "curves": layer_table(record, overview),
        "sensitivity": sensitivity_table(record.sensitivity),
        "prompts": prompt_table(record, budget.table_rows),
    }
