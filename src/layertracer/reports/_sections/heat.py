"""Heat strips, and the map of prompts by layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layertracer.reports._drawing.plotly_layout import (
    JS_SCALE,
    PROB_SCALE,
    SIGNED_SCALE,
    Figure,
    Trace,
    axis,
    colorbar,
    layer_axis,
    layout,
    panel_title,
)
from layertracer.reports._values.numbers import round_for_json, show_number
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Strip
from layertracer.reports._values.prompts import prompt_label, target_label
from layertracer.reports._values.visible import isolate, shorten
from layertracer.runs import TraceRecord

_STRIP_TOPS = (0.90, 0.36)
_STRIP_HEIGHT = 0.30


def draw_strips(record: TraceRecord, overview: Overview) -> Figure:
    """One row of cells for the gain in target probability, one for the JS divergence."""
    marks = [_outline(strip, f"y{number or ''}") for strip, number in zip(overview.strips, (0, 2), strict=True)]
    return {
        "data": [_strip(strip, row) for row, strip in enumerate(overview.strips)],
        "layout": layout(
            236,
            margin={"l": 76, "r": 16, "t": 40, "b": 40},
            xaxis=layer_axis(record.n_layers, anchor="y2"),
            yaxis=_strip_axis(_STRIP_TOPS[0]),
            yaxis2=_strip_axis(_STRIP_TOPS[1]),
            annotations=[
                panel_title(strip.title, top) for strip, top in zip(overview.strips, _STRIP_TOPS, strict=True)
            ],
            shapes=[*_empty_cells(overview.strips), *(mark for mark in marks if mark)],
        ),
        "layers": {"n": record.n_layers, "embedding": False},
    }


def _strip_axis(top: float) -> dict[str, Any]:
    return axis(domain=[top - _STRIP_HEIGHT, top], showticklabels=False, showgrid=False, range=[-0.5, 0.5])


def _empty_cells(strips: Sequence[Strip]) -> list[dict[str, Any]]:
    """A dotted frame for every layer whose value is missing."""
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": f"y{row + 1 if row else ''} domain",
            "x0": layer - 0.4,
            "x1": layer + 0.4,
            "y0": 0.06,
            "y1": 0.94,
            "line": {"color": "var(--muted)", "width": 1, "dash": "dot"},
        }
        for row, strip in enumerate(strips)
        if strip.missing is not None
        for layer in np.flatnonzero(np.isnan(strip.values)).tolist()
    ]


def _hover_text(value: float, strip: Strip) -> str:
    """What a cell's label says: its value with its unit, or why there is none.

    Example:
        >>> strip = Strip(
        ...     title="", unit="bits", values=np.array([0.25, np.nan]), kind="magnitude", marked=None, mark_label="",
        ...     missing="no MLP here",
        ... )
        >>> [_hover_text(value, strip) for value in strip.values]
        ['0.25 bits', 'no MLP here']
    """
    if np.isnan(value) and strip.missing is not None:
        return strip.missing
    return f"{show_number(value, sign=strip.kind == 'signed')} {strip.unit}"


def _strip(strip: Strip, row: int) -> Trace:
    is_signed = strip.kind == "signed"
    texts = [_cell_text(value, signed=is_signed) for value in strip.values]
    return {
        "type": "heatmap",
        "x": list(range(len(strip.values))),
        "y": [0],
        "z": [round_for_json(strip.values)],
        "zmin": -strip.scale if is_signed else 0,
        "zmax": strip.scale,
        "colorscale": SIGNED_SCALE if is_signed else JS_SCALE,
        "xgap": 1.5,
        "text": [texts],
        "texttemplate": "%{text}",
        "textfont": {"size": 10.5},
        "customdata": [[_hover_text(value, strip) for value in strip.values]],
        "hovertemplate": "layer %{x}<br><b>%{customdata}</b><extra></extra>",
        "colorbar": colorbar(_STRIP_TOPS[row] + 0.02, _scale_ticks(strip)),
        "xaxis": "x",
        "yaxis": "y2" if row else "y",
    }


def _scale_ticks(strip: Strip) -> dict[float, str]:
    top = {strip.scale: show_number(strip.scale, digits=2, sign=strip.kind == "signed")}
    low = {-strip.scale: show_number(-strip.scale, digits=2)} if strip.kind == "signed" else {}
    return low | {0.0: "0"} | top


def _cell_text(value: float, *, signed: bool) -> str:
    """Two decimals without the leading zero, nothing where that would be zero.

    Example:
        >>> _cell_text(0.314, signed=True), _cell_text(-0.05, signed=True), _cell_text(0.001, signed=False)
        ('+.31', '−.05', '')
    """
    if not np.isfinite(value) or abs(value) < 0.005:
        return ""
    digits = f"{abs(value):.2f}".removeprefix("0")
    sign = ("−" if value < 0 else "+") if signed else ""
    return sign + digits


def _outline(strip: Strip, axis_name: str) -> dict[str, Any] | None:
    """A frame around the marked layer's cell."""
    if strip.marked is None:
        return None
    return {
        "type": "rect",
        "xref": "x",
        "yref": f"{axis_name} domain",
        "x0": strip.marked - 0.5,
        "x1": strip.marked + 0.5,
        "y0": -0.04,
        "y1": 1.04,
        "line": {"color": "var(--ink)", "width": 2},
    }


def order_prompts(record: TraceRecord, rows: list[int]) -> list[int]:
    """Rows by where their task particle lies, those without one last; then by final probability."""
    particles = record.task_particle.per_prompt
    final = record.target_prob[:, -1]

    def key(row: int) -> tuple[bool, int, float]:
        layer = particles[row]
        return (layer is None, layer if layer is not None else 0, -float(final[row]))

    return sorted(rows, key=key)


def draw_map(record: TraceRecord, rows: list[int]) -> Figure:
    """Target probability of every prompt (row) after every layer (column), embeddings first."""
    ordered = order_prompts(record, rows)
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
