"""What figures of curves have in common: lines, bands, a legend below."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer.reports._drawing.plotly_layout import Trace
from layertracer.reports._values.numbers import round_for_json


def dashed(trace: Trace, dash: str) -> Trace:
    """The same line, dashed."""
    return trace | {"line": {**trace["line"], "dash": dash}}


def curve(x: list[int], y: Any, *, color: str, axis_name: str, template: str, name: str = "") -> Trace:
    """A line with markers; with a name in the legend where it has one."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": round_for_json(np.asarray(y, dtype=np.float64)),
        "name": name,
        "showlegend": bool(name),
        "line": {"color": color, "width": 2},
        "marker": {"size": 5, "color": color},
        "connectgaps": False,
        "cliponaxis": False,
        "hovertemplate": f"{template}<extra></extra>",
        "yaxis": axis_name,
    }


def band(x: list[int], low: Any, high: Any, color: str, axis_name: str) -> Trace:
    """The interval of a curve, where there is one."""
    ends = np.stack([np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)])
    known = np.flatnonzero(np.isfinite(ends).all(axis=0))
    at = [x[place] for place in known.tolist()]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*at, *reversed(at)],
        "y": [*round_for_json(ends[0][known]), *reversed(round_for_json(ends[1][known]))],
        "line": {"width": 0, "color": color},
        "fill": "toself",
        "fillcolor": color,
        "opacity": 0.16,
        "hoverinfo": "skip",
        "showlegend": False,
        "yaxis": axis_name,
    }


def labelled(trace: Trace, label: str) -> Trace:
    """The same line whose points say a name that a model or a file brought: as data, which no template may hold."""
    return trace | {"customdata": [label] * len(trace["x"])}
