"""The two curves on one layer axis, with the mixers underneath."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer._types import Interval
from layertracer.reports._drawing.palette import JS, MIXER_COLORS, TARGET, mixer_slots
from layertracer.reports._drawing.plotly_layout import (
    Figure,
    Trace,
    axis,
    layer_axis,
    layer_label,
    layer_line,
    layer_span,
    layout,
    panel_title,
    reach_axis,
)
from layertracer.reports._sections.clauses import bands, gaps, marked, shaded
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._sections.tables import layer_table
from layertracer.reports._values.numbers import LEAST_JS_BITS, least_probability, round_for_json, show_number
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Curve
from layertracer.reports._values.visible import visible_line
from layertracer.reports._values.wording import missing_part, perturbation_clause, site_name, vulnerable_label
from layertracer.runs import TraceRecord

_TARGET = {"xaxis": "x", "yaxis": "y"}
_JS = {"xaxis": "x", "yaxis": "y2"}
_LONE_BAND = 0.18
"""Half the width, in layers, of the interval of a layer between two gaps."""


def draw_curves(record: TraceRecord, overview: Overview, *, n_lines: int) -> Figure:
    """Target probability and JS divergence over layers: mean, interval, single prompts, marked layers."""
    target, js = overview.target, overview.js
    embedding = float(record.embedding_prob.mean()) if record.n_prompts else float("nan")
    first = {"x": [-1, *range(record.n_layers)]}
    layers = {"x": list(range(record.n_layers))}
    data = [
        *_prompt_lines(np.column_stack([record.embedding_prob, record.target_prob])[:n_lines], -1, "target", _TARGET),
        _band(target, "target", _TARGET),
        _mean(np.concatenate([[embedding], target.mean]), target, "target", first | _TARGET, unit=""),
        *_prompt_lines(_js_per_prompt(record)[:n_lines], 0, "js", _JS),
        _band(js, "js", _JS),
        _mean(js.mean, js, "js", layers | _JS, unit=" bits"),
        mixer_strip(record, "y3"),
        _mixer_names(record),
        *mixer_legend(record),
    ]
    marks, least = _marks(overview, record.n_layers), least_probability(record.spec)
    return {
        "data": data,
        "layout": layout(
            540,
            xaxis=layer_axis(record.n_layers, anchor="y3"),
            yaxis=axis(domain=[0.58, 0.985], nticks=6, **reach_axis(record.target_prob, least)),
            yaxis2=axis(domain=[0.10, 0.475], nticks=6, **reach_axis(record.js_bits, LEAST_JS_BITS)),
            yaxis3=axis(domain=[0.0, 0.035], showticklabels=False, showgrid=False, range=[-0.5, 0.5]),
            hovermode="x unified",
            hoverdistance=-1,
            hoversubplots="axis",
            showlegend=True,
            legend=_legend(),
            shapes=marks["shapes"],
            annotations=[
                panel_title("Target probability", 0.985),
                panel_title(f"JS divergence at the {site_name(record.spec)}, bits", 0.475),
                *marks["annotations"],
            ],
        ),
        "layers": {"n": record.n_layers, "embedding": True},
    }


def _legend() -> dict[str, Any]:
    return {
        "orientation": "h",
        "x": 1,
        "xanchor": "right",
        "y": 1.0,
        "yanchor": "bottom",
        "font": {"size": 11, "color": "var(--ink-soft)"},
        "bgcolor": "rgba(0,0,0,0)",
        "itemclick": False,
        "itemdoubleclick": False,
        "itemwidth": 30,
    }


def _js_per_prompt(record: TraceRecord) -> np.ndarray:
    return record.js_bits.mean(axis=1) if record.n_draws else np.full((record.n_prompts, record.n_layers), np.nan)


def _prompt_lines(values: np.ndarray, start: int, color: str, axes: dict[str, str]) -> list[Trace]:
    """All single prompts as one trace, with gaps between them."""
    if len(values) < 2:
        return []
    layers = list(range(start, start + values.shape[1]))
    x = [position for _ in values for position in [*layers, None]]
    y = [number for row in round_for_json(values, digits=3) for number in [*row, None]]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": y,
            "line": {"color": f"var(--{color}-faint)", "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
            "connectgaps": False,
        }
        | axes
    ]


def _band(curve: Curve, color: str, axes: dict[str, str]) -> Trace:
    """The interval, one closed shape for each stretch of layers that have one; a lone layer's is a narrow box."""
    x: list[float | None] = []
    y: list[float | None] = []
    for run in curve.runs:
        layers = list(run) if len(run) > 1 else [run[0] - _LONE_BAND, run[0] + _LONE_BAND]
        low, high = (round_for_json(edge[list(run)]) * (1 if len(run) > 1 else 2) for edge in (curve.low, curve.high))
        x += [*layers, *reversed(layers), None]
        y += [*low, *reversed(high), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": f"var(--{color}-band)",
        "hoverinfo": "skip",
        "showlegend": False,
    } | axes


def _mean(values: np.ndarray, curve: Curve, color: str, place: dict[str, Any], *, unit: str) -> Trace:
    """The mean curve; `values` may begin with the embedding, which has no interval."""
    intervals = [["", ""]] * (len(values) - len(curve.mean)) + [
        [show_number(low), show_number(high)] for low, high in zip(curve.low, curve.high, strict=True)
    ]
    label = "target probability" if color == "target" else "JS divergence"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "y": round_for_json(values),
        "customdata": intervals,
        "name": label,
        "showlegend": False,
        "line": {"color": f"var(--{color})", "width": 2.25},
        "marker": {"size": 5, "color": f"var(--{color})"},
        "cliponaxis": False,
        "hovertemplate": f"{label} <b>%{{y:.3~g}}</b>{unit}  (%{{customdata[0]}} to %{{customdata[1]}})<extra></extra>",
    } | place


