"""Panels of a figure, one below the other, and rows under labels of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layertracer._types import Interval
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layout, legend_below, panel_title

_TITLE, _GAP, _BELOW = 30, 14, 44


@dataclass(frozen=True, kw_only=True, slots=True)
class Panels:
    """Where panels lie.

    Attributes:
        height: Height of the figure, in pixels, with its margins.
        margin: Its margins.
        domains: Lower and upper end of each panel, in shares of what is between the margins.
        titles: Their titles.
    """

    height: int
    margin: dict[str, int]
    domains: tuple[tuple[float, float], ...]
    titles: list[dict[str, Any]]

    @property
    def names(self) -> list[str]:
        """The axes of the panels, from the top: "y", "y2" and so on."""
        return [f"y{number + 1 if number else ''}" for number in range(len(self.domains))]

    def axes(self, *settings: dict[str, Any]) -> dict[str, Any]:
        """The axes, each with settings of its own; the last ones where there are fewer."""
        found = {}
        for number, (name, domain) in enumerate(zip(self.names, self.domains, strict=True)):
            own = settings[min(number, len(settings) - 1)] if settings else {}
            found[f"yaxis{name[1:]}"] = axis(domain=list(domain), **own)
        return found

    def figure(
        self,
        data: Sequence[Trace],
        *settings: dict[str, Any],
        xaxis: dict[str, Any],
        labels: Sequence[dict[str, Any]] = (),
        layers: dict[str, Any] | None = None,
        **more: Any,
    ) -> Figure:
        """A figure of the panels over one axis, its legend below.

        Args:
            data: What is drawn.
            settings: Settings of the panels' axes, as for `axes`.
            xaxis: The axis that they share.
            labels: Annotations beside the titles.
            layers: How many layers lie along that axis, and whether the embeddings do; None where it is another one.
            more: What else the layout says.
        """
        said = {"hovermode": "closest", "showlegend": True, "legend": legend_below(), **more}
        annotations = [*self.titles, *labels]
        base = layout(
            self.height, margin=self.margin, xaxis=xaxis, annotations=annotations, **said, **self.axes(*settings)
        )
        return {"data": data, "layout": base, "legend_below": True} | ({} if layers is None else {"layers": layers})


def stack_panels(titles: Sequence[str], heights: Sequence[int], *, left: int = 56) -> Panels:
    """Panels one below the other, each under its title.

    Args:
        titles: Their titles.
        heights: Their heights in pixels.
        left: Width of the left margin.
    """
    inner = sum(heights) + (_TITLE + _GAP) * len(heights)
    domains, annotations, used = [], [], 0
    for title, height in zip(titles, heights, strict=True):
        top = 1 - (used + _TITLE) / inner
        bottom = 1 - (used + _TITLE + height) / inner
        domains.append((round(max(0.0, bottom), 4), round(top, 4)))
        annotations.append(panel_title(title, round(top, 4)))
        used += _TITLE + height + _GAP
    margin = {"l": left, "r": 16, "t": 8, "b": _BELOW}
    return Panels(height=inner + 8 + _BELOW, margin=margin, domains=tuple(domains), titles=annotations)


def row_labels(labels: Sequence[str], axis_name: str) -> list[dict[str, Any]]:
    """A label above each row of a panel whose rows are 0, 1, … from the top: names too long for an axis."""
    return [
        {
            "text": label,
            "x": 0,
            "y": number - 0.5,
            "xref": "paper",
            "yref": axis_name,
            "xanchor": "left",
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 11, "color": "var(--ink-soft)"},
        }
        for number, label in enumerate(labels)
    ]


def row_axis(n_rows: int) -> dict[str, Any]:
    """The axis of such rows."""
    return {"range": [n_rows - 0.5, -0.5], "showticklabels": False, "showgrid": False}


def interval_bars(values: Sequence[float], intervals: Sequence[Interval | None], color: str) -> dict[str, Any]:
    """Intervals around values as Plotly's bars; of no length where there is none."""
    pairs = list(zip(values, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if one is None else max(0.0, one.high - value) for value, one in pairs],
        "arrayminus": [0 if one is None else max(0.0, value - one.low) for value, one in pairs],
        "color": color,
        "thickness": 2,
        "width": 0,
    }
