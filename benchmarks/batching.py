"""What a memory budget changes in the numbers: traces in passes of other sizes, against those of the largest budget.

    OMP_NUM_THREADS=1 python -m benchmarks.batching [--models NAME ...] [--out FILE]

Every difference is rounding: products of matrices add up otherwise with another number of rows. It is given in nats and
bits, and in nats for each nat of the log-probability itself, which is what rounding goes by.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import layertracer as lt
from benchmarks.machine import describe_machine
from benchmarks.memory_cells import MINIATURES, Cell
from benchmarks.memory_worker import samples_of, settings_of

_BUDGETS = ("2GB", "200MB", "100MB", "70MB")
_TASKS = ((8, "3-40", "usual"), (8, "40", "usual"), (24, "6", "usual"), (8, "3-40", "block_output"), (8, "6", "all"))
_FEWER_TASKS = ((4, "3-40", "usual"), (8, "6", "usual"), (3, "40", "block_output"))


def cells_of(model: str) -> Iterator[list[Cell]]:
    """The cells of each task, the largest budget first."""
    is_small = model in MINIATURES
    for n_prompts, lengths, option in _TASKS if is_small else _FEWER_TASKS:
        yield [
            Cell(
                model=model,
                n_prompts=n_prompts,
                lengths=lengths,
                option=option,
                budget=budget,
                draws=5 if is_small else 1,
            )
            for budget in _BUDGETS
        ]


def differences(model: lt.TracedModel, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    """How far each trace is from the first one."""
    first: lt.Trace | None = None
    for cell in cells:
        try:
            samples = samples_of(cell, model.anatomy.d_vocab)
            trace = lt.trace(model, samples, memory=cell.budget, **settings_of(cell))
        except lt.OutOfMemoryError:
            continue
        if first is None:
            first = trace
            continue
        assert trace.plan is not None  # it was traced
        gap = np.abs(trace.target_log_prob - first.target_log_prob)
        yield {
            "cell": cell.name,
            "n_passes": trace.plan["n_passes"],
            "log_prob_nats": float(gap.max()),
            "log_prob_relative": float((gap / np.maximum(1, np.abs(first.target_log_prob))).max()),
            "js_bits": float(np.nanmax(np.abs(trace.js_bits - first.js_bits))),
        }


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MINIATURES, "smollm2"], help="of the embedded ones")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name in options.models:
        model = lt.load_model(name)
        for cells in cells_of(name):
            for one in differences(model, cells):
                print(json.dumps(one), flush=True)
                found.append(one)
    names = ("log_prob_nats", "log_prob_relative", "js_bits")
    figures = {
        "largest": {name: max(one[name] for one in found) for name in names},
        "cells": found,
        "machine": describe_machine(),
        "versions": {name: metadata.version(name) for name in ("layertracer", "torch")},
    }
    print(json.dumps(figures["largest"]))
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
