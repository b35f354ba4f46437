"""The figures of the page, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.findings import is_twin, sites_of, tasks_of
from study.subjects import SMOLLM2, TWIN
from training import FAMILIES

_WIDTH = 9.0
_HEADROOM = 1.05
_FAMILY_COLOURS = {
    "attention": "#2a78c2",
    "sliding": "#7fb2df",
    "moe": "#a06bb5",
    "gated-deltanet": "#d1495b",
    "mamba2": "#e0a030",
    "hybrid": "#35916f",
    "mamba2-hybrid": "#8fae3f",
    SMOLLM2: "#4c5b6b",
}
_SITE_NAMES = {"block_output": "stream", "mixer_output": "mixer", "state": "state"}
_STYLES = {"S": ":", "L": "--"}


def draw_figures(findings: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """Draws all figures.

    Args:
        findings: The table of `collect_findings`.
        folder: Where to; made if it is not there.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawers: dict[str, Callable[[pd.DataFrame], Figure]] = {
        "particles": _draw_particles,
        "vulnerability": _draw_vulnerability,
        "twins": _draw_twins,
    }
    written = {}
    for name, draw in drawers.items():
        path = folder / f"miniatures-{name}.svg"
        with mpl.rc_context({"svg.hashsalt": "layertracer", "svg.fonttype": "none", "font.size": 8.5}):
            draw(findings).savefig(path, metadata={"Date": None})
        written[name] = path
    return written


def family_of(label: str) -> str:
    """The family that a label is of."""
    name = label.removesuffix(TWIN)
    return next((family for family in sorted(_FAMILY_COLOURS, key=len, reverse=True) if name.startswith(family)), name)


def _draw_particles(findings: pd.DataFrame) -> Figure:
    """The target's probability over relative depth, a panel a task."""
    curves = _curves(findings, "target_prob", "block_output")
    curves = curves[~curves["model"].map(is_twin)]
    figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
    tasks = tasks_of(findings)
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, tasks, strict=True):
        _draw_lines(axes, curves[curves["task"] == task])
        axes.set_title(task)
        axes.set_xlabel("relative depth")
    panels[0].set_ylim(0, _HEADROOM)
    panels[0].set_ylabel("target probability")
    _add_legend(figure, _labels(curves))
    return figure


def _draw_vulnerability(findings: pd.DataFrame) -> Figure:
    """JS divergence over relative depth, a row a site, a column a task."""
    figure = Figure(figsize=(_WIDTH, 5.6), layout="constrained")
    sites, tasks = sites_of(findings), tasks_of(findings)
    panels = figure.subplots(len(sites), len(tasks), sharex=True, sharey="row", squeeze=False)
    curves = _curves(findings, "js_bits", None)
    curves = curves[~curves["model"].map(is_twin)]
    for row, site in zip(panels, sites, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            _draw_lines(axes, curves[(curves["task"] == task) & (curves["site"] == site)])
        row[0].set_ylim(0, _HEADROOM * curves.loc[curves["site"] == site, "value"].max())
        row[0].set_ylabel(f"JS, {_SITE_NAMES[site]} (bits)")
    for axes, task in zip(panels[0], tasks, strict=True):
        axes.set_title(task)
    for axes in panels[-1]:
        axes.set_xlabel("relative depth")
    _add_legend(figure, _labels(curves))
    return figure


def _draw_twins(findings: pd.DataFrame) -> Figure:
    """Miniatures of size M and seed 0 and their twins on one task: probability, and JS divergence at two sites."""
    task = tasks_of(findings)[0]
    figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
    panels = figure.subplots(1, 3)
    shown = [("target_prob", "block_output", "target probability"), ("js_bits", "block_output", "JS, stream (bits)")]
    shown.append(("js_bits", "mixer_output", "JS, mixer (bits)"))
    for axes, (quantity, site, title) in zip(panels, shown, strict=True):
        curves = _curves(findings, quantity, site)
        base = curves["model"].str.removesuffix(TWIN)
        curves = curves[(curves["task"] == task) & base.isin(list(FAMILIES))]
        for label, points in curves.groupby("model", sort=False):
            style = ":" if is_twin(str(label)) else "-"
            colour = _FAMILY_COLOURS[family_of(str(label))]
            axes.plot(points["depth"], points["value"], color=colour, linestyle=style, linewidth=1.3)
        axes.set_title(f"{title}, {task}")
        axes.set_xlabel("relative depth")
        if quantity == "js_bits":
            axes.set_yscale("log")
    _add_legend(figure, _labels(curves))
    return figure


def _curves(findings: pd.DataFrame, quantity: str, site: str | None) -> pd.DataFrame:
    chosen = findings[
        (findings["question"] == "twin") & (findings["part"] == "profile") & (findings["quantity"] == quantity)
    ]
    return chosen if site is None else chosen[chosen["site"] == site]


def _labels(curves: pd.DataFrame) -> Sequence[str]:
    return [str(label) for label in dict.fromkeys(curves["model"]) if not is_twin(str(label))]


def _draw_lines(axes: Axes, curves: pd.DataFrame) -> None:
    for label, points in curves.groupby("model", sort=False):
        size = str(label).rsplit("-", 1)[-1].upper()
        axes.plot(
            points["depth"],
            points["value"],
            color=_FAMILY_COLOURS[family_of(str(label))],
            linestyle=_STYLES.get(size, "-"),
            linewidth=1.1,
            alpha=0.9,
        )
    axes.set_xlim(0, 1.02)
    axes.grid(visible=True, linewidth=0.3, alpha=0.5)


def _add_legend(figure: Figure, labels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    families = list(dict.fromkeys(family_of(label) for label in labels))
    handles = [Line2D([], [], color=_FAMILY_COLOURS[family], label=family) for family in families]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