def _marks(overview: Overview, n_layers: int) -> dict[str, list[dict[str, Any]]]:
    shapes: list[dict[str, Any]] = []
    annotations = []
    particle, vulnerable = overview.findings.particle, overview.findings.vulnerable
    found: list[tuple[str, int, Interval | None, str, str]] = []
    if particle is not None and particle.layer is not None:
        found.append((f"task particle {particle.layer}", particle.layer, particle.interval, "y", "target"))
    if vulnerable is not None:
        found.append((vulnerable_label(vulnerable), vulnerable.layer, vulnerable.interval, "y2", "js"))
    for label, layer, interval, axis_name, color in found:
        if interval is not None:
            shapes.append(layer_span(interval.low, interval.high, axis_name, f"var(--{color}-span)"))
        shapes.append(layer_line(layer, axis_name, f"var(--{color})"))
        annotations.append(layer_label(label, layer, n_layers, axis_name, f"var(--{color}-ink)"))
    return {"shapes": shapes, "annotations": annotations}


def mixer_strip(record: TraceRecord, axis_name: str) -> Trace:
    """One coloured cell per layer: its kind of mixer."""
    kinds = [layer.mixer for layer in record.model.layers]
    slots = mixer_slots(kinds)
    n_slots = len(MIXER_COLORS)
    steps = [[edge / n_slots, f"var(--mixer-{slot})"] for slot in range(n_slots) for edge in (slot, slot + 1)]
    return {
        "type": "heatmap",
        "x": list(range(record.n_layers)),
        "y": [0],
        "z": [[slots[kind] for kind in kinds]],
        "zmin": -0.5,
        "zmax": n_slots - 0.5,
        "colorscale": steps,
        "showscale": False,
        "xgap": 1.5,
        "hoverinfo": "skip",
        "xaxis": "x",
        "yaxis": axis_name,
    }


def _mixer_names(record: TraceRecord) -> Trace:
    """What the hover label says of a layer's mixer: a marker of its own colour, hidden on the strip."""
    kinds = [layer.mixer for layer in record.model.layers]
    slots, missing = mixer_slots(kinds), set(record.layers_without_site)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(range(record.n_layers)),
        "y": [0] * record.n_layers,
        "marker": {"symbol": "square", "size": 6, "color": [f"var(--mixer-{slots[kind]})" for kind in kinds]},
        "customdata": [
            f"{visible_line(kind)} · {missing_part(record.spec)} here" if layer in missing else visible_line(kind)
            for layer, kind in enumerate(kinds)
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "showlegend": False,
        "xaxis": "x",
        "yaxis": "y3",
    }


def mixer_legend(record: TraceRecord) -> list[Trace]:
    """One entry of the legend per kind of mixer."""
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [None],
            "y": [None],
            "name": visible_line(kind),
            "marker": {"symbol": "square", "size": 10, "color": f"var(--mixer-{slot})"},
            "hoverinfo": "skip",
            "showlegend": True,
        }
        for kind, slot in mixer_slots(layer.mixer for layer in record.model.layers).items()
    ]


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the curves."""
    return (
        "Above, the probability of the target token read after each layer. Below, how far the output moves "
        f"{perturbation_clause(record.spec)}, one layer at a time. {bands(record)} “emb” is read "
        f"from the embeddings; colours give the kind of mixer.{shaded(overview)}"
        f"{gaps(record, 'A gap in the lower curve is a layer with')}"
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the curves show."""
    return f"Two curves over {record.n_layers} layers: {marked(overview)}."


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    """Target probability and JS divergence over layers, with the mixers underneath."""
    from layertracer.reports._drawing.paper_style import WIDTH, draw_curve, draw_mixers, mark, reach

    figure.set_size_inches(WIDTH, 3.8)
    target, js, mixers = figure.subplots(3, 1, sharex=True, height_ratios=[10, 10, 1])
    with_embedding = np.column_stack([record.embedding_prob, record.target_prob])
    draw_curve(target, overview.target, with_embedding, first=-1, color=TARGET)
    draw_curve(js, overview.js, record.js_bits.mean(axis=1), first=0, color=JS)
    target.set_title("Target probability")
    js.set_title(f"JS divergence at the {site_name(record.spec)} (bits)")
    particle, vulnerable = overview.findings.particle, overview.findings.vulnerable
    if particle is not None and particle.layer is not None:
        mark(
            target,
            particle.layer,
            particle.interval,
            f"task particle {particle.layer}",
            color=TARGET,
            n_layers=record.n_layers,
        )
    if vulnerable is not None:
        label = vulnerable_label(vulnerable)
        mark(js, vulnerable.layer, vulnerable.interval, label, color=JS, n_layers=record.n_layers)
    reach(target, least_probability(record.spec))
    reach(js, LEAST_JS_BITS)
    draw_mixers(mixers, record)


CURVES = Subject(
    id="curves",
    short="Curves",
    title="Where the task starts, and where it breaks",
    lead=_lead,
    alt=_alt,
    figure=lambda record, overview, budget: draw_curves(record, overview, n_lines=budget.lines),
    numbers=lambda record, overview, _budget: layer_table(record, overview),
    paper=_draw_paper,
)
