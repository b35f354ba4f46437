"""Rows of cells on a page, one below the other, over one layer axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layertracer.reports._drawing.plotly_layout import (
    JS_SCALE,
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
from layertracer.reports._values.parts import Strip

_STEP, _ABOVE, _CELL = 84.24, 15.6, 46.8
"""Pixels from one row to the next, of a title, and of a row of cells."""


def draw_strip_rows(strips: Sequence[Strip], n_layers: int) -> Figure:
    """Rows of cells, each with its title and its colour bar."""
    height = round(_STEP * len(strips) - 12.48)
    tops = [round(1 - (_ABOVE + _STEP * row) / height, 4) for row in range(len(strips))]
    axes = [f"y{row + 1 if row else ''}" for row in range(len(strips))]
    share = round(_CELL / height, 4)
    marks = [_outline(strip, name) for strip, name in zip(strips, axes, strict=True)]
    return {
        "data": [_strip(strip, name, top) for strip, name, top in zip(strips, axes, tops, strict=True)],
        "layout": layout(
            80 + height,
            margin={"l": 76, "r": 16, "t": 40, "b": 40},
            xaxis=layer_axis(n_layers, anchor=axes[-1]),
            **{f"yaxis{name[1:]}": _strip_axis(top, share) for name, top in zip(axes, tops, strict=True)},
            annotations=[panel_title(strip.title, top) for strip, top in zip(strips, tops, strict=True)],
            shapes=[*_empty_cells(strips), *(mark for mark in marks if mark)],
        ),
        "layers": {"n": n_layers, "embedding": False},
    }


def _strip_axis(top: float, height: float) -> dict[str, Any]:
    return axis(domain=[top - height, top], showticklabels=False, showgrid=False, range=[-0.5, 0.5])


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


def _strip(strip: Strip, axis_name: str, top: float) -> Trace:
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
        "colorbar": colorbar(top + 0.02, _scale_ticks(strip)),
        "xaxis": "x",
        "yaxis": axis_name,
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
