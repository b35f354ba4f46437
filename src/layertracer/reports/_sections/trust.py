"""Figures on how far the answers can be trusted: the threshold's sweep and the dominant dimensions."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout, panel_title
from layertracer.reports._values.numbers import round_for_json
from layertracer.runs import TraceRecord


def draw_sensitivity(record: TraceRecord) -> Figure:
    """Layer of the task particle, and share of prompts in which one is found, over the criterion's parameter."""
    sweep = record.sensitivity
    name, values, layers = sweep.parameter or "value", list(sweep.values), list(sweep.layers)
    used = record.spec.onset.get(name)
    found = [layer for layer in layers if layer is not None]
    middle = (min(found) + max(found)) / 2 if found else (record.n_layers - 1) / 2
    reach = max(3.0, (max(found) - min(found)) / 2 + 1.5) if found else record.n_layers / 2
    layer_line = _line(values, layers, "target", "y", f"{name} %{{x}}<br>layer <b>%{{y}}</b>")
    share_line = _line(values, list(sweep.share_found), "gain", "y2", f"{name} %{{x}}<br>found on <b>%{{y:.0%}}</b>")
    return {
        "data": [layer_line | {"line": layer_line["line"] | {"shape": "hv"}}, share_line | {"xaxis": "x2"}],
        "layout": layout(
            270,
            xaxis=_value_axis(name, [0.0, 0.46], "y"),
            xaxis2=_value_axis(name, [0.56, 1.0], "y2"),
            yaxis=axis(
                range=[max(-0.5, middle - reach), min(record.n_layers - 0.5, middle + reach)],
                tickformat="d",
                dtick=max(1, int(reach // 3)),
            ),
            yaxis2=axis(range=[0, 1.05], tickformat=".0%", anchor="x2", nticks=6),
            annotations=[
                panel_title("Layer of the task particle", 1.0),
                panel_title("Share of prompts in which one is found", 1.0) | {"x": 0.56},
            ],
            shapes=[] if used is None else [_used(float(used), "x", "y"), _used(float(used), "x2", "y2")],
        ),
        "narrow": _stacked(),
    }


def _stacked() -> dict[str, Any]:
    """The two panels one above the other, for a narrow window."""
    return {
        "height": 480,
        "xaxis": {"domain": [0, 1]},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.6, 1]},
        "yaxis2": {"domain": [0, 0.4]},
        "annotations": {"1": {"x": 0, "y": 0.4}},
    }


def _value_axis(name: str, domain: list[float], anchor: str) -> dict[str, Any]:
    title = {"text": name, "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    scale = {"type": "log"} if name == "eps" else {}
    return axis(domain=domain, anchor=anchor, showgrid=False, nticks=8, title=title, **scale)


def _line(x: list[Any], y: list[Any], color: str, axis_name: str, template: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": round_for_json(y),
        "line": {"color": f"var(--{color})", "width": 2},
        "marker": {"size": 7, "color": f"var(--{color})"},
        "hovertemplate": f"{template}<extra></extra>",
        "yaxis": axis_name,
    }


def _used(delta: float, x_axis: str, y_axis: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": x_axis,
        "yref": f"{y_axis} domain",
        "x0": delta,
        "x1": delta,
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--ink-soft)", "width": 1, "dash": "3px,3px"},
        "layer": "below",
    }


_LEGEND_OVER_LOWER_PANEL = {
    "orientation": "h",
    "x": 1,
    "xanchor": "right",
    "y": 0.42,
    "yanchor": "bottom",
    "font": {"size": 11, "color": "var(--ink-soft)"},
    "bgcolor": "rgba(0,0,0,0)",
}


def draw_dominant(record: TraceRecord) -> Figure:
    """Size of the largest dimension of each layer, and how much of the JS divergence comes with it."""
    dominant = record.dominant
    layers = list(range(record.n_layers))
    sizes = _bars(layers, dominant.ratio, "muted", "y") | {
        "customdata": [int(dimension) for dimension in dominant.dimension],
        "hovertemplate": "layer %{x}<br>dimension %{customdata}: <b>%{y:.3~s}</b> × median<extra></extra>",
    }
    # Their templates are given below, with the rest of what makes them look alike.
    share = _line(layers, list(map(float, dominant.js_share)), "js", "y2", "")
    chance = _line(layers, list(map(float, dominant.draw_share)), "muted", "y2", "")
    template = "layer %{x}<br>share of JS %{y:.0%}<extra></extra>"
    return {
        "data": [
            sizes,
            chance
            | {
                "mode": "lines",
                "connectgaps": True,
                "name": "by chance (share of draws)",
                "showlegend": True,
                "hovertemplate": template.replace("share of JS", "by chance"),
                "line": {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"},
            },
            share
            | {
                "name": "share of JS",
                "showlegend": True,
                "hovertemplate": template,
                "marker": {"size": 5, "color": "var(--js)"},
            },
        ],
        "layout": layout(
            400,
            xaxis=layer_axis(record.n_layers, anchor="y2"),
            yaxis=axis(domain=[0.58, 0.985], type="log", dtick=1, tickformat="~s"),
            yaxis2=axis(domain=[0.0, 0.42], range=[0, 1.05], tickformat=".0%", nticks=5),
            annotations=[
                panel_title("Largest dimension over the median one (RMS)", 0.985),
                panel_title("JS divergence from draws that mask it", 0.42),
            ],
            showlegend=True,
            legend=_LEGEND_OVER_LOWER_PANEL,
            bargap=0.25,
        ),
        "layers": {"n": record.n_layers, "embedding": False},
    }


def _bars(layers: list[int], values: Any, color: str, axis_name: str) -> Trace:
    return {
        "type": "bar",
        "x": layers,
        "y": round_for_json(values),
        "marker": {"color": f"var(--{color})"},
        "yaxis": axis_name,
        "showlegend": False,
    }
