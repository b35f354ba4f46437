"""Figures of agreement: correlations as a matrix, or with their intervals; what stays after Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer.evidence import Agreement
from layertracer.reports._drawing.plotly_layout import (
    SIGNED_SCALE,
    Figure,
    Trace,
    axis,
    colorbar,
    layout,
    panel_title,
)
from layertracer.reports._evidence.panels import interval_bars, row_axis, row_labels, stack_panels
from layertracer.reports._evidence.wording import agreement_words, colors_of, is_marked
from layertracer.reports._values.visible import plain

MAX_ROWS, MAX_COLUMNS, MAX_PAIRS = 30, 16, 40
_MOST_TEXTS = 10
_ROW, _PAIR, _ABOVE, _BELOW = 44, 40, 44, 118


def columns_of_matrix(agreements: Sequence[Agreement]) -> list[tuple[str, str]]:
    """What stands across: the other thing, and the method."""
    return list(dict.fromkeys((one.other, one.method) for one in agreements))


def is_dense(agreements: Sequence[Agreement]) -> bool:
    """Whether at least half of the cells of a matrix would have something, and it has rows and columns."""
    rows, columns = {one.one for one in agreements}, columns_of_matrix(agreements)
    return len(columns) > 1 and 2 * len(agreements) >= len(rows) * len(columns)


def draw_matrix(agreements: Sequence[Agreement], title: str) -> Figure | None:
    """Correlations as cells with their numbers; None where there are none."""
    if not agreements:
        return None
    columns = columns_of_matrix(agreements)[:MAX_COLUMNS]
    rows = list(dict.fromkeys(one.one for one in agreements))[:MAX_ROWS]
    by_place = {(one.one, one.other, one.method): one for one in agreements}
    cells = [[by_place.get((row, *column)) for column in columns] for row in rows]
    several = len({method for _, method in columns}) > 1
    names = [f"{plain(other, 26)}{f', {method}' if several else ''}" for other, method in columns]
    trace: Trace = {
        "type": "heatmap",
        "x": list(range(len(columns))),
        "y": [number + 0.2 for number in range(len(rows))],
        "z": [[None if cell is None else cell.value for cell in line] for line in cells],
        "zmin": -1,
        "zmax": 1,
        "colorscale": SIGNED_SCALE,
        "xgap": 2,
        "ygap": 18,
        "customdata": [[_hover(cell) for cell in line] for line in cells],
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": True,
        "colorbar": colorbar(1.01, {-1.0: "−1", 0.0: "0", 1.0: "+1"}),
    }
    if len(columns) <= _MOST_TEXTS:
        texts = [[_cell_text(cell) for cell in line] for line in cells]
        trace |= {"text": texts, "texttemplate": "%{text}", "textfont": {"size": 11}}
    ticks = {"tickmode": "array", "tickvals": list(range(len(columns))), "ticktext": names, "tickangle": 35}
    return {
        "data": [trace],
        "layout": layout(
            _ABOVE + _BELOW + _ROW * len(rows),
            margin={"l": 16, "r": 56, "t": _ABOVE, "b": _BELOW},
            xaxis=axis(range=[-0.5, len(columns) - 0.5], showgrid=False, **ticks),
            yaxis=axis(**row_axis(len(rows))),
            annotations=[panel_title(title, 1.0), *row_labels([plain(row, 48) for row in rows], "y")],
        ),
        "narrow": {"margin": {"r": 40}},
    }


def draw_forest(agreements: Sequence[Agreement], title: str) -> Figure | None:
    """Correlations as points with their intervals, a row for each pair; None where there are none."""
    pairs = list(dict.fromkeys((one.one, one.other) for one in agreements))[:MAX_PAIRS]
    if not pairs:
        return None
    methods = list(dict.fromkeys(one.method for one in agreements))
    panels = stack_panels([title], [_PAIR * len(pairs)], left=16)
    data: list[Trace] = []
    for place, (method, color) in enumerate(colors_of(methods).items()):
        found = [one for one in agreements if one.method == method and (one.one, one.other) in pairs]
        height = 0.1 + 0.3 * (place + 0.5) / len(methods)
        data.append(_points([one for one in found if one.value is not None], pairs, height, color) | {"name": method})
    names = [f"{plain(one, 36)} · {plain(other, 56)}" for one, other in pairs]
    zero = {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"}
    line = {"type": "line", "xref": "x", "yref": "y domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "line": zero}
    return panels.figure(
        data,
        row_axis(len(pairs)),
        xaxis=axis(range=[-1.04, 1.04], nticks=9, tickformat="+.2~f"),
        shapes=[line | {"layer": "below"}],
        labels=row_labels(names, "y"),
    )


def _points(chosen: Sequence[Agreement], pairs: list[tuple[str, str]], height: float, color: str) -> Trace:
    values = [one.value or 0.0 for one in chosen]
    symbols = ["circle" if is_marked(one) else "circle-open" for one in chosen]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": values,
        "y": [pairs.index((one.one, one.other)) + height for one in chosen],
        "marker": {
            "size": 9,
            "color": color,
            "symbol": symbols,
        },
        "error_x": interval_bars(values, [one.interval for one in chosen], color),
        "customdata": [_hover(one) for one in chosen],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _cell_text(agreement: Agreement | None) -> str:
    if agreement is None:
        return ""
    if agreement.value is None:
        return "–"
    digits = f"{abs(agreement.value):.2f}"
    shown = digits if digits.startswith("1") else digits.removeprefix("0")
    sign = "−" if agreement.value < 0 and float(digits) else ""
    return f"{sign}{shown}{'*' if is_marked(agreement) else ''}"


def _hover(agreement: Agreement | None) -> str:
    if agreement is None:
        return "not compared"
    return f"{plain(agreement.one, 48)} and {plain(agreement.other, 48)}: {agreement_words(agreement)}"
