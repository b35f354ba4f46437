"""The map of prompts by layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer.reports._drawing.plotly_layout import (
    PROB_SCALE,
    Figure,
    Trace,
    axis,
    colorbar,
    layer_axis,
    layout,
    panel_title,
)
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.numbers import round_for_json
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget, prompt_label, target_label
from layertracer.reports._values.visible import isolate, shorten
from layertracer.runs import TraceRecord


def order_prompts(record: TraceRecord, rows: list[int]) -> list[int]:
    """Rows by where their task particle lies, those without one last; then by final probability."""
    particles = record.task_particle.per_prompt
    final = record.target_prob[:, -1]

    def key(row: int) -> tuple[bool, int, float]:
        layer = particles[row]
        return (layer is None, layer if layer is not None else 0, -float(final[row]))

    return sorted(rows, key=key)


def draw_map(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """Target probability of every prompt (row) after every layer (column), embeddings first."""
    del overview
    ordered = order_prompts(record, list(range(budget.map_rows)))
    values = np.column_stack([record.embedding_prob, record.target_prob])[ordered]
    row_height = 18 if len(ordered) <= 40 else max(3, 720 // len(ordered))
    labels = [shorten(isolate(target_label(record, row)), 12) for row in ordered]
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [-1, *range(record.n_layers)],
                "y": list(range(len(ordered))),
                "z": round_for_json(values, digits=3),
                "zmin": 0,
                "zmax": 1,
                "colorscale": PROB_SCALE,
                "xgap": 0.5 if record.n_layers <= 60 else 0,
                "ygap": 0.5 if row_height >= 12 else 0,
                "hovertemplate": "%{customdata}<br>layer %{x}: <b>%{z:.3~g}</b><extra></extra>",
                "colorbar": colorbar(1.0, {0.0: "0", 0.5: "0.5", 1.0: "1"}) | {"ypad": 4},
            },
            _particles(record, ordered, is_dense=row_height < 12),
        ],
        "rows": [
            f"#{row}  {isolate(prompt_label(record, row))}  {isolate(target_label(record, row))}" for row in ordered
        ],
        "prompts": ordered,
        "layout": layout(
            90 + max(60, row_height * len(ordered)),
            margin={"l": 76, "r": 16, "t": 40, "b": 40},
            xaxis=layer_axis(record.n_layers),
            yaxis=axis(
                range=[len(ordered) - 0.5, -0.5],
                showgrid=False,
                tickmode="array",
                tickvals=list(range(len(ordered))) if row_height >= 12 else [],
                ticktext=labels if row_height >= 12 else [],
            ),
            annotations=[panel_title("Target probability, one row per prompt", 1.0)],
        ),
        "layers": {"n": record.n_layers, "embedding": True},
    }


def _particles(record: TraceRecord, ordered: list[int], *, is_dense: bool) -> Trace:
    """A ring, or a dot where rows are thin, on the layer where each prompt's own particle lies."""
    particles = record.task_particle.per_prompt
    places = [(layer, row) for row, prompt in enumerate(ordered) if (layer := particles[prompt]) is not None]
    ring = {"size": 6, "color": "var(--surface)", "line": {"width": 1.5, "color": "var(--ink)"}}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [layer for layer, _ in places],
        "y": [row for _, row in places],
        "marker": {"size": 3, "color": "var(--ink)"} if is_dense else ring,
        "hoverinfo": "skip",
    }


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the map."""
    del record, overview
    return (
        "Target probability of every prompt, rows ordered by where their own task particle lies (ring). "
        "Press a row to see its tokens below."
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the map shows."""
    del overview
    return f"A map of target probability over {record.n_layers} layers, one row per prompt."


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    """Target probability of every prompt after every layer, rows ordered by their own task particle."""
    from layertracer.reports._drawing.paper_style import PROB, WIDTH, finish_layers

    n_rows = record.n_prompts
    figure.set_size_inches(WIDTH, float(np.clip(0.9 + 0.09 * n_rows, 1.6, 6.5)))
    axes = figure.subplots()
    ordered = order_prompts(record, list(range(n_rows)))
    values = np.column_stack([record.embedding_prob, record.target_prob])[ordered]
    image = axes.imshow(
        values,
        cmap=PROB,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(-1.5, record.n_layers - 0.5, n_rows, 0),
    )
    figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03).outline.set_visible(False)
    particles = overview.findings.particle.per_prompt if overview.findings.particle else ()
    places = [(layer, row + 0.5) for row, prompt in enumerate(ordered) if (layer := particles[prompt]) is not None]
    if places:
        x, y = zip(*places, strict=True)
        axes.scatter(x, y, s=min(8.0, 400 / n_rows), facecolors="white", edgecolors="#1c1f24", linewidths=0.6)
    axes.set_title("Target probability, one row per prompt")
    axes.set_yticks([])
    finish_layers(axes, record.n_layers)


MAP = Subject(
    id="map",
    short="Map",
    title="Prompt by prompt",
    lead=_lead,
    alt=_alt,
    figure=draw_map,
    paper=_draw_paper,
)
