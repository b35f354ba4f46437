"""Whether a trace keeps to its memory budget: planned and real peaks over a grid of models, tasks and budgets.

    OMP_NUM_THREADS=1 python -m benchmarks.memory [--quick] [--only TEXT ...] [--resume] [--out FILE]

Each cell is a process of its own. Where the system allows it, it runs in a memory control group of what is resident
after loading plus the budget, in which the kernel kills it if it takes more. The real peak is the kernel's own count
(VmHWM, set back when the model is loaded), less what was resident before. Results are stored after every cell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.control_group import control_group
from benchmarks.machine import ROOT, describe_machine
from benchmarks.memory_cells import Cell, grid

RESULTS = ROOT / "benchmarks" / "results"


def run_cell(cell: Cell, numbers: Path) -> dict[str, Any]:
    """What became of one cell."""
    began = time.perf_counter()
    with control_group(f"layertracer-memory-{os.getpid()}") as group:
        where = [] if group is None else [str(group.folder), group.limit_file]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory_worker", json.dumps(asdict(cell)), str(numbers), *where],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    found: dict[str, Any] = {"in_group": group is not None, "wall_s": round(time.perf_counter() - began, 1)}
    if done.returncode == -9:
        return found | {"killed": True}
    if done.returncode:
        return found | {"killed": False, "error": done.stderr[-2000:]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"killed": False} | told


def differences(one: Path, other: Path) -> dict[str, float]:
    """How far the numbers of two traces are apart."""
    with np.load(one) as mine, np.load(other) as theirs:
        return {
            "log_prob_nats": _gap(mine["log_prob"], theirs["log_prob"]),
            "js_bits": _gap(mine["js"], theirs["js"]),
        }


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    gaps = np.abs(one.astype(float) - other.astype(float))
    return float(np.nanmax(gaps)) if np.isfinite(gaps).any() else 0.0


def run_all(cells: Sequence[Cell], stored: dict[str, Any], out: Path) -> None:
    """Run cells; `stored` and the file grow with each."""
    with tempfile.TemporaryDirectory(prefix="layertracer-memory-") as folder:
        first: dict[str, Path] = {}
        for number, cell in enumerate(cells):
            numbers = Path(folder) / f"{number}.npz"
            found = run_cell(cell, numbers)
            if numbers.exists() and cell.task in first:
                found["differences"] = differences(numbers, first[cell.task])
            elif numbers.exists():
                first = {cell.task: numbers}
            stored[cell.name] = asdict(cell) | found
            print(line_of(cell.name, stored[cell.name]), flush=True)
            write(stored, out)


def line_of(name: str, found: dict[str, Any]) -> str:
    """One cell in a line."""
    if "real_bytes" not in found:
        what = "KILLED" if found["killed"] else found.get("refused") or found.get("lacks_site") or found["error"]
        return f"{name:<56} {' '.join(what.split())[:120]}"
    planned, real = found["planned_bytes"] / 1e6, found["real_bytes"] / 1e6
    gaps = found.get("differences", {})
    apart = f"  {gaps['log_prob_nats']:.1e} nats  {gaps['js_bits']:.1e} bits" if gaps else ""
    return (
        f"{name:<56} planned {planned:7.1f}  real {real:7.1f} MB  ratio {planned / real:5.2f}  {found['cpu_s']:7.2f} s"
        f"{apart}"
    )


def summarise(stored: dict[str, Any]) -> dict[str, Any]:
    """All cells in a few numbers."""
    cells = [one for one in stored.values() if "lacks_site" not in one]
    done = [one for one in cells if "real_bytes" in one]
    ratios = np.array([one["planned_bytes"] / max(1, one["real_bytes"]) for one in done])
    over = [one for one in done if one["real_bytes"] > _bytes_of(one["budget"])]
    gaps = [one["differences"] for one in done if "differences" in one]
    shares = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
    quantiles = {name: float(np.quantile(ratios, share)) for name, share in shares.items()}
    return {
        "n_cells": len(cells),
        "n_killed": sum(one["killed"] for one in cells),
        "n_refused": sum("refused" in one for one in cells),
        "n_failed": sum("error" in one for one in cells),
        "n_over_budget": len(over),
        "n_planned_too_low": int((ratios < 0.8).sum()),
        "planned_to_real": quantiles,
        "log_prob_nats_max": max((gap["log_prob_nats"] for gap in gaps), default=None),
        "js_bits_max": max((gap["js_bits"] for gap in gaps), default=None),
    }


def _bytes_of(budget: str) -> int:
    from layertracer.tracing import parse_memory

    return parse_memory(budget)


def write(stored: dict[str, Any], out: Path) -> None:
    """The figures so far."""
    versions = {name: metadata.version(name) for name in ("layertracer", "torch", "transformers")}
    summary = summarise(stored) if any("real_bytes" in one for one in stored.values()) else {}
    figures = {"summary": summary, "machine": describe_machine(), "versions": versions, "cells": stored}
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the grid, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the cells: some ten minutes")
    parser.add_argument("--only", nargs="+", default=[], help="cells whose name holds all of these")
    parser.add_argument("--resume", action="store_true", help="leave out cells that are stored")
    parser.add_argument("--out", type=Path, default=RESULTS / "memory.json", help="where figures are stored")
    options = parser.parse_args()
    stored = json.loads(options.out.read_text("utf-8"))["cells"] if options.resume and options.out.exists() else {}
    cells = [cell for cell in grid(is_quick=options.quick) if all(text in cell.name for text in options.only)]
    run_all([cell for cell in cells if cell.name not in stored], stored, options.out)
    print(json.dumps(summarise(stored), indent=1))


if __name__ == "__main__":
    main()
