"""What the audit of a trace takes: the same trace with and without it, in turns, in CPU seconds of one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.audit --pairs 5 --out benchmarks/results/audit.json

The jobs are those of the benchmark with SmolLM2-135M (one mask a layer on random tokens), and the trace that a newcomer
runs first (5-shot antonyms, five draws at the mixer's output).
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
from benchmarks.jobs import FULL, Job, keep_masks, token_ids
from benchmarks.machine import tell_figures

_JOBS = ("eight-prompts", "few-shot-5", "few-shot-10")
_MEMORY = "2GiB"
"""A fixed budget: how much is free at the moment must not decide how a pass is cut."""


def random_tokens(model: lt.TracedModel, job: Job) -> Callable[[float], lt.Trace]:
    """A job of the benchmark, as a function of the audit's share."""
    anatomy = model.anatomy
    samples = [
        lt.Sample(prompt_ids=tuple(row), answer_id=3) for row in token_ids(job, d_vocab=anatomy.d_vocab).tolist()
    ]
    mask = lt.Mask.explicit(keep_masks(n_layers=anatomy.n_layers, width=anatomy.d_model)[:, None])
    return lambda share: lt.trace(model, samples, perturbation=mask, memory=_MEMORY, share_prefix=True, audit=share)


def antonyms(model: lt.TracedModel) -> Callable[[float], lt.Trace]:
    """The first trace of a newcomer, likewise."""
    task = lt.load_task("antonym", n_shot=5, limit=32)
    return lambda share: lt.trace(model, task, memory=_MEMORY, audit=share)


def measure(job: Callable[[float], lt.Trace], *, pairs: int) -> dict[str, Any]:
    """CPU seconds with and without, their ratio pair by pair, and what was looked at."""
    audit = job(0.1).audit
    found = []
    for pair in range(pairs):
        taken = {share: _seconds(job, share) for share in ((0.1, 0.0) if pair % 2 else (0.0, 0.1))}
        found.append((taken[0.1], taken[0.0]))
    ratios = [audited / plain for audited, plain in found]
    assert audit is not None  # it was asked for
    return {
        "cpu_s": statistics.median(audited for audited, _ in found),
        "cpu_s_without": statistics.median(plain for _, plain in found),
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "n_cells": audit.n_cells,
        "n_forwards": audit.n_forwards,
        "n_drawn": audit.n_drawn,
        "worst_nats": audit.worst_nats,
        "worst_bits": audit.worst_bits,
    }


def _seconds(job: Callable[[float], lt.Trace], share: float) -> float:
    start = time.process_time()
    job(share)
    return time.process_time() - start


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each pair (default 5)")
    parser.add_argument("--only", action="append", help="one of the jobs; may be given several times")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = lt.load_model("smollm2")
    jobs = {job.name: random_tokens(model, job) for job in FULL if job.name in _JOBS} | {"antonyms": antonyms(model)}
    figures = {
        "pairs": options.pairs,
        "jobs": {
            name: measure(job, pairs=options.pairs) for name, job in jobs.items() if name in (options.only or jobs)
        },
    }
    tell_figures(figures, options.out)


if __name__ == "__main__":
    main()
