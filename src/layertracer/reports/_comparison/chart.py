"""The figures of a comparison: curves overlaid on relative depth, places with intervals, differences, sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from layertracer._types import Interval
from layertracer.comparisons import DepthCurve, ModelComparison, ModelSummary
from layertracer.reports._comparison.overview import model_label, own_criterion, pair_label
from layertracer.reports._drawing.plotly_layout import (
    Figure,
    Trace,
    axis,
    layout,
    legend_below,
    panel_title,
    reach_axis,
)
from layertracer.reports._values.numbers import (
    LEAST_JS_BITS,
    least_probability,
    round_for_json,
    show_number,
    show_parameters,
)
from layertracer.reports._values.wording import site_name

N_COLORS = 8
MAX_ROWS = 40
_DASHES = ("solid", "6px,3px", "2px,2px", "8px,3px,2px,3px")
_SYMBOLS = ("circle", "square", "triangle-up", "cross")
_ROW = 40
"""Pixels of a row in a figure of intervals."""


def draw_comparison(comparison: ModelComparison) -> dict[str, Figure]:
    """Every figure of the page that has something to show."""
    figures = {"curves": _draw_curves(comparison), "places": _draw_places(comparison)}
    rows = _difference_rows(comparison)
    if rows:
        figures["differences"] = _draw_differences(comparison, rows)
    if len({model.n_parameters for model in comparison.models if model.mean_js is not None}) > 1:
        figures["scaling"] = _draw_scaling(comparison)
    return figures


def _color(number: int) -> str:
    return f"var(--model-{number % N_COLORS})"


def _style(number: int) -> tuple[str, str]:
    """Dash and symbol: what tells models apart that share a colour."""
    turn = number // N_COLORS
    return _DASHES[turn % len(_DASHES)], _SYMBOLS[turn % len(_SYMBOLS)]


def _draw_curves(comparison: ModelComparison) -> Figure:
    """Target probability above, JS divergence below, one colour a model."""
    data: list[Trace] = []
    for number, model in enumerate(comparison.models):
        label = model_label(model.label)
        data += [_band(model.target_curve, number, "y"), _line(model.target_curve, number, label, "y")]
        if model.js_curve is not None:
            data += [_band(model.js_curve, number, "y2"), _line(model.js_curve, number, label, "y2")]
    data += _marks(comparison)
    site, least = site_name(comparison.spec), least_probability(comparison.spec)
    base = layout(
        560,
        margin={"l": 56, "r": 16, "t": 36, "b": 48},
        xaxis=_depth_axis(anchor="y2"),
        yaxis=axis(domain=[0.56, 1.0], nticks=6, **reach_axis(_highest(comparison, "target_curve"), least)),
        yaxis2=axis(domain=[0.0, 0.44], nticks=6, **reach_axis(_highest(comparison, "js_curve"), LEAST_JS_BITS)),
        hovermode="closest",
        hoverdistance=-1,
        showlegend=True,
        legend=legend_below(),
        annotations=[panel_title("Target probability", 1.0), panel_title(f"JS divergence at the {site}, bits", 0.44)],
    )
    return {"data": data, "layout": base, "legend_below": True}


def _highest(comparison: ModelComparison, name: str) -> np.ndarray:
    """All that is drawn of one kind of curve: means and the upper ends of their intervals."""
    curves = [curve for model in comparison.models if (curve := getattr(model, name)) is not None]
    return np.concatenate([[np.nan], *(one for curve in curves for one in (curve.mean, curve.high))])


def _depth_axis(**settings: Any) -> dict[str, Any]:
    title = {"text": "relative depth", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    return axis(
        range=[0, 1.03], tickmode="array", tickvals=[0.2, 0.4, 0.6, 0.8, 1], showgrid=False, title=title, **settings
    )


def _band(curve: DepthCurve, number: int, axis_name: str) -> Trace:
    """The interval of a curve, where there is one."""
    known = np.isfinite(curve.low)
    x, low, high = (round_for_json(one[known]) for one in (curve.depth, curve.low, curve.high))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*low, *reversed(high)],
        "line": {"width": 0, "color": _color(number)},
        "fill": "toself",
        "fillcolor": _color(number),
        "opacity": 0.14,
        "hoverinfo": "skip",
        "showlegend": False,
        "xaxis": "x",
        "yaxis": axis_name,
    }


def _line(curve: DepthCurve, number: int, label: str, axis_name: str) -> Trace:
    dash, symbol = _style(number)
    unit = " bits" if axis_name == "y2" else ""
    ends = [[label, show_number(low), show_number(high)] for low, high in zip(curve.low, curve.high, strict=True)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": round_for_json(curve.depth),
        "y": round_for_json(curve.mean),
        "name": label,
        "customdata": ends,
        "line": {"color": _color(number), "width": 2, "dash": dash},
        "marker": {"size": 4.5, "color": _color(number), "symbol": symbol},
        "connectgaps": False,
        "cliponaxis": False,
        "showlegend": axis_name == "y",
        "hovertemplate": (
            f"<b>%{{customdata[0]}}</b><br>depth %{{x:.2~f}}: %{{y:.3~g}}{unit} "
            "(%{customdata[1]} to %{customdata[2]})<extra></extra>"
        ),
        "xaxis": "x",
        "yaxis": axis_name,
    }


def _marks(comparison: ModelComparison) -> list[Trace]:
    """A ring where each task particle lies on its curve, a diamond where each vulnerable layer does."""
    rings, diamonds = [], []
    for number, model in enumerate(comparison.models):
        label = model_label(model.label)
        own = next((one for one in model.particles if one.is_headline), None)
        if own is not None and own.layer is not None:
            rings.append((own.depth, float(model.target_curve.mean[own.layer]), number, f"{label}: task particle"))
        if model.vulnerable is not None and model.js_curve is not None:
            height = float(model.js_curve.mean[model.vulnerable.layer])
            standing = "vulnerable layer" if model.vulnerable.is_clear else "largest, but no layer stands out"
            diamonds.append((model.vulnerable.depth, height, number, f"{label}: {standing}"))
    return [
        _points(rings, "circle-open", "y", "task particle"),
        _points(diamonds, "diamond-open", "y2", "vulnerable layer"),
    ]


def _points(places: list[Any], symbol: str, axis_name: str, name: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [round_for_json(float(one[0])) for one in places],
        "y": [round_for_json(one[1]) for one in places],
        "marker": {"symbol": symbol, "size": 14, "line": {"width": 2.5}, "color": [_color(one[2]) for one in places]},
        "customdata": [one[3] for one in places],
        "hovertemplate": "%{customdata}<br>depth %{x:.2~f}<extra></extra>",
        "name": name,
        "showlegend": False,
        "cliponaxis": False,
        "xaxis": "x",
        "yaxis": axis_name,
    }


def _draw_places(comparison: ModelComparison) -> Figure:
    """One row a model: its particle and its vulnerable layer on relative depth, with their intervals."""
    models = comparison.models[:MAX_ROWS]
    rings: list[Any] = []
    clear: list[Any] = []
    unclear: list[Any] = []
    for row, model in enumerate(models):
        own = next((one for one in model.particles if one.is_headline), None)
        if own is not None and own.depth is not None:
            rings.append((own.depth, own.interval, row - 0.1))
        if model.vulnerable is not None:
            places = clear if model.vulnerable.is_clear else unclear
            places.append((model.vulnerable.depth, model.vulnerable.interval, row + 0.14))
    particle = f"task particle ({own_criterion(comparison)})"
    data = [
        _intervals(rings, particle, "var(--target)", "circle"),
        *([_intervals(clear, "vulnerable layer", "var(--js)", "diamond")] if clear else []),
        *([_intervals(unclear, "largest JS, none stands out", "var(--js)", "diamond-open")] if unclear else []),
    ]
    threshold = comparison.settings.deep_depth
    line = {"type": "line", "xref": "x", "yref": "paper", "x0": threshold, "x1": threshold, "y0": 0, "y1": 1,
            "line": {"color": "var(--muted)", "width": 1, "dash": "4px,3px"}, "layer": "below"}  # fmt: skip
    names = [model_label(model.label) for model in models]
    return _rows_figure(data, names, x=_depth_axis(), shapes=[line])


def _difference_rows(comparison: ModelComparison) -> list[tuple[str, float, Interval | None]]:
    rows = []
    for pair in comparison.pairs[:MAX_ROWS]:
        one = next(one for one in pair.differences if one.quantity == "mean_js_bits")
        if one.value is not None:
            method = "" if pair.is_paired else " (unpaired)"
            rows.append((pair_label(pair) + method, one.value, one.interval))
    return rows


def _draw_differences(comparison: ModelComparison, rows: list[tuple[str, float, Interval | None]]) -> Figure:
    """One row a pair: how far their mean JS divergences are apart."""
    data = [
        _intervals(
            [(value, interval, row) for row, (_, value, interval) in enumerate(rows)],
            f"difference of the mean JS divergence at the {site_name(comparison.spec)}",
            "var(--js)",
            "circle",
        )
    ]
    ends = [
        end for _, value, interval in rows for end in ((value, interval.low, interval.high) if interval else (value,))
    ]
    reach = 1.1 * max(abs(end) for end in ends) or 0.01
    title = {"text": "mean JS divergence, bits: difference", "font": {"size": 12, "color": "var(--ink-soft)"}}
    x = axis(range=[-reach, reach], zeroline=True, zerolinecolor="var(--muted)", nticks=7, title=title)
    return _rows_figure(data, [name for name, _, _ in rows], x=x, shapes=[], has_legend=False)


def _intervals(rows: list[Any], name: str, color: str, symbol: str) -> Trace:
    """Points with horizontal intervals, each at its row."""
    low = [round_for_json(value - (value if interval is None else interval.low)) for value, interval, _ in rows]
    high = [round_for_json((value if interval is None else interval.high) - value) for value, interval, _ in rows]
    ends = ["" if one is None else f"{one.low:.3g} to {one.high:.3g}" for _, one, _ in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [round_for_json(float(value)) for value, _, _ in rows],
        "y": [row for _, _, row in rows],
        "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": color, "width": 4},
        "marker": {"symbol": symbol, "size": 9, "color": color},
        "name": name,
        "customdata": ends,
        "hovertemplate": "%{x:.3~g} (%{customdata})<extra></extra>",
        "cliponaxis": False,
    }


def _rows_figure(
    data: list[Trace], names: list[str], *, x: dict[str, Any], shapes: list[Any], has_legend: bool = True
) -> Figure:
    """Rows with their names above them, so that long names fit any width."""
    labels = [
        {
            "text": name,
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": row - 0.2,
            "yref": "y",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 11.5, "color": "var(--ink)"},
            "bgcolor": "var(--veil)",
            "borderpad": 0,
        }
        for row, name in enumerate(names)
    ]
    base = layout(
        64 + _ROW * len(names),
        margin={"l": 20, "r": 20, "t": 12, "b": 52},
        xaxis=x,
        yaxis=axis(range=[len(names) - 0.5, -0.75], showgrid=False, showticklabels=False),
        hovermode="closest",
        hoverdistance=-1,
        showlegend=has_legend,
        legend=legend_below(),
        shapes=shapes,
        annotations=labels,
    )
    return {"data": data, "layout": base, "legend_below": has_legend}


def _draw_scaling(comparison: ModelComparison) -> Figure:
    """Mean and largest JS divergence over the number of parameters, both axes logarithmic."""
    places = _spread_sizes(comparison)
    data = [
        _size_point(model, number, places[number], axis_name)
        for number, model in enumerate(comparison.models)
        for axis_name in ("y", "y2")
    ]
    sizes = [math.log10(model.n_parameters) for model in comparison.models]
    pad = 0.08 * (max(sizes) - min(sizes)) + 0.02
    title = {"text": "parameters", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    base = layout(
        460,
        margin={"l": 56, "r": 16, "t": 36, "b": 48},
        xaxis=axis(type="log", range=[min(sizes) - pad, max(sizes) + pad], anchor="y2", title=title, tickformat="~s",
                   nticks=6, exponentformat="SI"),
        yaxis=axis(type="log", domain=[0.57, 1.0], tickformat=".2~g", nticks=5),
        yaxis2=axis(type="log", domain=[0.0, 0.43], tickformat=".2~g", nticks=5),
        hovermode="closest",
        hoverdistance=-1,
        showlegend=True,
        legend=legend_below(),
        annotations=[panel_title("Largest JS divergence, bits", 1.0), panel_title("Mean JS divergence, bits", 0.43)],
    )  # fmt: skip
    return {"data": data, "layout": base, "legend_below": True}


def _spread_sizes(comparison: ModelComparison) -> list[float]:
    """Where each model is drawn: models of nearly one size a little beside one another."""
    logs = [math.log10(model.n_parameters) for model in comparison.models]
    step = 0.012 * ((max(logs) - min(logs)) or 1.0)
    places = []
    for number, log in enumerate(logs):
        near = [other for other, one in enumerate(logs) if abs(one - log) < step]
        places.append(10 ** (log + step * (near.index(number) - (len(near) - 1) / 2)))
    return places


def _size_point(model: ModelSummary, number: int, place: float, axis_name: str) -> Trace:
    estimate = model.max_js if axis_name == "y" else model.mean_js
    is_shown = estimate is not None and estimate.value > 0
    value = estimate.value if estimate is not None and is_shown else None
    interval = estimate.interval if estimate is not None and is_shown else None
    low, high = (value or 0.0,) * 2 if interval is None else (interval.low, interval.high)
    _, symbol = _style(number)
    label = model_label(model.label)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [round_for_json(place)],
        "y": [round_for_json(value)],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [round_for_json(high - (value or 0.0))],
            "arrayminus": [round_for_json((value or 0.0) - low)],
            "color": _color(number),
            "width": 4,
        },
        "marker": {"size": 9, "color": _color(number), "symbol": symbol},
        "name": label,
        "showlegend": axis_name == "y",
        "customdata": [[label, show_parameters(model.n_parameters)]],
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]} parameters: %{y:.3~g} bits<extra></extra>",
        "cliponaxis": False,
        "xaxis": "x",
        "yaxis": axis_name,
    }
