"""What several sites in one trace take beside one trace of each: CPU seconds of one thread, and counted arithmetic.

    OMP_NUM_THREADS=1 python -m benchmarks.sites --pairs 3 --out benchmarks/results/sites.json

Traces of the same prompts at four sites, in turns: all of them in one, and one after the other. What is shared are the
clean rows, what the lens reads, whole answers, the plan, and the clean forwards of the audit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import layertracer as lt
from benchmarks.machine import tell_figures
from layertracer.tracing._planning.op_meter import Meter

_SITES = ("mixer_output", "mlp_output", "block_output", "state")
_MEMORY = "2GiB"
"""A fixed budget: how much is free at the moment must not decide how a pass is cut."""
_JOBS: dict[str, tuple[str, Callable[[], Any]]] = {
    "antonyms with an attention miniature": ("mini/attention", lambda: lt.load_task("antonym", n_shot=3, limit=16)),
    "antonyms with a hybrid miniature": ("mini/hybrid", lambda: lt.load_task("antonym", n_shot=3, limit=16)),
    "antonyms with SmolLM2": ("smollm2", lambda: lt.load_task("antonym", n_shot=3, limit=8)),
}


def measure(model: lt.TracedModel, task: Any, *, draws: int, pairs: int) -> dict[str, Any]:
    """CPU seconds and arithmetic of both ways, and their ratios."""
    masks = [lt.Mask(site=site, draws=draws) for site in _SITES]

    def together() -> None:
        lt.trace(model, task, perturbation=masks, memory=_MEMORY)

    def apart() -> None:
        for mask in masks:
            lt.trace(model, task, perturbation=mask, memory=_MEMORY)

    apart()  # proofs, and what is measured once for each model
    found = []
    for pair in range(pairs):
        taken = {way: _seconds(way) for way in ((together, apart) if pair % 2 else (apart, together))}
        found.append((taken[together], taken[apart]))
    flops = {way: _flops(way) for way in (together, apart)}
    ratios = [one / several for one, several in found]
    return {
        "draws": draws,
        "cpu_s_together": statistics.median(one for one, _ in found),
        "cpu_s_apart": statistics.median(several for _, several in found),
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "flops_together": flops[together],
        "flops_apart": flops[apart],
        "ratio_of_flops": flops[together] / flops[apart],
    }


def _seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _flops(run: Callable[[], None]) -> int:
    with Meter() as meter:
        run()
    return int(meter.reading().flops)


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each pair (default 3)")
    parser.add_argument("--draws", type=int, action="append", help="draws of each mask; may be given several times")
    parser.add_argument("--only", action="append", help="one of the models; may be given several times")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"pairs": options.pairs, "sites": list(_SITES), "jobs": {}}
    for name, (source, task) in _JOBS.items():
        if source not in (options.only or [source]):
            continue
        model = lt.load_model(source)
        for draws in options.draws or (1, 5):
            key = f"{name}, {draws} draws"
            figures["jobs"][key] = measure(model, task(), draws=draws, pairs=options.pairs)
    tell_figures(figures, options.out)


if __name__ == "__main__":
    main()
