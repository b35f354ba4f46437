"""Certified stopping: how often it is wrong, on planted data, and how many cells it saves, on models.

    python -m benchmarks.certified --simulate --runs 500 --out benchmarks/results/certified-simulated.json
    python -m benchmarks.certified --model smollm2 --prompts 300 --out benchmarks/results/certified.json

The first draws rounds of layers whose means are known, lets the race stop at every round, and counts the runs in which
it certified a layer that has not the largest mean (of two that share it: any). The second measures every cell of all
prompts at each site, each prompt with masks of its own, and then reads the prompts in many random orders as a certified
trace would: how many cells it would have measured, and whether it named the layer that all cells name. It keeps what it
has measured after every block of prompts, and goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import layertracer as lt
from benchmarks.machine import describe_machine
from layertracer.measures import Sampling, find_vulnerable_layer, race_means
from layertracer.tasks import Task
from layertracer.tracing import TraceOptions, trace_model

Array = NDArray[np.float64]
LEVEL = 0.95
FIRST_BLOCK, BLOCK = 16, 8
SITES = ("mixer_output", "mlp_output", "block_output")


# ---------------------------------------------------------------- simulation


@dataclass(frozen=True, kw_only=True)
class Population:
    """Layers whose means are known.

    Attributes:
        means: Their means, the largest first where one is.
        draw: Rounds [round, layer].
        ties: How many layers share the largest mean.
    """

    means: Sequence[float]
    draw: Callable[[np.random.Generator, int], Array]
    ties: int = 1


def smooth(means: Sequence[float], *, shared: float = 0.08, own: float = 0.04) -> Population:
    """Layers that rise and fall together from prompt to prompt, and by themselves."""

    def draw(generator: np.random.Generator, n_rounds: int) -> Array:
        together = shared * generator.uniform(-1, 1, size=(n_rounds, 1))
        values = np.array(means) + together + own * generator.uniform(-1, 1, size=(n_rounds, len(means)))
        return np.asarray(values)

    top = max(means)
    return Population(means=means, draw=draw, ties=sum(one == top for one in means))


def heavy(means: Sequence[float], *, concentration: float = 0.3) -> Population:
    """Beta-distributed layers that are near 0 in most prompts and near 1 in some."""
    a = concentration * np.array(means)

    def draw(generator: np.random.Generator, n_rounds: int) -> Array:
        return generator.beta(a, concentration - a, size=(n_rounds, len(means)))

    top = max(means)
    return Population(means=means, draw=draw, ties=sum(one == top for one in means))


def rare(means: Sequence[float]) -> Population:
    """Layers that are 0 in most prompts and 1 in few."""

    def draw(generator: np.random.Generator, n_rounds: int) -> Array:
        return (generator.random((n_rounds, len(means))) < np.array(means)).astype(float)

    top = max(means)
    return Population(means=means, draw=draw, ties=sum(one == top for one in means))


POPULATIONS: Mapping[str, Population] = {
    "clear": smooth([0.35, *[0.15] * 29]),
    "close": smooth([0.25, *[0.2] * 29]),
    "near tie of two": smooth([0.3, 0.299, *[0.2] * 10]),
    "near tie of all": smooth([0.3, *[0.299] * 11]),
    "tie of two": smooth([0.3, 0.3, *[0.2] * 10]),
    "tie of two, apart": smooth([0.3, 0.3], shared=0.0, own=0.3),
    "heavy tails, near tie": heavy([0.12, *[0.119] * 11]),
    "heavy tails, clear": heavy([0.3, *[0.1] * 11]),
    "rare, near tie": rare([0.031, *[0.03] * 11]),
    "rare, tie of two": rare([0.1, 0.1]),
}


def simulate(name: str, population: Population, *, n_runs: int, n_rounds: int) -> dict[str, Any]:
    """How often a race that may stop at every round names a layer wrongly."""
    false = certified = dropped = 0
    rounds, cells = [], []
    for run in range(n_runs):
        race = race_means(population.draw(np.random.default_rng([run, len(name)]), n_rounds), level=LEVEL)
        is_named = race.winner is not None
        certified += is_named
        dropped += 0 not in race.contenders
        false += is_named and (race.winner != 0 or population.ties > 1)
        ends = [n_rounds if one is None else one for one in race.out_after]
        last = max(one for one in race.out_after if one is not None) if is_named else n_rounds
        rounds.append(last)
        cells.append(sum(min(one, last) for one in ends) / (n_rounds * len(ends)))
    return {
        "population": name,
        "n_runs": n_runs,
        "n_rounds": n_rounds,
        "false": false / n_runs,
        "best_dropped": dropped / n_runs,
        "certified": certified / n_runs,
        "mean_rounds": float(np.mean(rounds)),
        "mean_share_of_cells": float(np.mean(cells)),
    }


def simulate_finite(*, n_runs: int, n_prompts: int = 300) -> dict[str, Any]:
    """The same where the prompts are a list that is read in random order: how often its own largest mean is missed."""
    false = 0
    for run in range(n_runs):
        generator = np.random.default_rng([run, 99])
        values = smooth([0.3, *[0.295] * 11], own=0.15).draw(generator, n_prompts)
        race = race_means(values[generator.permutation(n_prompts)], level=LEVEL)
        false += int(values.mean(axis=0).argmax()) not in race.contenders
    return {"population": "finite list, read without replacement", "n_runs": n_runs, "best_dropped": false / n_runs}


# ---------------------------------------------------------------- measurement


def measure_blocks(
    model: lt.TracedModel, task: Task, site: str, *, kept: dict[str, Any], on_block: Callable[[], None], n_prompts: int
) -> Array:
    """The observations of all prompts and layers, [prompt, layer], block by block, going on from what is kept."""
    while len(kept["js_bits"]) < n_prompts:
        start = len(kept["js_bits"])
        began = time.process_time()
        block = list(task)[start : min(start + BLOCK, n_prompts)]
        mask = lt.Mask(site=site, seed=start)
        record = trace_model(model, block, TraceOptions(perturbation=mask, by_prompt=True, audit=0.0))
        kept["js_bits"] += record.js_bits.astype(np.float64).mean(axis=1).round(9).tolist()
        kept["cpu_s"] += time.process_time() - began
        on_block()
    return np.array(kept["js_bits"], dtype=np.float64)


def replay(observed: Array, order: NDArray[np.intp]) -> tuple[int | None, int, float, int]:
    """What a certified trace in that order names, after how many rounds and share of the cells, and how many are left.

    A layer is measured to the end of the block in which it is out.
    """
    n_prompts, n_layers = observed.shape
    race = race_means(observed[order], level=LEVEL)
    stop = n_prompts
    if race.winner is not None:
        stop = end_of_block(max((one for one in race.out_after if one is not None), default=1), n_prompts)
    ends = [n_prompts if one is None else end_of_block(one, n_prompts) for one in race.out_after]
    cells = sum(min(one, stop) for one in ends)
    return race.winner, stop, cells / (n_prompts * n_layers), len(race.contenders)


def end_of_block(n_rounds: int, n_prompts: int) -> int:
    """The round with which the block ends that a round is in."""
    if n_rounds <= FIRST_BLOCK:
        return min(FIRST_BLOCK, n_prompts)
    return min(FIRST_BLOCK + math.ceil((n_rounds - FIRST_BLOCK) / BLOCK) * BLOCK, n_prompts)


def summarize(observed: Array, *, n_orders: int) -> dict[str, Any]:
    """Over many orders of the prompts: what is named, and what it takes; and what all cells say."""
    whole = find_vulnerable_layer(observed[:, None, :], sampling=Sampling(draws="given"))  # a prompt's own
    found = [replay(observed, np.random.default_rng(seed).permutation(len(observed))) for seed in range(n_orders)]
    names = [winner for winner, *_ in found if winner is not None]
    mean = observed.mean(axis=0)
    second, first = np.argsort(mean)[-2:]
    return {
        "n_prompts": len(observed),
        "whole_layer": whole.layer,
        "whole_contenders": list(whole.contenders),
        "gap_bits": float(mean[first] - mean[second]),
        "mean_js_bits": mean.round(5).tolist(),
        "orders": n_orders,
        "certified": len(names) / n_orders,
        "certified_as_whole": sum(name == whole.layer for name in names) / n_orders,
        "rounds": [float(one) for one in np.quantile([stop for _, stop, _, _ in found], (0.1, 0.5, 0.9))],
        "share_of_cells": [float(one) for one in np.quantile([share for _, _, share, _ in found], (0.1, 0.5, 0.9))],
        "left": float(np.mean([left for *_, left in found])),
    }


# ---------------------------------------------------------------- commands


def run_simulation(options: argparse.Namespace) -> None:
    """Print and write the table of the simulation."""
    rows = []
    for name, population in POPULATIONS.items():
        rows.append(simulate(name, population, n_runs=options.runs, n_rounds=options.rounds))
        row = rows[-1]
        print(
            f"{name:24} false {row['false']:.3f}  best dropped {row['best_dropped']:.3f}  certified "
            f"{row['certified']:.2f}  rounds {row['mean_rounds']:.0f}  cells {row['mean_share_of_cells']:.2f}",
            flush=True,
        )
    rows.append(simulate_finite(n_runs=options.runs))
    print(f"{rows[-1]['population']}: best dropped {rows[-1]['best_dropped']:.3f}")
    write(options.out, {"level": LEVEL, "rows": rows})


def run_models(options: argparse.Namespace) -> None:
    """Measure what is missing, then print and write what certified stopping makes of it."""
    parts = options.out.with_suffix(".parts.json")
    kept: dict[str, Any] = json.loads(parts.read_text()) if parts.exists() else {}
    model, task = lt.load_model(options.model), lt.load_task(options.task, limit=options.prompts)
    n_prompts = min(options.prompts, len(task))
    found = {}
    for goal in sorted({*range(64, n_prompts, 64), n_prompts}):  # all sites grow together
        for site in options.site or SITES:
            own = kept.setdefault(f"{options.model} {options.task} {site}", {"js_bits": [], "cpu_s": 0.0})
            observed = measure_blocks(model, task, site, kept=own, on_block=lambda: write(parts, kept), n_prompts=goal)
            found[site] = {**summarize(observed, n_orders=options.orders), "cpu_s": own["cpu_s"]}
            print(f"{options.model} {site} {json.dumps({k: v for k, v in found[site].items() if k != 'mean_js_bits'})}")
        result = {"model": options.model, "task": options.task, "level": LEVEL, "machine": describe_machine()}
        write(options.out, {**result, "sites": found})


def write(path: Path | None, content: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}")
        beside.write_text(json.dumps(content, indent=1) + "\n")
        beside.replace(path)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", action="store_true", help="planted data instead of a model")
    parser.add_argument("--runs", type=int, default=500, help="runs of each simulation")
    parser.add_argument("--rounds", type=int, default=300, help="rounds of each run")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--task", default="antonym")
    parser.add_argument("--site", action="append", choices=SITES, help="several times for several; else all")
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--orders", type=int, default=200, help="random orders in which the prompts are read")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if not options.simulate and options.out is None:
        parser.error("--out is needed: what is measured is kept beside it")
    (run_simulation if options.simulate else run_models)(options)


if __name__ == "__main__":
    main()
