"""Plots of how the cost grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, SUBJECT

_AXES = {
    "layers": ("Growth with layers", "number of layers"),
    "prompts": ("Growth with prompts", "number of prompts"),
}
_COLOURS = ("#4c5b6b", "#2a78c2", "#7fb2df", "#35916f", "#a06bb5")  # of the others; LayerTracer stands out
_OF_SUBJECT = "#d1495b"


def write_plots(records: Mapping[str, Mapping[str, Any]], folder: Path, stem: str) -> dict[str, str]:
    """Write a plot for each growth that was measured at two sizes or more.

    Returns:
        Names of the files, by title.
    """
    written = {}
    for group, (title, label) in _AXES.items():
        members = [record for record in records.values() if record["spec"]["group"] == group]
        if len(members) >= 2:
            name = f"{stem}-{group}.svg"
            _draw(members, folder / name, size_of=group, label=label)
            written[title] = name
    return written


def _draw(members: list[Mapping[str, Any]], path: Path, *, size_of: str, label: str) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    colours = iter(_COLOURS)
    for name, contender in CONTENDERS.items():
        points = [
            (_size(record, size_of), record["summary"][name]["cpu_s"])
            for record in members
            if name in record["summary"]
        ]
        if points:
            sizes, spreads = zip(*points, strict=True)
            colour = _OF_SUBJECT if name == SUBJECT else next(colours)
            medians = [spread["median"] for spread in spreads]
            axes.plot(sizes, medians, marker="o", color=colour, label=contender.label, linewidth=1.6)
            axes.fill_between(
                sizes, [s["min"] for s in spreads], [s["max"] for s in spreads], color=colour, alpha=0.15, linewidth=0
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({_size(record, size_of) for record in members})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel(label)
    axes.set_ylabel("CPU seconds, median and range")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False)
    # The same figures give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "layertracer"}):
        figure.savefig(path, metadata={"Date": None})


def _size(record: Mapping[str, Any], size_of: str) -> int:
    return int(record["facts"]["n_layers"] if size_of == "layers" else record["spec"]["n_prompts"])
