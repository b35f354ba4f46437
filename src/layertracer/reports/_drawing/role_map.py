"""The map of causal tracing: layers across, what a position is to its prompt down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from layertracer.evidence import RoleEffects
from layertracer.reports._drawing.plotly_layout import (
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
from layertracer.reports._values.visible import plain

ROLE_NAMES: Mapping[str, str] = {
    "first_subject": "first subject",
    "middle_subject": "mid subject",
    "last_subject": "last subject",
    "first_subsequent": "one after it",
    "further": "further",
    "last": "last token",
}
"""Roles of tokens in words short enough for an axis."""

_ROW = 40
_ABOVE, _BELOW = 48, 40
_WIDE, _NARROW = 108, 84


def role_name(role: str) -> str:
    """A role in words."""
    return ROLE_NAMES.get(role, plain(role, 14))


def draw_role_map(effects: RoleEffects, n_layers: int, title: str, *, unit: str = "") -> Figure:
    """Mean effect of every layer and role as cells, red where the patch takes the answer's probability away.

    Args:
        effects: Means with their intervals.
        n_layers: Layers of the model.
        title: What the numbers are.
        unit: Their unit, for the labels of cells.
    """
    rows = [row for row, n in enumerate(effects.n_prompts.tolist()) if n]
    names = [role_name(effects.roles[row]) for row in rows]
    largest = float(np.nanmax(np.abs(effects.mean), initial=0.0)) or 1.0
    trace: Trace = {
        "type": "heatmap",
        "x": list(range(n_layers)),
        "y": names,
        "z": round_for_json(effects.mean[rows]),
        "zmin": -largest,
        "zmax": largest,
        "colorscale": SIGNED_SCALE,
        "xgap": 1.5,
        "ygap": 1.5,
        "text": [[_cell_text(value) for value in effects.mean[row]] for row in rows],
        "texttemplate": "%{text}",
        "textfont": {"size": 10.5},
        "customdata": [[_hover(effects, row, layer, unit) for layer in range(n_layers)] for row in rows],
        "hovertemplate": "layer %{x}, %{y}<br><b>%{customdata}</b><extra></extra>",
        "colorbar": colorbar(1.01, {-largest: show_number(-largest, digits=2), 0.0: "0", largest: _top(largest)}),
    }
    roles: dict[str, Any] = {"autorange": "reversed", "type": "category", "showgrid": False}
    return {
        "data": [trace],
        "layout": layout(
            _ABOVE + _BELOW + _ROW * max(1, len(rows)),
            margin={"l": _WIDE, "r": 16, "t": _ABOVE, "b": _BELOW},
            xaxis={**layer_axis(n_layers), "range": [-0.6, n_layers - 0.4]},
            yaxis=axis(**roles),
            annotations=[panel_title(title, 1.0)],
        ),
        "layers": {"n": n_layers, "embedding": False},
        "narrow": {"margin": {"l": _NARROW}, "yaxis": {"tickfont": {"size": 10, "color": "var(--ink-soft)"}}},
    }


def _top(largest: float) -> str:
    return show_number(largest, digits=2, sign=True)


def _cell_text(value: float) -> str:
    if not np.isfinite(value) or abs(value) < 0.005:
        return ""
    return f"{'−' if value < 0 else ''}{f'{abs(value):.2f}'.removeprefix('0')}"


def _hover(effects: RoleEffects, row: int, layer: int, unit: str) -> str:
    """A cell's number, its interval, and how many prompts that is of."""
    value, n_prompts = float(effects.mean[row, layer]), int(effects.n_prompts[row])
    if not np.isfinite(value):
        return "nothing to patch here"
    low, high = float(effects.low[row, layer]), float(effects.high[row, layer])
    ends = f" ({show_number(low, digits=2)} to {show_number(high, digits=2)})" if np.isfinite(low) else ""
    return f"{show_number(value, digits=2, sign=True)}{f' {unit}' if unit else ''}{ends}, n = {n_prompts}"
