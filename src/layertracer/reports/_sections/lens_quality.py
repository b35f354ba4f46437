"""What the lenses are worth: how far each reads from the final output, on text that it was not fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from layertracer.reports._drawing.palette import MIXER_COLORS, TARGET
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout, panel_title
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.lens_reports import LensWorth, lens_worths, worth_numbers, worth_table
from layertracer.reports._values.numbers import round_for_json
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


def _every(record: TraceRecord) -> list[tuple[int, LensWorth]]:
    """Every lens with its place among the colours, the logit lens beside it at 0."""
    pairs = enumerate(lens_worths(record), 1)
    return [(slot, one) for number, (logit, own) in pairs for slot, one in ((0, logit), (number, own))]


def draw_lens_quality(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """KL(final ‖ lens) after each layer but the last, where it is 0, on a logarithmic axis."""
    del overview, budget
    return {
        "data": [_line(one, slot) for slot, one in _every(record)],
        "layout": layout(
            300,
            margin={"l": 76, "r": 16, "t": 60, "b": 40},
            xaxis=layer_axis(record.n_layers),
            yaxis=axis(domain=[0.0, 0.9], type="log", nticks=6),
            showlegend=True,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
            annotations=[panel_title("KL(final ‖ lens), nats", 0.9)],
        ),
        "layers": {"n": record.n_layers, "embedding": True},
    }


def _line(one: LensWorth, slot: int) -> Trace:
    values = one.kl_nats[:-1]
    color = f"var(--mixer-{slot % len(MIXER_COLORS)})" if slot else "var(--target)"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(-1, len(values) - 1)),
        "y": round_for_json(values),
        "customdata": [one.name] * len(values),
        "name": one.name,
        "line": {"color": color, "width": 2},
        "marker": {"size": 5, "color": color},
        "hovertemplate": "%{customdata}, layer %{x}: <b>%{y:.3~g}</b> nats<extra></extra>",
    }


def _text(record: TraceRecord, overview: Overview) -> Iterator[Table | str]:
    del overview
    yield worth_table(record)


def _lead(record: TraceRecord, overview: Overview) -> str:
    del record, overview
    return (
        "How far what each lens reads is from the final output, on text that it was not fitted on: divergence of the "
        "final output from what the lens reads (KL), the mean over tokens; bias, that of the two mean distributions; "
        "and how often both have the same top token. Means over the embeddings and all layers but the last, which no "
        "lens translates. Where a lens falls back, it was no better than the logit lens and translates nothing."
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    del overview
    names = ", ".join(one.name for _, one in _every(record))
    return f"Curves of KL divergence from the final output over {record.n_layers} layers: {names}."


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    del overview
    from layertracer.reports._drawing.paper_style import WIDTH, finish_layers, plain

    figure.set_size_inches(WIDTH, 2.2)
    axes = figure.subplots()
    for slot, one in _every(record):
        color = MIXER_COLORS[slot % len(MIXER_COLORS)] if slot else TARGET
        values = np.where(one.kl_nats[:-1] > 0, one.kl_nats[:-1], np.nan)
        axes.plot(range(-1, record.n_layers - 1), values, color=color, linewidth=1.3, label=plain(one.name))
    axes.set_yscale("log")
    axes.set_title("KL of the final output from each lens, nats")
    axes.legend(loc="upper right", ncols=2)
    finish_layers(axes, record.n_layers)


LENS_QUALITY = Subject(
    id="lens-quality",
    short="Lens quality",
    title="What the lenses are worth",
    lead=_lead,
    alt=_alt,
    applies=lambda record, _overview: bool(lens_worths(record)),
    figure=draw_lens_quality,
    table=lambda record, _overview: worth_table(record),
    numbers=lambda record, _overview, _budget: worth_numbers(record),
    text=_text,
    paper=_draw_paper,
)
