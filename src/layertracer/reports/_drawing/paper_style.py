"""What the figures of a paper have in common: their width, colours, curves, strips, marks and layer axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from layertracer._types import Interval
from layertracer.reports._drawing.palette import GAIN, JS, LOSS, MIXER_COLORS, MUTED, mixer_slots
from layertracer.reports._values.parts import Curve, Strip
from layertracer.runs import TraceRecord

WIDTH = 6.75  # inches: the text width of most two-column papers
_MAX_LINES = 200
_SIGNED = LinearSegmentedColormap.from_list("gain", [LOSS, "#f3f3f1", GAIN])
_MAGNITUDE = LinearSegmentedColormap.from_list("js", ["#f3f3f1", JS])
PROB = LinearSegmentedColormap.from_list("prob", ["#f3f5f7", "#a9cfe6", "#3d8fc4", "#08436e"])


def reach(axes: Axes, least: float) -> None:
    """An axis from 0 that goes no less far than `least`."""
    axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], least))


def draw_curve(axes: Axes, curve: Curve, per_prompt: np.ndarray, *, first: int, color: str) -> None:
    """Single prompts, the interval and the mean, over layers from `first` on."""
    layers = np.arange(len(curve.mean))
    if len(per_prompt) > 1:
        axes.plot(np.arange(first, len(layers)), per_prompt[:_MAX_LINES].T, color=color, alpha=0.12, linewidth=0.5)
    for run in curve.runs:
        # A lone layer between two gaps gets a narrow box.
        x = list(run) if len(run) > 1 else [run[0] - 0.18, run[0] + 0.18]
        low, high = (np.broadcast_to(edge[list(run)], len(x)) for edge in (curve.low, curve.high))
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(
        np.arange(first, len(layers)), per_prompt.mean(axis=0), color=color, linewidth=1.4, marker="o", markersize=2.2
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(-1.6, len(layers) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="x", length=0, labelbottom=False)


def mark(axes: Axes, layer: int, interval: Interval | None, label: str, *, color: str, n_layers: int) -> None:
    """A layer that stands out, with its interval and a label."""
    if interval is not None:
        axes.axvspan(interval.low - 0.5, interval.high + 0.5, color=color, alpha=0.08, linewidth=0)
    axes.axvline(layer, color=color, linewidth=0.9, linestyle=(0, (3, 2)))
    is_left = layer < n_layers / 2
    axes.annotate(
        label,
        (layer, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4 if is_left else -4, -2),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="top",
        color=color,
        fontweight="bold",
    )


def draw_mixers(axes: Axes, record: TraceRecord) -> None:
    """One coloured cell per layer, its kind of mixer, with a legend."""
    kinds = [layer.mixer for layer in record.model.layers]
    slots = mixer_slots(kinds)
    for layer, kind in enumerate(kinds):
        axes.add_patch(Rectangle((layer - 0.46, 0), 0.92, 1, color=MIXER_COLORS[slots[kind]], linewidth=0))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    finish_layers(axes, record.n_layers)
    # Only kinds that look like names: a stored run may hold anything, and fonts do not.
    patches = [Patch(color=MIXER_COLORS[slot], label=plain(kind)) for kind, slot in slots.items()]
    axes.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -2.6), ncols=min(6, len(patches)), handlelength=1
    )


def plain(kind: str) -> str:
    """A text as Matplotlib may draw it: no hidden characters, and nothing that it takes for mathematics."""
    return "".join(char if char.isascii() and char.isprintable() and char != "$" else "?" for char in kind)[:40].lstrip(
        "_"
    )


def finish_layers(axes: Axes, n_layers: int) -> None:
    """Numbers of layers under the lowest panel."""
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if n_layers / step <= 32)
    axes.set_xticks(range(0, n_layers, step))
    axes.tick_params(axis="x", length=0, labelbottom=True)
    axes.set_xlabel("layer")


def draw_strip(axes: Axes, strip: Strip) -> Any:
    """One row of cells; the image, for its colour bar."""
    low = -strip.scale if strip.kind == "signed" else 0.0
    n_layers = len(strip.values)
    image = axes.pcolormesh(
        np.arange(n_layers + 1) - 0.5,
        [0, 1],
        strip.values[None, :],
        cmap=_SIGNED if strip.kind == "signed" else _MAGNITUDE,
        vmin=low,
        vmax=strip.scale,
        edgecolors="white",
        linewidth=0.6,
    )
    if strip.missing is not None:
        for layer in np.flatnonzero(np.isnan(strip.values)).tolist():
            axes.add_patch(Rectangle((layer - 0.5, 0), 1, 1, fill=False, hatch="////", edgecolor=MUTED, linewidth=0))
    if strip.marked is not None:
        frame = Rectangle((strip.marked - 0.5, 0), 1, 1, fill=False, edgecolor="#1c1f24", linewidth=1.2, clip_on=False)
        axes.add_patch(frame)
    return image


def draw_strip_rows(figure: Figure, strips: Sequence[Strip], n_layers: int) -> None:
    """Rows of cells one below the other, each with its colour bar."""
    figure.set_size_inches(WIDTH, 0.875 * len(strips))
    for axes, strip in zip(np.atleast_1d(figure.subplots(len(strips), 1, sharex=True)), strips, strict=True):
        image = draw_strip(axes, strip)
        figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=6).outline.set_visible(False)
        axes.set_yticks([])
        title = strip.title if strip.kind == "signed" else f"{strip.title} ({plain(strip.unit)})"
        axes.set_title(title if strip.missing is None else f"{title}; hatched: {strip.missing}")
        finish_layers(axes, n_layers)
        axes.label_outer()
