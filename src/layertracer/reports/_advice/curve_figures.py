"""Figures of curves: what it costs to keep fewer layers, and what leaving early costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer._types import Interval
from layertracer.advice import AdviceRecord, Gates, Judgement, Ratio
from layertracer.reports._advice.wording import tasks_of
from layertracer.reports._drawing.curves import band, curve, dashed
from layertracer.reports._drawing.plotly_layout import (
    Figure,
    Trace,
    axis,
    layer_axis,
    layer_line,
    layer_span,
    layout,
    legend_below,
    panel_title,
)
from layertracer.reports._values.visible import plain

MAX_TASKS = 8


def draw_ratio(record: AdviceRecord, ratio: Ratio) -> Figure:
    """Cost above, tasks solved below, over the number of layers kept; the knee with its interval."""
    n_kept, judgements = list(ratio.n_kept), ratio.judgements
    tasks = tasks_of(record)[:MAX_TASKS]
    has_text = any(np.isfinite(one.kl_nats) for one in judgements)
    costs = [one.kl_nats if has_text else one.objective for one in judgements]
    what = "KL of text, nats" if has_text else "Objective: mean KL of tasks, nats"
    color = "var(--target)"
    data: list[Trace] = [curve(n_kept, costs, color=color, axis_name="y", template="keep %{x}: %{y:.3~g} nats")]
    if has_text:
        data.insert(0, band(n_kept, *_ends([one.kl_interval for one in judgements]), "var(--target)", "y"))
    data += _advised(record, has_text=has_text)
    for number, task in enumerate(tasks):
        data += _task(judgements, n_kept, task, f"var(--model-{number % 8})")
    titles = [panel_title(what, 1.0)] + ([panel_title("Solved, share of held-out prompts", 0.42)] if tasks else [])
    axes: dict[str, Any] = {"yaxis": axis(domain=[0.56 if tasks else 0.0, 1.0], rangemode="tozero", nticks=5)}
    if tasks:
        axes["yaxis2"] = axis(domain=[0.0, 0.42], range=[0, 1.04], tickformat=".0%", nticks=5)
    title = {"text": "layers that keep their mixer", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    span = max(n_kept) - min(n_kept)
    return {
        "data": data,
        "layout": layout(
            500 if tasks else 320,
            margin={"l": 56, "r": 16, "t": 36, "b": 48},
            xaxis=axis(
                range=[min(n_kept) - 0.03 * span - 0.2, max(n_kept) + 0.03 * span + 0.2],
                showgrid=False,
                title=title,
                anchor="y2" if tasks else "y",
                nticks=10,
            ),
            hovermode="closest",
            showlegend=True,
            legend=legend_below(),
            annotations=titles,
            shapes=_knee(ratio),
            **axes,
        ),
        "legend_below": True,
    }


def _knee(ratio: Ratio) -> list[dict[str, Any]]:
    if ratio.knee is None:
        return []
    line = layer_line(ratio.knee, "y", "var(--ink-soft)")
    if ratio.knee_interval is None:
        return [line]
    span = layer_span(ratio.knee_interval.low, ratio.knee_interval.high, "y", "var(--target-span)")
    return [span | {"x0": ratio.knee_interval.low, "x1": ratio.knee_interval.high}, line]


def _advised(record: AdviceRecord, *, has_text: bool) -> list[Trace]:
    """The advised placements on the curve's panel."""
    judged = [one.judgement for _, one in sorted(record.placements.items()) if one.judgement is not None]
    points = [(len(one.kept), one.kl_nats if has_text else one.objective) for one in judged]
    if not points:
        return []
    at, costs = [x for x, _ in points], [y for _, y in points]
    template = "advised, keep %{x}: %{y:.3~g}"
    trace = curve(at, costs, color="var(--target)", axis_name="y", template=template, name="advised")
    marker = {"symbol": "diamond-open", "size": 13, "line": {"width": 2.5}, "color": "var(--target)"}
    return [trace | {"mode": "markers", "marker": marker}]


def _task(judgements: tuple[Judgement, ...], n_kept: list[int], task: str, color: str) -> list[Trace]:
    """Share of a task that is solved, with its interval; dotted, what the full model solves."""
    found = [one.accuracy.get(task) for one in judgements]
    shares = [float("nan") if one is None else one.share for one in found]
    full = [float("nan") if one is None else one.full_share for one in found]
    name = plain(task, 28)
    ends = _ends([None if one is None else one.interval for one in found])
    whole = curve(n_kept, full, color=color, axis_name="y2", template="full model: %{y:.0%}")
    return [
        band(n_kept, *ends, color, "y2"),
        curve(n_kept, shares, color=color, axis_name="y2", template="keep %{x}: %{y:.0%}", name=name),
        whole | {"mode": "lines", "line": {"color": color, "width": 1, "dash": "2px,2px"}},
    ]


def _ends(intervals: list[Interval | None]) -> tuple[list[float], list[float]]:
    nothing = float("nan")
    return (
        [nothing if one is None else one.low for one in intervals],
        [nothing if one is None else one.high for one in intervals],
    )


def draw_early_exit(gates: Gates, n_layers: int) -> Figure:
    """Agreement with the final answer, accuracy and what is saved, by the layer after which one leaves."""
    leaving = gates.early_exit
    layers = list(leaving.layers)
    low, high = leaving.agreement_interval[:, 0], leaving.agreement_interval[:, 1]
    lines = (
        ("agrees with the final answer", leaving.agreement, "var(--target)", "solid"),
        ("and stays so", leaving.stays, "var(--target)", "2px,2px"),
        ("solved there", leaving.accuracy, "var(--gain)", "solid"),
        ("arithmetic saved", leaving.compute_saved, "var(--loss)", "6px,3px"),
    )
    data = [band(layers, low, high, "var(--target)", "y")]
    data += [
        dashed(curve(layers, values, color=color, axis_name="y", template=f"{name}: %{{y:.0%}}", name=name), dash)
        for name, values, color, dash in lines
        if np.isfinite(values).any()
    ]
    return {
        "data": data,
        "layout": layout(
            360,
            margin={"l": 56, "r": 16, "t": 36, "b": 48},
            xaxis={**layer_axis(n_layers), "range": [-0.7, n_layers - 0.3]},
            yaxis=axis(range=[0, 1.04], tickformat=".0%", nticks=6),
            hovermode="x unified",
            showlegend=True,
            legend=legend_below(),
            annotations=[panel_title("Share of held-out prompts", 1.0)],
        ),
        "layers": {"n": n_layers, "embedding": False},
        "legend_below": True,
    }
