"""Through other lenses: where the task starts as each of them reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layertracer.reports._drawing.palette import MIXER_COLORS, TARGET
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout, panel_title
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.named import lens_strips, lenses_table
from layertracer.reports._values.numbers import round_for_json, show_number
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


def _curves(record: TraceRecord, overview: Overview) -> list[tuple[str, np.ndarray]]:
    """The mean probability of the target through every lens, the embeddings first."""
    logit = np.concatenate([[float(record.embedding_prob.mean())], overview.target.mean])
    others = [(lens.name, np.concatenate([[lens.embedding], lens.target.mean])) for lens in overview.lenses]
    return [("logit", logit), *others]


def draw_lenses(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """Mean probability of the target after each layer, as every lens reads it."""
    del budget
    curves = _curves(record, overview)
    return {
        "data": [_line(name, values, slot) for slot, (name, values) in enumerate(curves)],
        "layout": layout(
            300,
            margin={"l": 76, "r": 16, "t": 60, "b": 40},
            xaxis=layer_axis(record.n_layers),
            yaxis=axis(domain=[0.0, 0.9], rangemode="tozero", nticks=6),
            showlegend=True,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
            annotations=[panel_title("Target probability", 0.9)],
        ),
        "layers": {"n": record.n_layers, "embedding": True},
    }


def _line(name: str, values: np.ndarray, slot: int) -> Trace:
    color = f"var(--mixer-{(slot + 1) % len(MIXER_COLORS)})" if slot else "var(--target)"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(-1, len(values) - 1)),
        "y": round_for_json(values),
        "customdata": [name] * len(values),
        "name": name,
        "line": {"color": color, "width": 2},
        "marker": {"size": 5, "color": color},
        "hovertemplate": "%{customdata}, layer %{x}: <b>%{y:.3~g}</b><extra></extra>",
    }


def _numbers(record: TraceRecord, overview: Overview, budget: Budget) -> Table:
    del budget
    curves = _curves(record, overview)
    names = ("emb", *map(str, range(record.n_layers)))
    rows = tuple(
        (name, *(show_number(float(values[index])) for _, values in curves)) for index, name in enumerate(names)
    )
    columns = ("Layer", *(name for name, _ in curves))
    return Table(columns=columns, rows=rows, numeric=frozenset(range(len(columns))))


def _text(record: TraceRecord, overview: Overview) -> Iterator[Table | str]:
    yield lenses_table(record, overview.lenses)


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    from layertracer.reports._drawing.paper_style import WIDTH, finish_layers, plain

    figure.set_size_inches(WIDTH, 2.2)
    axes = figure.subplots()
    for slot, (name, values) in enumerate(_curves(record, overview)):
        color = MIXER_COLORS[(slot + 1) % len(MIXER_COLORS)] if slot else TARGET
        axes.plot(range(-1, record.n_layers), values, color=color, linewidth=1.3, label=plain(name))
    axes.set_ylim(bottom=0)
    axes.set_title("Target probability through each lens")
    axes.legend(loc="upper left", ncols=2)
    finish_layers(axes, record.n_layers)


LENSES = Subject(
    id="lenses",
    short="Lenses",
    title="Through other lenses",
    lead=lambda _record, overview: (
        "The target's probability after each layer as other lenses read it, beside the logit lens, which takes the "
        f"stream as it is. {' '.join(f'{lens.name}: {lens.meaning.rstrip(chr(46))}.' for lens in overview.lenses)}"
    ),
    alt=lambda record, overview: (
        f"Curves of target probability over {record.n_layers} layers: logit, "
        f"{', '.join(lens.name for lens in overview.lenses)}."
    ),
    applies=lambda _record, overview: bool(overview.lenses),
    figure=draw_lenses,
    table=lambda record, overview: lenses_table(record, overview.lenses),
    numbers=_numbers,
    strips=lambda _record, overview: lens_strips(overview.lenses),
    text=_text,
    paper=_draw_paper,
)
