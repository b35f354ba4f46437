"""Site by site: what each perturbation does, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from layertracer.reports._drawing.palette import MIXER_COLORS
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout, panel_title
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.effects import (
    EffectAnswer,
    effect_numbers,
    effect_phrases,
    effect_strips,
    effects_table,
)
from layertracer.reports._values.numbers import round_for_json, show_number
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Curve, Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


def _sentences(record: TraceRecord, overview: Overview) -> list[str]:
    """The answer of every perturbation in a sentence."""
    return ["".join(phrase.text for phrase in effect_phrases(answer, record.n_layers)) for answer in overview.effects]


def _lead(record: TraceRecord, overview: Overview) -> str:
    said = " ".join(_sentences(record, overview))
    lost = (
        " The loss is what the target's log-probability loses, clean minus perturbed, over prompts with one answer."
        if any(answer.lost is not None for answer in overview.effects)
        else ""
    )
    return f"{said}{lost}"


def _alt(record: TraceRecord, overview: Overview) -> str:
    names = ", ".join(answer.name for answer in overview.effects)
    return f"Curves over {record.n_layers} layers, one for each site: {names}. The table holds where each is largest."


def draw_effects(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """The mean divergence of every perturbation over layers, and below what it costs the target."""
    del budget
    answers = overview.effects
    has_loss = any(answer.lost is not None for answer in answers)
    data = [_line(answer, answer.js, slot, "y", "bits") for slot, answer in enumerate(answers)]
    data += [
        _line(answer, answer.lost, slot, "y2", "nats") | {"showlegend": False}
        for slot, answer in enumerate(answers)
        if answer.lost is not None
    ]
    upper = [0.56, 0.93] if has_loss else [0.0, 0.9]
    titles, lower = [panel_title("Mean JS divergence, bits", upper[1])], {}
    if has_loss:
        lower = {"yaxis2": axis(domain=[0.0, 0.42], rangemode="tozero", nticks=6)}
        titles.append(panel_title("Mean loss of the target's log-probability, nats", 0.42))
    return {
        "data": data,
        "layout": layout(
            480 if has_loss else 300,
            margin={"l": 76, "r": 16, "t": 60, "b": 40},
            xaxis=layer_axis(record.n_layers, anchor="y2" if has_loss else "y"),
            yaxis=axis(domain=upper, rangemode="tozero", nticks=6),
            **lower,
            showlegend=True,
            legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
            annotations=titles,
        ),
        "layers": {"n": record.n_layers, "embedding": False},
    }


def _line(answer: EffectAnswer, curve: Curve, slot: int, axis_name: str, unit: str) -> Trace:
    ends = [
        [show_number(float(low), digits=2), show_number(float(high), digits=2), answer.name]
        for low, high in zip(curve.low, curve.high, strict=True)
    ]
    color = f"var(--mixer-{slot % len(MIXER_COLORS)})"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(len(curve.mean))),
        "y": round_for_json(curve.mean),
        "customdata": ends,
        "name": answer.name,
        "line": {"color": color, "width": 2},
        "marker": {"size": 5, "color": color},
        "hovertemplate": "%{customdata[2]}, layer %{x}: "
        f"<b>%{{y:.3~g}}</b> {unit} (%{{customdata[0]}} to %{{customdata[1]}})<extra></extra>",
        "connectgaps": False,
        "xaxis": "x",
        "yaxis": axis_name,
    }


def _text(record: TraceRecord, overview: Overview) -> Iterator[Table | str]:
    yield effects_table(overview.effects)
    yield from _sentences(record, overview)


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    from layertracer.reports._drawing.paper_style import WIDTH, finish_layers, plain

    answers = overview.effects
    panels: list[tuple[str, list[Curve | None]]] = [("JS divergence (bits)", [answer.js for answer in answers])]
    if any(answer.lost is not None for answer in answers):
        panels.append(("Loss of the target's log-probability (nats)", [answer.lost for answer in answers]))
    figure.set_size_inches(WIDTH, 1.7 * len(panels))
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, curves) in zip(rows, panels, strict=True):
        axes.set_title(title)
        for slot, (answer, curve) in enumerate(zip(answers, curves, strict=True)):
            if curve is not None:
                color = MIXER_COLORS[slot % len(MIXER_COLORS)]
                layers = range(record.n_layers)
                axes.fill_between(layers, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
                axes.plot(layers, curve.mean, color=color, linewidth=1.3, label=plain(answer.name))
    rows[0].legend(loc="upper right", ncols=2)
    finish_layers(rows[-1], record.n_layers)


EFFECTS = Subject(
    id="effects",
    short="Sites",
    title="Site by site, and what the target loses",
    lead=_lead,
    alt=_alt,
    applies=lambda _record, overview: bool(overview.effects),
    figure=draw_effects,
    table=lambda _record, overview: effects_table(overview.effects),
    numbers=lambda record, overview, _budget: effect_numbers(overview.effects, record.n_layers),
    strips=lambda _record, overview: effect_strips(overview.effects),
    text=_text,
    paper=_draw_paper,
)
