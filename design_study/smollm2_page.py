"""The part of docs/design.md on SmolLM2, and its figure: every number is looked up in the stored result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from layertracer._files import write_whole

from design_study.plan import RESULTS, ROOT

PAGE = ROOT / "docs" / "design.md"
RESULT = RESULTS / "smollm2.json"
FIGURE = PAGE.parent / "images" / "design-smollm2.svg"
BEGIN = "<!-- What follows, to its end mark, is written by `python -m design_study.smollm2`; do not edit. -->"
END = "<!-- End of what `python -m design_study.smollm2` writes. -->"

_N_LAYERS = 30
_WIDTH = 9.0

_LEAD = """\
## SmolLM2-135M, nothing trained

`python -m design_study.smollm2` asks `lt.design` which layers of the embedded default keep full attention when the
others see a window of 16 tokens and the first 4. Text is Python's own language reference (`pydoc_data.topics`), the
task generated recall; seed 0, one thread. The search saw {search} of each; placements are compared on {compared}
passages and {compared} prompts that it did not see, and the advised ones judged on {held_out} of each.
"""


def write_page(results: Mapping[str, Any]) -> list[Path]:
    """Write the figure, and the part of the page between its marks; added at its end where it is not there yet.

    Returns:
        The files.
    """
    text = "\n".join([BEGIN, "", _describe(results), END])
    page = PAGE.read_text("utf-8") if PAGE.is_file() else "# Design advice, put to the test\n"
    if BEGIN in page:
        before, _, rest = page.partition(BEGIN)
        page = before + text + rest.partition(END)[2]
    else:
        page = page.rstrip("\n") + "\n\n" + text + "\n"
    write_whole(PAGE, page.encode())
    written = [PAGE]
    if "sweep" in results:
        FIGURE.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context({"svg.hashsalt": "layertracer", "svg.fonttype": "none", "font.size": 8.5}):
            _draw_sweep(results["sweep"]).savefig(FIGURE, metadata={"Date": None})
        written.append(FIGURE)
    return written


def read_result() -> dict[str, Any]:
    """What is stored."""
    stored: dict[str, Any] = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {}
    return stored


def _describe(results: Mapping[str, Any]) -> str:
    parts = []
    if "sizes" in results:
        rows = next(iter(results["sizes"].values()))["rows"]
        counts = {purpose: rows[purpose]["text"] for purpose in ("search", "compared", "held_out")}
        parts += [_LEAD.format(**counts), _compared_table(results["sizes"]), _kinds_table(results["sizes"])]
        parts += [_judged_table(results["sizes"]), _said_of_cost(results["sizes"])]
    if "sweep" in results:
        parts += [_sweep_table(results["sweep"])]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _compared_table(sizes: Mapping[str, Any]) -> str:
    """The objective of the advised placement beside the others."""
    rows = []
    for size, found in sizes.items():
        random = np.array(found["baselines"]["random"]["objective"])
        uniform = min(found["baselines"]["uniform"]["objective"])
        low, high = found["percentile_interval"] or (np.nan, np.nan)
        rows.append(
            [
                size,
                ", ".join(map(str, found["layers"])),
                f"**{found['objective']:.3f}**",
                f"{random.min():.3f}",
                f"{np.quantile(random, 0.05):.3f}",
                f"{np.median(random):.3f}",
                f"{uniform:.3f}",
                f"{uniform / found['objective']:.1f}",
                f"{found['percentile']:.1f} ({low:.1f} to {high:.1f}): {found['verdict']}",
            ]
        )
    head = ["kept", "layers", "advised", "best of 200 random", "5th percentile", "median", "uniform, the better of two"]
    lead = "The objective (KL of text plus KL of recall, nats), lower is better:\n\n"
    return lead + _table([*head, "uniform ÷ advised", "percentile (95 %)"], rows)


def _kinds_table(sizes: Mapping[str, Any]) -> str:
    """Text and recall by themselves: the advised placement beside the best random one of each."""
    rows, close = [], []
    for size, found in sizes.items():
        named = found["baselines"]
        text = found["compared_kl_nats"]
        recall = found["objective"] - text
        cells = [size]
        for kind, own, of in (("text", text, _text), ("recall", recall, _recall)):
            random, uniform = of(named["random"]), of(named["uniform"])
            if uniform.min() < 2 * own:
                close.append(f"of {kind} with {size} kept, where uniform costs {uniform.min() / own:.1f} times as much")
            cells += [f"**{own:.3f}**", f"{random.min():.3f}", f"{np.median(random):.3f}", f"{uniform.min():.3f}"]
        rows.append(cells)
    head = ["kept", "text: advised", "best random", "median", "uniform", "recall: advised", "best random", "median"]
    lead = "Text and recall by themselves, each beside the random placement that is best at *it*:\n\n"
    exceptions = f", but {'; '.join(close)}" if close else ""
    said = f"\nThe advised placement costs at most half of what uniform ones do{exceptions}.\n"
    return lead + _table([*head, "uniform"], rows) + said


def _text(baseline: Mapping[str, Any]) -> Any:
    return np.array(baseline["kl_nats"])


def _recall(baseline: Mapping[str, Any]) -> Any:
    return np.array(baseline["objective"]) - np.array(baseline["kl_nats"])


def _judged_table(sizes: Mapping[str, Any]) -> str:
    """The advised placements on all rows that judge."""
    rows = []
    for size, found in sizes.items():
        recall = found["accuracy"]["recall"]
        rows.append(
            [
                size,
                f"{found['kl_nats']:.3f} ({_between(found['kl_interval'])})",
                f"{recall['kl_nats']:.3f} ({_between(recall['kl_interval'])})",
                f"{recall['share']:.0%} ({recall['interval'][0]:.0%} to {recall['interval'][1]:.0%})",
                f"{recall['full_share']:.0%}",
            ]
        )
    head = ["kept", "KL of text, nats", "KL of recall, nats", "recall solved", "by the full model"]
    return "The advised placements on all rows that judge:\n\n" + _table(head, rows)


def _between(ends: list[float] | None) -> str:
    return "no interval" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _said_of_cost(sizes: Mapping[str, Any]) -> str:
    one = next(iter(sizes.values()))
    return (
        f"All of it took {one['cpu_s'] / 60:.0f} minutes of one processor for {len(sizes)} numbers of layers "
        f"({one['n_evaluations']} placements); what was measured again the plain way differed by "
        f"{one['audit_worst_nats']:.1e} nats at most.\n"
    )


def _sweep_table(sweep: Mapping[str, Any]) -> str:
    """How the advised layers change with the window and with the length of the text."""
    lead = (
        "How the advice changes (eight layers, the largest by removing one from the full model, text alone; KL on "
        "passages that the search did not see):\n\n"
    )
    first = {"window": _named(sweep, "window")[0][1], "context": _named(sweep, "context")[0][1]}
    rows = []
    for kind in ("window", "context"):
        for name, found in _named(sweep, kind):
            shared = len(set(found["layers"]) & set(first[kind]["layers"]))
            uniform = min(found["baselines"]["uniform"]["kl_nats"])
            rows.append(
                [
                    f"{name}, passages of {found['n_tokens']}",
                    ", ".join(map(str, found["layers"])),
                    f"{shared} of {len(found['layers'])}",
                    f"{found['compared_kl_nats']:.3f}",
                    f"{uniform:.3f}",
                ]
            )
    head = ["asked", "layers", "shared with the first of its kind", "KL, nats", "KL of uniform"]
    figure = "![Layers that are advised, by window and by length of text](images/design-smollm2.svg)\n"
    return lead + _table(head, rows) + "\n" + figure


def _named(sweep: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
    return [(name, found) for name, found in sweep.items() if name.startswith(kind)]


def _draw_sweep(sweep: Mapping[str, Any]) -> Figure:
    """What one layer's window costs, layer by layer, the advised layers marked: a panel for windows, one for texts."""
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, kind in zip(panels, ("window", "context"), strict=True):
        named = _named(sweep, kind)
        costs = np.array([found["removed_kl_nats"]["text"] for _, found in named])
        shares = costs / costs.max(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, (_, found) in enumerate(named):
            axes.scatter(found["layers"], [row] * len(found["layers"]), s=14, color="#d03b3b", zorder=3)
        axes.set_yticks(range(len(named)), [name for name, _ in named])
        axes.set_xticks(range(0, _N_LAYERS, 2))
    panels[0].set_title("KL when that layer alone has the window (share of the largest); dots: advised layers")
    panels[1].set_xlabel("layer")
    return figure
