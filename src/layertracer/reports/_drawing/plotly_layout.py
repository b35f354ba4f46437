"""Figures as plain data, in the form that Plotly's script reads.

Colours are custom properties of the page ("var(--target)"), resolved in the browser, so that one
figure serves the light and the dark theme. Text under the keys `text`, `ticktext`, `customdata` and
`name` is plain text: the page escapes it before Plotly sees it. Only templates hold Plotly's markup.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer.reports._values.numbers import round_for_json

Figure = dict[str, Any]
Trace = dict[str, Any]

SIGNED_SCALE = [[0.0, "var(--loss)"], [0.5, "var(--zero)"], [1.0, "var(--gain)"]]
PROB_SCALE = [[0.0, "var(--prob-0)"], [0.35, "var(--prob-1)"], [0.7, "var(--prob-2)"], [1.0, "var(--prob-3)"]]
JS_SCALE = [[0.0, "var(--zero)"], [1.0, "var(--js)"]]


def axis(**settings: Any) -> dict[str, Any]:
    """An axis in the page's style."""
    base = {
        "zeroline": False,
        "showline": False,
        "gridcolor": "var(--grid)",
        "ticks": "",
        "tickfont": {"color": "var(--ink-soft)", "size": 11},
        "fixedrange": True,
        "automargin": False,
    }
    return base | settings


def reach_axis(values: np.ndarray, least: float) -> dict[str, Any]:
    """Range of an axis from 0: as far as the values go, and no less than `least`.

    Ticks have two digits, which tell the few that there are apart however short the axis is.
    """
    finite = values[np.isfinite(values)]
    if finite.size and float(finite.max()) >= least:
        return {"rangemode": "tozero", "tickformat": ".2~g"}
    return {"range": [0, least], "tickformat": ".2~g"}


def layer_axis(n_layers: int, **settings: Any) -> dict[str, Any]:
    """The layer axis that figures share: same range, same margins, so that layers line up down the page."""
    return axis(
        range=[-1.5, n_layers - 0.5],
        showgrid=False,
        unifiedhovertitle={"text": "layer %{x}"},
        title={"text": "layer", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6},
        **settings,
    )


def layout(height: int, **settings: Any) -> dict[str, Any]:
    """A figure's layout in the page's style."""
    base = {
        "height": height,
        "margin": {"l": 76, "r": 16, "t": 36, "b": 40},
        "paper_bgcolor": "var(--surface)",
        "plot_bgcolor": "var(--surface)",
        "font": {"family": "var(--font)", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {
            "bgcolor": "var(--tip)",
            "bordercolor": "var(--line)",
            "font": {"family": "var(--font)", "size": 12, "color": "var(--ink)"},
            "align": "left",
            "namelength": -1,
        },
        "showlegend": False,
        "dragmode": False,
    }
    return base | settings


def legend_below() -> dict[str, Any]:
    """A legend under a figure."""
    return {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 0,
        "yref": "container",
        "yanchor": "bottom",
        "font": {"size": 11, "color": "var(--ink)"},
        "bgcolor": "rgba(0,0,0,0)",
        "itemclick": False,
        "itemdoubleclick": False,
        "itemwidth": 30,
    }


def panel_title(text: str, y: float, *, color: str = "var(--ink)") -> dict[str, Any]:
    """A title at the upper left of a panel whose top is at `y` in paper units."""
    return {
        "text": text,
        "x": 0,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 6,
        "showarrow": False,
        "font": {"size": 12.5, "color": color, "weight": 600},
    }


def layer_span(low: float, high: float, axis_name: str, color: str) -> dict[str, Any]:
    """A band behind layers `low` to `high` of one panel."""
    return {
        "type": "rect",
        "xref": "x",
        "yref": f"{axis_name} domain",
        "x0": low - 0.5,
        "x1": high + 0.5,
        "y0": 0,
        "y1": 1,
        "line": {"width": 0},
        "fillcolor": color,
        "layer": "below",
    }


def layer_line(layer: int, axis_name: str, color: str) -> dict[str, Any]:
    """A vertical line at a layer of one panel."""
    return {
        "type": "line",
        "xref": "x",
        "yref": f"{axis_name} domain",
        "x0": layer,
        "x1": layer,
        "y0": 0,
        "y1": 1,
        "line": {"color": color, "width": 1.5, "dash": "4px,3px"},
        "layer": "below",
    }


def layer_label(text: str, layer: int, n_layers: int, axis_name: str, color: str) -> dict[str, Any]:
    """The label of a marked layer at the top of its panel, on the side where there is room."""
    is_left = layer < n_layers / 2
    return {
        "text": text,
        "x": layer,
        "y": 1,
        "xref": "x",
        "yref": f"{axis_name} domain",
        "xanchor": "left" if is_left else "right",
        "xshift": 6 if is_left else -6,
        "yanchor": "top",
        "showarrow": False,
        "font": {"color": color, "size": 12, "weight": 600},
        "bgcolor": "var(--veil)",
        "borderpad": 2,
    }


def colorbar(y: float, ticks: dict[float, str]) -> dict[str, Any]:
    """A small horizontal colour bar at the upper right of a panel whose top is at `y`."""
    return {
        "orientation": "h",
        "thickness": 7,
        "len": 150,
        "lenmode": "pixels",
        "x": 1,
        "xanchor": "right",
        "y": y,
        "yanchor": "bottom",
        "ypad": 0,
        "xpad": 0,
        "tickmode": "array",
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        "outlinewidth": 0,
        "tickfont": {"size": 10, "color": "var(--ink-soft)"},
    }


def line(x: list[Any], y: list[Any], color: str, axis_name: str, template: str) -> Trace:
    """A line with markers, of one of the page's colours."""
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
