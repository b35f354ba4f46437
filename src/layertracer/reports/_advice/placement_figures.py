"""Figures of placements: which layers they keep, and where they lie among random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layertracer.advice import AdviceRecord
from layertracer.reports._advice.wording import baseline_name, in_order
from layertracer.reports._drawing.plotly_layout import (
    Figure,
    Trace,
    axis,
    layer_axis,
    layout,
    legend_below,
    panel_title,
)
from layertracer.reports._values.numbers import round_for_json, show_number, show_ranges

MAX_SIZES = 12
_MOST_OF_ONE = 3
_STEP, _CELL = 42, 20
_PANEL, _ABOVE = 116, 34
_RIM = {"width": 1.5, "color": "var(--surface)"}
_STATES = ("not placeable", "substituted", "kept", "kept")
_SCALE = [
    [0.0, "var(--surface)"],
    [0.25, "var(--surface)"],
    [0.25, "var(--cell)"],
    [0.5, "var(--cell)"],
    [0.5, "var(--muted)"],
    [0.75, "var(--muted)"],
    [0.75, "var(--target)"],
    [1.0, "var(--target)"],
]
MARKS = {
    "advised": ("diamond", "var(--target)", 14),
    "uniform": ("square", "var(--loss)", 10),
    "most_vulnerable": ("triangle-up", "var(--js)", 12),
    "around_particle": ("circle", "var(--gain)", 11),
    "published": ("star", "var(--model-4)", 13),
}
"""Symbol, colour and size of what is marked among random placements."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    title: str
    kept: tuple[int, ...]
    is_advised: bool


def sizes_drawn(record: AdviceRecord) -> list[int]:
    """The numbers kept that are drawn."""
    return sorted(record.placements)[:MAX_SIZES]


def draw_placements(record: AdviceRecord) -> Figure:
    """A row of cells for each placement: kept, substituted, or not placeable."""
    rows = [row for n_kept in sizes_drawn(record) for row in _rows(record, n_kept)]
    n_layers, placeable = record.model["n_layers"], set(record.singles.layers)
    cells = [[_state(layer, row, placeable) for layer in range(n_layers)] for row in rows]
    height = _STEP * len(rows)
    return {
        "data": [
            {
                "type": "heatmap",
                "x": list(range(n_layers)),
                "y": list(range(len(rows))),
                "z": cells,
                "zmin": 0,
                "zmax": 3,
                "colorscale": _SCALE,
                "showscale": False,
                "xgap": 1.5,
                "ygap": _STEP - _CELL,
                "customdata": [
                    [f"{row.title}: {_STATES[cell]}" for cell in line] for row, line in zip(rows, cells, strict=True)
                ],
                "hovertemplate": "layer %{x}<br>%{customdata}<extra></extra>",
            }
        ],
        "layout": layout(
            height + 60,
            margin={"l": 16, "r": 16, "t": 16, "b": 44},
            xaxis={**layer_axis(n_layers), "range": [-0.7, n_layers - 0.3]},
            yaxis=axis(range=[len(rows) - 0.5, -0.5], showticklabels=False, showgrid=False),
            annotations=[_row_title(row, number) for number, row in enumerate(rows)],
            shapes=list(_frames(cells)),
        ),
        "layers": {"n": n_layers, "embedding": False},
    }


def _rows(record: AdviceRecord, n_kept: int) -> Iterator[_Row]:
    placement = record.placements[n_kept]
    cost = f": objective {show_number(placement.objective)}" if np.isfinite(placement.objective) else ""
    yield _Row(title=f"Keep {n_kept}, advised{cost}", kept=placement.layers, is_advised=True)
    for name, baseline in in_order(record.baselines.get(n_kept, {})):
        if name == "random":
            continue
        for number, kept in enumerate(baseline.placements[:_MOST_OF_ONE]):
            cost = show_number(float(baseline.objective[number]))
            yield _Row(title=f"{baseline_name(name)}: objective {cost}", kept=kept, is_advised=False)


def _state(layer: int, row: _Row, placeable: set[int]) -> int:
    """What a cell shows, as an index of `_STATES`."""
    if layer not in placeable:
        return 0
    return 1 if layer not in row.kept else 3 if row.is_advised else 2


def _row_title(row: _Row, number: int) -> dict[str, Any]:
    title = panel_title(row.title, number, color="var(--ink)" if row.is_advised else "var(--ink-soft)")
    font = title["font"] if row.is_advised else {"size": 11.5, "color": "var(--ink-soft)"}
    return title | {"yref": "y", "yshift": _CELL / 2 + 1, "font": font}


