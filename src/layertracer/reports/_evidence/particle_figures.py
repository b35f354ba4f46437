"""Figures of the task particle: by lens and criterion, and how often a criterion fires on nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layertracer._types import Interval
from layertracer.evidence import EvidenceRecord, ParticleReading
from layertracer.reports._drawing.curves import curve, labelled
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout
from layertracer.reports._evidence.panels import interval_bars, row_axis, row_labels, stack_panels
from layertracer.reports._evidence.wording import colors_of, criterion_words, lens_name, lenses_of
from layertracer.reports._values.numbers import show_interval, show_share

MAX_LENSES, MAX_CRITERIA = 6, 12
_ROW = 42


def criteria_of(record: EvidenceRecord) -> list[str]:
    """Criteria in the order of the record, as many as are drawn."""
    return list(dict.fromkeys(one.criterion for one in record.particles))[:MAX_CRITERIA]


def draw_particles(record: EvidenceRecord) -> Figure | None:
    """The target's probability by lens above; below, the particle of every criterion with its interval."""
    lenses, criteria = lenses_of(record)[:MAX_LENSES], criteria_of(record)
    if not criteria:
        return None
    n_layers, colors = record.model["n_layers"], colors_of(lenses)
    curves = [lens for lens in lenses if lens in record.target_prob]
    titles = [*(["Mean probability of the target"] if curves else []), "Task particle by criterion"]
    panels = stack_panels(titles, [*([190] if curves else []), _ROW * len(criteria)])
    data: list[Trace] = []
    for lens in curves:
        at, values = list(range(-1, n_layers)), record.target_prob[lens]
        name, template = lens_name(lens), "%{customdata}: %{y:.3~g}"
        shown = curve(at, values, color=colors[lens], axis_name="y", template=template, name=name)
        data.append(labelled(shown, name))
    rows = panels.names[-1]
    for place, lens in enumerate(lenses):
        found = [one for one in record.particles if one.lens == lens and one.criterion in criteria]
        height = 0.06 + 0.34 * (place + 0.5) / len(lenses)
        rows_at = [criteria.index(one.criterion) + height for one in found]
        data.append(
            _points(found, rows_at, colors[lens], rows) | {"name": lens_name(lens), "showlegend": lens not in curves}
        )
    settings: list[dict[str, Any]] = [{"rangemode": "tozero", "nticks": 5}] if curves else []
    return panels.figure(
        data,
        *settings,
        row_axis(len(criteria)),
        xaxis={**layer_axis(n_layers), "anchor": rows, "showgrid": True},
        labels=row_labels([criterion_words(one) for one in criteria], rows),
        layers={"n": n_layers, "embedding": True},
    )


def _points(readings: Sequence[ParticleReading], at: list[float], color: str, axis_name: str) -> Trace:
    """A point for each particle that is found, its interval as a bar."""
    pairs = [(one, place) for one, place in zip(readings, at, strict=True) if one.layer is not None]
    layers = [one.layer or 0 for one, _ in pairs]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": layers,
        "y": [place for _, place in pairs],
        "marker": {"size": 9, "color": color},
        "error_x": interval_bars(layers, [one.interval for one, _ in pairs], color),
        "customdata": [_hover(one) for one, _ in pairs],
        "hovertemplate": "%{customdata}<extra></extra>",
        "yaxis": axis_name,
    }


def _hover(reading: ParticleReading) -> str:
    interval = "no interval" if reading.interval is None else show_interval(reading.interval)
    return (
        f"{criterion_words(reading.criterion)}, {lens_name(reading.lens)}: layer {reading.layer} ({interval}), found "
        f"in {show_share(reading.share_found)} of the prompts"
    )


def measured_rates(record: EvidenceRecord) -> list[ParticleReading]:
    """Readings of which it was measured how often they fire on random targets."""
    return [one for one in record.particles if one.n_random]


def draw_false_positives(record: EvidenceRecord) -> Figure | None:
    """How often each criterion fires on a random target, with its interval; None where that was not measured."""
    measured = measured_rates(record)[: MAX_LENSES * MAX_CRITERIA]
    if not measured:
        return None
    several = len({one.lens for one in measured}) > 1
    labels = [
        f"{criterion_words(one.criterion)}{f', {lens_name(one.lens)}' if several else ''}: "
        f"{show_share(one.false_positive_rate)}"
        for one in measured
    ]
    panels = stack_panels(["Share of random targets on which it fires"], [_ROW * len(measured)], left=16)
    rates = [one.false_positive_rate for one in measured]
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "x": rates,
        "y": [number + 0.22 for number in range(len(measured))],
        "width": 0.34,
        "marker": {"color": "var(--target)"},
        "error_x": interval_bars(rates, [one.false_positive_interval for one in measured], "var(--ink)"),
        "customdata": [
            f"{show_share(one.false_positive_rate)} of {one.n_random:,} random targets"
            f" ({'no interval' if one.false_positive_interval is None else _shares(one.false_positive_interval)})"
            for one in measured
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    ends = [one.false_positive_interval.high for one in measured if one.false_positive_interval is not None]
    highest = max(*rates, *ends, 0.1)
    return {
        "data": [bars],
        "layout": layout(
            panels.height,
            margin=panels.margin,
            xaxis=axis(range=[0, min(1.02, 1.08 * highest)], tickformat=".0%", nticks=8),
            hovermode="closest",
            annotations=[*panels.titles, *row_labels(labels, "y")],
            shapes=[_five_percent()],
            **panels.axes(row_axis(len(measured))),
        ),
    }


def _shares(interval: Interval) -> str:
    return f"{show_share(interval.low)} to {show_share(interval.high)}"


def _five_percent() -> dict[str, Any]:
    dash = {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"}
    return {"type": "line", "xref": "x", "yref": "y domain", "x0": 0.05, "x1": 0.05, "y0": 0, "y1": 1, "line": dash}
