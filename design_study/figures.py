"""The study's figures, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from design_study.findings import ALL_PARENTS
from design_study.plan import PARENTS, read_placement
from training.families import N_LAYERS

_WIDTH = 9.0
_COLOURS = {"attention": "#2a78c2", "attention-seed1": "#35916f", "attention-seed2": "#e0a030"}


def draw_figures(tables: Mapping[str, pd.DataFrame], folder: Path) -> dict[str, Path]:
    """Draws all figures.

    Args:
        tables: The stored results by name.
        folder: Where to; made if it is not there.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawers: dict[str, Callable[[], Figure]] = {
        "students": lambda: _draw_students(tables["students"]),
        "scores": lambda: _draw_scores(tables["findings"]),
    }
    written = {}
    for name, draw in drawers.items():
        path = folder / f"design-{name}.svg"
        with mpl.rc_context({"svg.hashsalt": "layertracer", "svg.fonttype": "none", "font.size": 8.5}):
            draw().savefig(path, metadata={"Date": None})
        written[name] = path
    return written


def _draw_students(students: pd.DataFrame) -> Figure:
    """KL of every placement of two layers: one kept layer across, the other one down, a panel a parent."""
    chosen = students[(students["n_kept"] == 2) & (students["seed"] == 0)]
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    parents = [parent for parent in PARENTS if parent in set(chosen["parent"])]
    panels = figure.subplots(1, len(parents), squeeze=False)[0]
    for axes, parent in zip(panels, parents, strict=True):
        of_parent = chosen[chosen["parent"] == parent]
        grid = np.full((N_LAYERS, N_LAYERS), np.nan)
        for kept, kl_nats in zip(of_parent["kept"], of_parent["kl_nats"], strict=True):
            first, second = read_placement(kept)
            grid[second, first] = kl_nats
            axes.text(first, second, f"{kl_nats:.2f}", ha="center", va="center", fontsize=6.5)
        low, high = np.nanmin(grid), np.nanmax(grid)
        axes.imshow(np.log(grid), cmap="YlOrRd", vmin=np.log(low), vmax=np.log(high) + 0.8)
        axes.set_title(parent)
        axes.set_xlabel("layer kept")
        axes.set_xticks(range(N_LAYERS - 1))
        axes.set_yticks(range(1, N_LAYERS))
        axes.set_ylim(N_LAYERS - 0.5, 0.5)
        axes.set_xlim(-0.5, N_LAYERS - 1.5)
    panels[0].set_ylabel("layer kept")
    return figure


def _draw_scores(findings: pd.DataFrame) -> Figure:
    """Correlation of every score with the trained result, with its interval, a dot a parent."""
    chosen = findings[(findings["n_kept"] == 2) & (findings["parent"] != ALL_PARENTS)].dropna(subset=["correlation"])
    names = [_label(row) for _, row in chosen.drop_duplicates(["score", "window"]).iterrows()]
    figure = Figure(figsize=(_WIDTH, 0.6 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    parents = [parent for parent in PARENTS if parent in set(chosen["parent"])]
    for index, parent in enumerate(parents):
        rows = chosen[chosen["parent"] == parent]
        places = [names.index(_label(row)) + 0.22 * (index - 1) for _, row in rows.iterrows()]
        colour = _COLOURS[parent]
        axes.hlines(places, rows["low"], rows["high"], color=colour, linewidth=1.0, alpha=0.6)
        axes.plot(rows["correlation"], places, "o", color=colour, markersize=3.5, label=parent)
    axes.axvline(0.0, color="#4c5b6b", linewidth=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("rank correlation with the trained result")
    if parents:
        axes.legend(frameon=False, loc="lower left")
    return figure


def _label(row: pd.Series) -> str:
    return f"{row['score']}, window {int(row['window'])}" if row["window"] else str(row["score"])
