"""Figures over layers: what single ones are worth, pairs of them, regions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layertracer.advice import AdviceRecord, Divisions, Pairs
from layertracer.reports._advice.tables import region_letter
from layertracer.reports._advice.wording import kinds_of
from layertracer.reports._drawing.curves import curve
from layertracer.reports._drawing.plotly_layout import (
    SIGNED_SCALE,
    Figure,
    Trace,
    axis,
    colorbar,
    layer_axis,
    layer_span,
    layout,
    panel_title,
)
from layertracer.reports._drawing.strip_rows import draw_strip_rows
from layertracer.reports._values.numbers import round_for_json, show_number
from layertracer.reports._values.parts import Strip
from layertracer.reports._values.visible import plain

MAX_KINDS = 4
MAX_CURVES = 6
MAX_PAIRS = 64
_NOT_PLACEABLE = "cannot be substituted"
_PANEL, _ABOVE = 128, 30


def single_strips(record: AdviceRecord) -> tuple[Strip, ...]:
    """Single layers in both directions, by kind of rows, then their joint divergence; NaN where not placeable."""
    singles, n_layers = record.singles, record.model["n_layers"]
    has_gaps = len(singles.layers) < n_layers
    strips = []
    for kind in kinds_of(record)[:MAX_KINDS]:
        if kind in singles.removed_kl_nats:
            values = spread(singles.removed_kl_nats[kind], singles.layers, n_layers)
            strips.append(_strip(f"{plain(kind, 18)}: KL where it alone is substituted", values, has_gaps))
        if kind in singles.restored_kl_nats and kind in singles.all_kl_nats:
            saved = singles.all_kl_nats[kind] - singles.restored_kl_nats[kind]
            values = spread(saved, singles.layers, n_layers)
            of = show_number(singles.all_kl_nats[kind])
            strips.append(_strip(f"{plain(kind, 18)}: KL saved by it alone, of {of}", values, has_gaps, "signed"))
    if singles.joint_js is not None:
        values = spread(singles.joint_js, singles.layers, n_layers)
        strips.append(_strip("Joint JS of mixer output and state", values, has_gaps, unit="of 2"))
    return tuple(strips)


def spread(values: np.ndarray, layers: tuple[int, ...], n_layers: int) -> np.ndarray:
    """One number a placeable layer as one a layer, NaN at the others."""
    found = np.full(n_layers, np.nan)
    found[list(layers)] = values
    return found


def _strip(title: str, values: np.ndarray, has_gaps: bool, kind: Any = "magnitude", unit: str = "nats") -> Strip:
    is_known = np.isfinite(values).any()
    return Strip(
        title=title,
        unit=unit,
        values=values,
        kind=kind,
        marked=int(np.nanargmax(values)) if is_known else None,
        mark_label=f"largest {int(np.nanargmax(values))}" if is_known else None,
        missing=_NOT_PLACEABLE if has_gaps or not np.isfinite(values).all() else None,
    )


def draw_singles(record: AdviceRecord) -> Figure:
    """Single layers as rows of cells."""
    figure = draw_strip_rows(single_strips(record), record.model["n_layers"])
    figure["layout"]["margin"]["l"] = 16
    figure["layout"]["xaxis"]["range"] = [-0.7, record.model["n_layers"] - 0.3]
    return figure


def draw_pairs(pairs: Pairs) -> Figure | None:
    """What two layers lose together less what each loses alone; None where they are too many to draw."""
    layers = list(pairs.layers)
    if not 1 < len(layers) <= MAX_PAIRS:
        return None
    largest = float(np.abs(pairs.interaction).max()) or 1.0
    words = [[f"layers {one} and {other}" for other in layers] for one in layers]
    names = [str(layer) for layer in layers]
    shown = names[:: max(1, len(names) // 16)]
    labels = {"tickmode": "array", "tickvals": shown, "showgrid": False, "type": "category"}
    ticks = {-largest: show_number(-largest, digits=2), 0.0: "0", largest: show_number(largest, digits=2)}
    trace: Trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": round_for_json(pairs.interaction),
        "zmin": -largest,
        "zmax": largest,
        "colorscale": SIGNED_SCALE,
        "reversescale": True,
        "xgap": 1,
        "ygap": 1,
        "customdata": words,
        "hovertemplate": "%{customdata}<br>%{z:.3~g} nats<extra></extra>",
        "colorbar": colorbar(1.01, ticks),
    }
    return {
        "data": [trace],
        "layout": layout(
            480,
            margin={"l": 44, "r": 16, "t": 48, "b": 44},
            xaxis=axis(title={"text": "layer", "font": {"size": 12, "color": "var(--ink-soft)"}}, **labels),
            yaxis=axis(autorange="reversed", **labels),
            annotations=[panel_title("Together less each alone, nats", 1.0)],
        ),
    }


def draw_divisions(divisions: Divisions, n_layers: int) -> Figure:
    """The curves that were divided, one below the other, with the regions behind them."""
    curves = sorted(divisions.curves.items())[:MAX_CURVES]
    height = _PANEL * len(curves)
    data, axes, titles, shapes = [], {}, [], []
    for panel, (name, values) in enumerate(curves):
        number = "" if panel == 0 else str(panel + 1)
        top, bottom = 1 - (panel * _PANEL + _ABOVE) / height, 1 - ((panel + 1) * _PANEL - 10) / height
        axes[f"yaxis{number}"] = axis(domain=[round(max(0.0, bottom), 4), round(top, 4)], nticks=4, tickformat=".3~g")
        titles.append(panel_title(f"{plain(name, 60)}, {plain(divisions.units.get(name, ''), 24)}", top))
        at, template = list(range(n_layers)), "layer %{x}: %{y:.3~g}"
        data.append(curve(at, values, color="var(--target)", axis_name=f"y{number}", template=template))
        shapes += list(_region_shapes(divisions, f"y{number}"))
    return {
        "data": data,
        "layout": layout(
            height + 48,
            margin={"l": 56, "r": 16, "t": 8, "b": 44},
            xaxis={**layer_axis(n_layers, anchor=f"y{len(curves) if len(curves) > 1 else ''}"),
                   "range": [-0.7, n_layers - 0.3]},
            annotations=[*titles, *_region_labels(divisions)],
            shapes=shapes,
            **axes,
        ),
        "layers": {"n": n_layers, "embedding": False},
    }  # fmt: skip


def _region_shapes(divisions: Divisions, axis_name: str) -> Iterator[dict[str, Any]]:
    """Every second region shaded; where one begins, a line, and its interval."""
    for number, region in enumerate(divisions.regions):
        if number % 2:
            yield layer_span(region.first, region.last, axis_name, "var(--target-span)")
        if number:
            line = {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"}
            yield {"type": "line", "xref": "x", "yref": f"{axis_name} domain", "x0": region.first - 0.5,
                   "x1": region.first - 0.5, "y0": 0, "y1": 1, "line": line, "layer": "below"}  # fmt: skip
        if number and region.first_interval is not None:
            low, high = region.first_interval.low - 0.5, region.first_interval.high - 0.5
            bar = layer_span(region.first, region.last, axis_name, "var(--ink-soft)")
            yield bar | {"x0": low, "x1": high, "y1": 0.06}


def _region_labels(divisions: Divisions) -> Iterator[dict[str, Any]]:
    for number, region in enumerate(divisions.regions):
        yield {
            "text": region_letter(number),
            "x": (region.first + region.last) / 2,
            "y": 1,
            "xref": "x",
            "yref": "y domain",
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 13, "color": "var(--ink-soft)", "weight": 650},
        }
