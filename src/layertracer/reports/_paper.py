"""The figures of a paper, each drawn onto an empty Matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from layertracer._types import Interval
from layertracer.reports._drawing.palette import GAIN, JS, LOSS, MIXER_COLORS, MUTED, TARGET, mixer_slots
from layertracer.reports._sections.heat import order_prompts
from layertracer.reports._values.numbers import LEAST_JS_BITS, least_probability
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Curve, Strip
from layertracer.reports._values.wording import site_name, vulnerable_label
from layertracer.runs import TraceRecord

_WIDTH = 6.75  # inches: the text width of most two-column papers
_MAX_LINES = 200
_SIGNED = LinearSegmentedColormap.from_list("gain", [LOSS, "#f3f3f1", GAIN])
_MAGNITUDE = LinearSegmentedColormap.from_list("js", ["#f3f3f1", JS])
_PROB = LinearSegmentedColormap.from_list("prob", ["#f3f5f7", "#a9cfe6", "#3d8fc4", "#08436e"])


def draw_curves(figure: Figure, record: TraceRecord, overview: Overview) -> None:
    """Target probability and JS divergence over layers, with the mixers underneath."""
    figure.set_size_inches(_WIDTH, 3.8)
    target, js, mixers = figure.subplots(3, 1, sharex=True, height_ratios=[10, 10, 1])
    with_embedding = np.column_stack([record.embedding_prob, record.target_prob])
    _draw_curve(target, overview.target, with_embedding, first=-1, color=TARGET)
    _draw_curve(js, overview.js, record.js_bits.mean(axis=1), first=0, color=JS)
    target.set_title("Target probability")
    js.set_title(f"JS divergence at the {site_name(record.spec)} (bits)")
    particle, vulnerable = overview.findings.particle, overview.findings.vulnerable
    if particle is not None and particle.layer is not None:
        _mark(
            target,
            particle.layer,
            particle.interval,
            f"task particle {particle.layer}",
            color=TARGET,
            n_layers=record.n_layers,
        )
    if vulnerable is not None:
        label = vulnerable_label(vulnerable)
        _mark(js, vulnerable.layer, vulnerable.interval, label, color=JS, n_layers=record.n_layers)
    _reach(target, least_probability(record.spec))
    _reach(js, LEAST_JS_BITS)
    _draw_mixers(mixers, record)


def _reach(axes: Axes, least: float) -> None:
    """An axis from 0 that goes no less far than `least`."""
    axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], least))


def _draw_curve(axes: Axes, curve: Curve, per_prompt: np.ndarray, *, first: int, color: str) -> None:
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


def _mark(axes: Axes, layer: int, interval: Interval | None, label: str, *, color: str, n_layers: int) -> None:
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


def _draw_mixers(axes: Axes, record: TraceRecord) -> None:
    kinds = [layer.mixer for layer in record.model.layers]
    slots = mixer_slots(kinds)
    for layer, kind in enumerate(kinds):
        axes.add_patch(Rectangle((layer - 0.46, 0), 0.92, 1, color=MIXER_COLORS[slots[kind]], linewidth=0))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    _finish_layers(axes, record.n_layers)
    # Only kinds that look like names: a stored run may hold anything, and fonts do not.
    patches = [Patch(color=MIXER_COLORS[slot], label=_plain(kind)) for kind, slot in slots.items()]
    axes.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -2.6), ncols=min(6, len(patches)), handlelength=1
    )


def _plain(kind: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() and char != "$" else "?" for char in kind)[:40].lstrip(
        "_"
    )


def _finish_layers(axes: Axes, n_layers: int) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if n_layers / step <= 32)
    axes.set_xticks(range(0, n_layers, step))
    axes.tick_params(axis="x", length=0, labelbottom=True)
    axes.set_xlabel("layer")


def draw_strips(figure: Figure, record: TraceRecord, overview: Overview) -> None:
    """One row of cells for the gain in target probability, one for the JS divergence."""
    figure.set_size_inches(_WIDTH, 1.75)
    for axes, strip in zip(figure.subplots(2, 1, sharex=True), overview.strips, strict=True):
        image = _draw_strip(axes, strip)
        figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=6).outline.set_visible(False)
        axes.set_yticks([])
        title = strip.title if strip.kind == "signed" else f"{strip.title} ({strip.unit})"
        axes.set_title(title if strip.missing is None else f"{title}; hatched: {strip.missing}")
        _finish_layers(axes, record.n_layers)
        axes.label_outer()


def _draw_strip(axes: Axes, strip: Strip) -> Any:
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


def draw_map(figure: Figure, record: TraceRecord, overview: Overview) -> None:
    """Target probability of every prompt after every layer, rows ordered by their own task particle."""
    n_rows = record.n_prompts
    figure.set_size_inches(_WIDTH, float(np.clip(0.9 + 0.09 * n_rows, 1.6, 6.5)))
    axes = figure.subplots()
    ordered = order_prompts(record, list(range(n_rows)))
    values = np.column_stack([record.embedding_prob, record.target_prob])[ordered]
    image = axes.imshow(
        values,
        cmap=_PROB,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(-1.5, record.n_layers - 0.5, n_rows, 0),
    )
    figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03).outline.set_visible(False)
    particles = overview.findings.particle.per_prompt if overview.findings.particle else ()
    places = [(layer, row + 0.5) for row, prompt in enumerate(ordered) if (layer := particles[prompt]) is not None]
    if places:
        x, y = zip(*places, strict=True)
        axes.scatter(x, y, s=min(8.0, 400 / n_rows), facecolors="white", edgecolors="#1c1f24", linewidths=0.6)
    axes.set_title("Target probability, one row per prompt")
    axes.set_yticks([])
    _finish_layers(axes, record.n_layers)


def draw_dominant(figure: Figure, record: TraceRecord, overview: Overview) -> None:
    """Size of the largest dimension of each layer, and its share of the JS divergence."""
    del overview  # the drawers share one signature
    figure.set_size_inches(_WIDTH, 3.2)
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
    _finish_layers(share, record.n_layers)


DRAWERS: dict[str, Callable[[Figure, TraceRecord, Overview], None]] = {
    "curves": draw_curves,
    "strips": draw_strips,
    "map": draw_map,
    "dominant": draw_dominant,
}
"""Every figure by the name of its file."""