def _frames(cells: list[list[int]]) -> Iterator[dict[str, Any]]:
    """A dotted frame for every layer that cannot be substituted."""
    half = _CELL / _STEP / 2
    for row, line in enumerate(cells):
        for layer, cell in enumerate(line):
            if cell == 0:
                yield {
                    "type": "rect",
                    "xref": "x",
                    "yref": "y",
                    "x0": layer - 0.42,
                    "x1": layer + 0.42,
                    "y0": row - half,
                    "y1": row + half,
                    "line": {"color": "var(--muted)", "width": 1, "dash": "dot"},
                }


def draw_random(record: AdviceRecord) -> Figure | None:
    """The objective of every random placement, a panel for each number kept; what is compared is marked among them."""
    sizes = [n_kept for n_kept in sizes_drawn(record) if _random_of(record, n_kept).size]
    if not sizes:
        return None
    height = _PANEL * len(sizes)
    data: list[Trace] = []
    axes: dict[str, Any] = {}
    titles = []
    for panel, n_kept in enumerate(sizes):
        top = 1 - (panel * _PANEL + _ABOVE) / height
        bottom = 1 - ((panel + 1) * _PANEL - 26) / height
        number = "" if panel == 0 else str(panel + 1)
        axes[f"xaxis{number}"] = axis(anchor=f"y{number}", showgrid=True, nticks=6, tickformat=".2~g")
        axes[f"yaxis{number}"] = axis(
            anchor=f"x{number}",
            domain=[round(bottom, 4), round(top, 4)],
            range=[-1.2, 1.2],
            showticklabels=False,
            showgrid=False,
        )
        n_random = _random_of(record, n_kept).size
        titles.append(panel_title(f"Keep {n_kept}, among {n_random:,} random placements", top))
        data += _panel(record, n_kept, number, is_first=panel == 0)
    title = {"text": "objective, nats", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    axes[f"xaxis{len(sizes) if len(sizes) > 1 else ''}"]["title"] = title
    base = layout(
        height + 52,
        margin={"l": 16, "r": 16, "t": 8, "b": 44},
        showlegend=True,
        legend=legend_below(),
        hovermode="closest",
        annotations=titles,
        **axes,
    )
    return {"data": data, "layout": base, "legend_below": True}


def _random_of(record: AdviceRecord, n_kept: int) -> np.ndarray:
    baseline = record.baselines.get(n_kept, {}).get("random")
    return np.zeros(0) if baseline is None else baseline.objective


def _panel(record: AdviceRecord, n_kept: int, number: str, *, is_first: bool) -> Iterator[Trace]:
    """The random placements of a size, and what is marked among them."""
    random = record.baselines[n_kept]["random"]
    spread = (np.arange(len(random.objective)) * 0.6180339887 % 1) * 1.6 - 0.8  # apart, and the same on every drawing
    yield _points(
        random.objective,
        spread,
        [show_ranges(kept) for kept in random.placements],
        "random",
        number=number,
        marker={"size": 6, "color": "var(--muted)", "opacity": 0.55},
    ) | {"showlegend": is_first}
    placement = record.placements[n_kept]
    marked = {"advised": (np.array([placement.objective]), (placement.layers,))} | {
        name: (baseline.objective, baseline.placements)
        for name, baseline in in_order(record.baselines[n_kept])
        if name != "random"
    }
    for name, (objective, placements) in marked.items():
        known = [place for place, value in enumerate(objective) if np.isfinite(value)]
        if known:
            symbol, color, size = MARKS[name]
            yield _points(
                np.asarray(objective)[known],
                np.zeros(len(known)),
                [show_ranges(placements[place]) for place in known],
                "advised" if name == "advised" else baseline_name(name),
                number=number,
                marker={"symbol": symbol, "size": size, "color": color, "line": _RIM},
            ) | {"showlegend": is_first}


def _points(
    x: np.ndarray,
    y: np.ndarray,
    layers: list[str],
    name: str,
    *,
    number: str,
    marker: dict[str, Any],
) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": round_for_json(x),
        "y": round_for_json(y, digits=3),
        "name": name,
        "legendgroup": name,
        "marker": marker,
        "customdata": [f"{name}: keeps {one}" for one in layers],
        "hovertemplate": "%{customdata}<br>%{x:.3~g} nats<extra></extra>",
        "cliponaxis": False,
        "xaxis": f"x{number}",
        "yaxis": f"y{number}",
    }
