"""Size of the largest dimension of each layer, and how much of the JS divergence comes with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer.reports._drawing.palette import JS, MUTED
from layertracer.reports._drawing.plotly_layout import Figure, Trace, axis, layer_axis, layout, line, panel_title
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.numbers import round_for_json
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.wording import site_name
from layertracer.runs import TraceRecord

_LEGEND_OVER_LOWER_PANEL = {
    "orientation": "h",
    "x": 1,
    "xanchor": "right",
    "y": 0.42,
    "yanchor": "bottom",
    "font": {"size": 11, "color": "var(--ink-soft)"},
    "bgcolor": "rgba(0,0,0,0)",
}


def draw_dominant(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """Size of the largest dimension of each layer, and how much of the JS divergence comes with it."""
    del overview, budget
    dominant = record.dominant
    layers = list(range(record.n_layers))
    sizes = _bars(layers, dominant.ratio, "muted", "y") | {
        "customdata": [int(dimension) for dimension in dominant.dimension],
        "hovertemplate": "layer %{x}<br>dimension %{customdata}: <b>%{y:.3~s}</b> × median<extra></extra>",
    }
    # Their templates are given below, with the rest of what makes them look alike.
    share = line(layers, list(map(float, dominant.js_share)), "js", "y2", "")
    chance = line(layers, list(map(float, dominant.draw_share)), "muted", "y2", "")
    template = "layer %{x}<br>share of JS %{y:.0%}<extra></extra>"
    return {
        "data": [
            sizes,
            chance
            | {
                "mode": "lines",
                "connectgaps": True,
                "name": "by chance (share of draws)",
                "showlegend": True,
                "hovertemplate": template.replace("share of JS", "by chance"),
                "line": {"color": "var(--ink-soft)", "width": 1.5, "dash": "4px,3px"},
            },
            share
            | {
                "name": "share of JS",
                "showlegend": True,
                "hovertemplate": template,
                "marker": {"size": 5, "color": "var(--js)"},
            },
        ],
        "layout": layout(
            400,
            xaxis=layer_axis(record.n_layers, anchor="y2"),
            yaxis=axis(domain=[0.58, 0.985], type="log", dtick=1, tickformat="~s"),
            yaxis2=axis(domain=[0.0, 0.42], range=[0, 1.05], tickformat=".0%", nticks=5),
            annotations=[
                panel_title("Largest dimension over the median one (RMS)", 0.985),
                panel_title("JS divergence from draws that mask it", 0.42),
            ],
            showlegend=True,
            legend=_LEGEND_OVER_LOWER_PANEL,
            bargap=0.25,
        ),
        "layers": {"n": record.n_layers, "embedding": False},
    }


def _bars(layers: list[int], values: Any, color: str, axis_name: str) -> Trace:
    return {
        "type": "bar",
        "x": layers,
        "y": round_for_json(values),
        "marker": {"color": f"var(--{color})"},
        "yaxis": axis_name,
        "showlegend": False,
    }


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the sizes."""
    del overview
    return (
        f"The largest dimension of the {site_name(record.spec)} relative to the median one, and the share of the "
        "JS divergence that comes from draws which mask it. Far above the dashed line, that one dimension decides."
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the sizes show."""
    del record, overview
    return "Size of the largest dimension of each layer, and its share of the JS divergence against chance."


def _draw_paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    """Size of the largest dimension of each layer, and its share of the JS divergence."""
    from matplotlib.ticker import FuncFormatter

    from layertracer.reports._drawing.paper_style import WIDTH, finish_layers

    del overview  # the drawers share one signature
    figure.set_size_inches(WIDTH, 3.2)
    ratio, share = figure.subplots(2, 1, sharex=True)
    layers = np.arange(record.n_layers)
    dominant = record.dominant
    ratio.bar(layers, dominant.ratio, color=MUTED, width=0.75)
    ratio.set_yscale("log")
    ratio.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    ratio.set_title("Largest dimension over the median one (RMS)")
    ratio.tick_params(axis="x", length=0, labelbottom=False)
    share.plot(
        layers,
        dominant.draw_share,
        color="#5c636e",
        linewidth=1,
        linestyle=(0, (3, 2)),
        label="by chance (share of draws)",
    )
    share.plot(layers, dominant.js_share, color=JS, linewidth=1.4, marker="o", markersize=2.2, label="share of JS")
    share.set_ylim(0, 1.02)
    share.set_title("JS divergence from draws that mask it")
    share.legend(loc="upper right", ncols=2)
    finish_layers(share, record.n_layers)


DOMINANT = Subject(
    id="dominant",
    short="Dimensions",
    title="Do a few enormous dimensions decide?",
    lead=_lead,
    alt=_alt,
    applies=lambda record, _overview: record.dominant.is_known,
    figure=draw_dominant,
    paper=_draw_paper,
)
