"""`python -m design_study.smollm2`: advice for SmolLM2-135M, beside random placements, by window and by context."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import click
import torch

import layertracer as lt
from layertracer._files import write_whole

from design_study.plan import STATE
from design_study.smollm2_page import RESULT, read_result, write_page

MODEL = "smollm2"
SIZES = (4, 8, 12)
WINDOW = lt.Window(16, sinks=4)
ROWS = {"search": 3, "compared": 6, "held_out": 16, "tokens": 72}
SEED = 0

SWEPT_SIZE = 8
WINDOWS = (16, 32, 64, 128)
CONTEXTS = (72, 128, 256, 512, 1024)
"""Tokens of a passage; each with a window of 16 and 4 sinks."""


def prose() -> str:
    """English prose that everybody has who has Python: its own reference, topic by topic."""
    return "\n\n".join(topics[name] for name in sorted(topics))


def compare_sizes(model: lt.TracedModel, state: Path) -> dict[str, Any]:
    """The advised placements of each size beside 200 random ones, uniform ones, and those that a trace names."""
    advice = lt.design(
        model,
        text=prose(),
        keep=SIZES,
        substitute=WINDOW,
        seed=SEED,
        rows=ROWS,
        audit=0.02,
        divisions=False,
        gates=False,
        out=state / "sizes",
        overwrite=True,
        progress=_said("sizes"),
    )
    return {str(size): _in_numbers(advice, size) for size in SIZES}


def sweep(model: lt.TracedModel, state: Path) -> dict[str, Any]:
    """The advised placement by the length of the window, and by that of the passages, from single layers alone."""
    asked = {f"window {size}": (lt.Window(size, sinks=4), size + 4 + 64) for size in WINDOWS}
    asked |= {f"context {n_tokens}": (WINDOW, n_tokens) for n_tokens in CONTEXTS}
    found: dict[str, Any] = {}
    for name, (window, n_tokens) in asked.items():
        advice = lt.design(
            model,
            (),
            text=prose(),
            keep=SWEPT_SIZE,
            substitute=window,
            search="singles",
            seed=SEED,
            rows={"search": 2, "compared": 5, "held_out": 5, "tokens": n_tokens},
            n_random=0,
            audit=0.02,
            divisions=False,
            gates=False,
            ratio=False,
            trace=False,
            out=state / name.replace(" ", "-"),
            overwrite=True,
            progress=_said(name),
        )
        found[name] = {**_in_numbers(advice, SWEPT_SIZE), "window": asdict(window), "n_tokens": n_tokens}
    return found


def _in_numbers(advice: lt.Advice, size: int) -> dict[str, Any]:
    """What is stored of an advice."""
    placement, named = advice.placements[size], advice.baselines[size]
    baselines = {
        name: {
            "placements": [list(kept) for kept in baseline.placements],
            "objective": baseline.objective.tolist(),
            "kl_nats": baseline.kl_nats.tolist(),
        }
        for name, baseline in named.items()
    }
    return {
        "layers": list(placement.layers),
        "chosen_by": placement.chosen_by,
        "objective": placement.objective,
        "compared_kl_nats": placement.compared_kl_nats,
        "percentile": placement.percentile,
        "percentile_interval": _ends(placement.percentile_interval),
        "verdict": placement.verdict,
        "below_best_nats": placement.below_best_nats,
        "below_best_interval": _ends(placement.below_best_interval),
        "kl_nats": placement.kl_nats,
        "kl_interval": _ends(placement.kl_interval),
        "accuracy": {
            task: {
                "share": one.share,
                "interval": _ends(one.interval),
                "full_share": one.full_share,
                "kl_nats": one.kl_nats,
                "kl_interval": _ends(one.kl_interval),
            }
            for task, one in placement.accuracy.items()
        },
        "notes": list(placement.notes),
        "baselines": baselines,
        "ratio": None
        if advice.ratio is None
        else {
            "n_kept": list(advice.ratio.n_kept),
            "objective": [one.objective for one in advice.ratio.judgements],
            "knee": advice.ratio.knee,
            "knee_interval": _ends(advice.ratio.knee_interval),
        },
        "removed_kl_nats": {kind: values.tolist() for kind, values in advice.singles.removed_kl_nats.items()},
        "restored_kl_nats": {kind: values.tolist() for kind, values in advice.singles.restored_kl_nats.items()},
        "rows": {
            "search": dict(advice.evaluations.n_search_rows),
            "compared": dict(advice.evaluations.n_compared_rows),
            "held_out": dict(advice.evaluations.n_held_out_rows),
        },
        "n_evaluations": advice.evaluations.n_evaluations,
        "cpu_s": advice.evaluations.cpu_s,
        "audit_worst_nats": advice.evaluations.audit_worst_nats,
    }


def _ends(interval: Any) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _said(name: str) -> Callable[[Any], None]:
    def say(progress: Any) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {name}: {progress.stage}, {progress.done} of {progress.total}")

    return say


_MAKERS: Mapping[str, Callable[[lt.TracedModel, Path], dict[str, Any]]] = {"sizes": compare_sizes, "sweep": sweep}


@click.command()
@click.option("--part", "parts", type=click.Choice((*_MAKERS, "page")), multiple=True, help="Which; all without.")
@click.option("--state", type=click.Path(path_type=Path), default=STATE / "smollm2", show_default=True)
def main(parts: tuple[str, ...], *, state: Path) -> None:
    """Measure on one thread what `lt.design` advises for SmolLM2; what was stopped goes on where it was.

    With --part page, nothing is measured and the page is written from the stored result.
    """
    torch.set_num_threads(1)
    model: lt.TracedModel | None = None
    for part in parts or (*_MAKERS, "page"):
        results = read_result()
        if part == "page":
            for path in write_page(results):
                click.echo(path)
            continue
        model = model or lt.load_model(MODEL)
        results[part] = _MAKERS[part](model, state)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        write_whole(RESULT, (json.dumps(results, indent=1) + "\n").encode())
        click.echo(RESULT)


if __name__ == "__main__":
    main()
