"""Figures of spread: where it comes from, and how many prompts an interval of ±1 layer takes."""

from __future__ import annotations

from layertracer.evidence import EvidenceRecord, VarianceShares
from layertracer.reports._drawing.curves import curve, labelled
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, legend_below
from layertracer.reports._evidence.panels import row_axis, row_labels, stack_panels
from layertracer.reports._evidence.wording import colors_of
from layertracer.reports._values.numbers import show_share
from layertracer.reports._values.visible import plain

MAX_ROWS = 16
MAX_LINES = 8
_ROW = 42
_KNOWN = ("prompts", "demonstrations", "templates", "draws", "rest")


def sources_of(variance: tuple[VarianceShares, ...]) -> list[str]:
    """Sources of spread: those that are known first, the others by name."""
    named = {source for one in variance for source in one.shares}
    return [*(one for one in _KNOWN if one in named), *sorted(named - set(_KNOWN))]


def draw_variance(record: EvidenceRecord) -> Figure | None:
    """A bar for each number, in parts by where its spread comes from; None where that was not measured."""
    shown = record.variance[:MAX_ROWS]
    sources = sources_of(shown)
    if not sources:
        return None
    panels = stack_panels(["Share of the variance"], [_ROW * len(shown)], left=16)
    colors = colors_of(sources)
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "x": [max(0.0, one.shares.get(source, 0.0)) if _is_known(one, source) else 0 for one in shown],
            "y": [number + 0.22 for number in range(len(shown))],
            "width": 0.36,
            "name": plain(source, 20),
            "marker": {"color": colors[source], "line": {"color": "var(--surface)", "width": 1}},
            "customdata": [_hover(one, source) for one in shown],
            "hovertemplate": "%{customdata}<extra></extra>",
        }
        for source in sources
    ]
    return panels.figure(
        data,
        row_axis(len(shown)),
        barmode="stack",
        xaxis=axis(range=[0, 1.001], tickformat=".0%", nticks=6),
        legend=legend_below() | {"traceorder": "normal"},
        labels=row_labels([plain(one.of, 60) for one in shown], "y"),
    )


def _is_known(variance: VarianceShares, source: str) -> bool:
    share = variance.shares.get(source, 0.0)
    return share == share  # noqa: PLR0124 - NaN is not


def _hover(variance: VarianceShares, source: str) -> str:
    levels = variance.levels.get(source)
    of = "" if levels is None else f", of {levels:,}"
    return f"{plain(source, 20)}{of}: {show_share(variance.shares.get(source, float('nan')))}"


def draw_prompts_needed(record: EvidenceRecord) -> Figure | None:
    """Half the width of the interval by number of prompts; None where that was not measured."""
    shown = [one for one in record.prompts_needed if one.measured][:MAX_LINES]
    if not shown:
        return None
    panels = stack_panels(["Half the width of the interval, layers"], [260])
    data: list[Trace] = []
    for number, one in enumerate(shown):
        at = sorted(one.measured)
        name = plain(one.of, 40)
        template = "%{customdata}, %{x} prompts: ±%{y:.2~f} layers"
        color = f"var(--model-{number % 8})"
        widths = [one.measured[n] for n in at]
        shown_line = curve(at, widths, color=color, axis_name="y", template=template, name=name)
        data.append(labelled(shown_line, name))
    dash = {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"}
    line = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": dash}
    ticks = sorted({n for one in shown for n in one.measured})
    title = {"text": "prompts, logarithmic", "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    return panels.figure(
        data,
        {"rangemode": "tozero", "nticks": 6},
        xaxis=axis(type="log", title=title, tickmode="array", tickvals=ticks[-8:], showgrid=False),
        shapes=[line],
    )
