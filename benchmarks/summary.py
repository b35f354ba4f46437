"""What the runs of one job come to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders import SUBJECT

Spread = dict[str, float]
"""Median, least and largest of some runs."""


def summarise(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of a job's table, for each contender.

    CPU seconds are divided within a round, never between rounds: what slows the machine for a while slows a whole
    round.
    """
    return {name: _summary_of(name, record) for name, runs in record["runs"].items() if runs}


def _summary_of(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    runs, gflop = record["runs"][name], record["gflop"][name]
    rates = record["product_gflop_per_s"]
    cpu_s, wall_s = _spread([run["cpu_s"] for run in runs]), _spread([run["wall_s"] for run in runs])
    gaps = [run["gap_bits"] for run in runs if run["gap_bits"] is not None]
    return {
        "n_runs": len(runs),
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "prompts_per_s": record["spec"]["n_prompts"] / wall_s["median"],
        "ratio_of_cpu_s": _spread(_ratios(runs, record["runs"].get(SUBJECT, ()))),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "gflop": gflop,
        "share_of_product_rate": statistics.median(gflop / run["cpu_s"] / rates[run["round"]] for run in runs),
        "largest_gap_bits": max(gaps) if gaps else None,
    }


def _ratios(runs: Sequence[Mapping[str, Any]], of_subject: Sequence[Mapping[str, Any]]) -> list[float]:
    """CPU seconds over LayerTracer's in the same round."""
    subject = {run["round"]: run["cpu_s"] for run in of_subject}
    return [run["cpu_s"] / subject[run["round"]] for run in runs if run["round"] in subject]


def _spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
