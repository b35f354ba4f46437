"""How often intervals hold what they promise to hold, on planted data: `python -m benchmarks.coverage`.

The population is known: its own onset, its own most vulnerable layer, its own mean. Traces of n prompts (and draws) are
drawn from it again and again, and every candidate for an interval is counted: how often it holds the population's
answer, and how wide it is. Decision 0013 rests on this table.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer.measures import (
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Rise,
    Sampling,
    TargetCurves,
    find_task_particle,
    find_vulnerable_layer,
    group_by_mixer,
    resample_crossed_means,
)
from layertracer.measures._resampling import resample_counts

Array = NDArray[np.float64]
Ends = tuple[float, float]
LEVEL = 0.95
N_RESAMPLES = 1000
N_PARTS = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    quantity: str
    population: str
    size: str
    candidate: str
    coverage: float
    width: float


# ---------------------------------------------------------------- populations


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A population of prompts: where their probability rises, and whether it does."""

    onset_sd: float = 1.5
    solved: float = 0.7
    noise: float = 0.0
    n_layers: int = 16
    middle: float = 8.0

    def draw(self, generator: np.random.Generator, n_prompts: int) -> TargetCurves:
        """Curves of some prompts."""
        onset = self.middle + self.onset_sd * generator.standard_normal((n_prompts, 1))
        is_solved = generator.random((n_prompts, 1)) < self.solved
        high, low = 0.5 + 0.5 * generator.random((n_prompts, 1)), 0.05 * generator.random((n_prompts, 1))
        layers = np.arange(-1, self.n_layers)
        prob = np.where(is_solved, high, low) / (1 + np.exp(-1.5 * (layers - onset))) + 1e-5
        prob = np.clip(prob * np.exp(self.noise * generator.standard_normal(prob.shape)), 1e-9, 1.0)
        on_top = (prob[:, 1:] > 0.4).astype(np.float64)
        return TargetCurves(log_prob=np.log(prob[:, 1:]), embedding_log_prob=np.log(prob[:, 0]), top1_share=on_top)


PROMPTS: Mapping[str, Prompts] = {
    "usual": Prompts(),
    "alike": Prompts(onset_sd=0.5),
    "most solved": Prompts(onset_sd=1.0, solved=0.95),
    "noisy": Prompts(noise=0.5),
}
CRITERIA: Mapping[str, OnsetCriterion] = {"rise": Rise(), "half_max": HalfMax(), "first_top1": FirstTop1()}
PROFILE = np.array([0.2, 0.25, 0.3, 0.35, 0.4, 0.42, 0.4, 0.35, 0.3, 0.25, 0.2, 0.1])


def draw_js(
    generator: np.random.Generator, n_prompts: int, n_draws: int, *, peak: float, draw_sd: float = 0.04
) -> Array:
    """JS divergences of prompts and draws that each have an effect of their own; layer 5 leads by `peak`."""
    profile = PROFILE.copy()
    profile[5] = 0.4 + peak
    n_layers = len(profile)
    js = (
        profile
        + 0.05 * generator.standard_normal((n_prompts, 1, n_layers))
        + draw_sd * generator.standard_normal((1, n_draws, n_layers))
        + 0.05 * generator.standard_normal((n_prompts, n_draws, n_layers))
        + 0.1 * generator.standard_normal((n_prompts, 1, 1))
    )
    return np.clip(js, 0.0, 1.0)


# ---------------------------------------------------------------- candidates


def plain_onset(curves: TargetCurves, criterion: OnsetCriterion, seed: int) -> Ends | None:
    """The plain percentile bootstrap, as it was: as many prompts drawn with replacement."""
    counts = resample_counts(np.random.default_rng(seed), N_RESAMPLES, len(curves.log_prob))
    layers = criterion.find(curves.mean(counts))
    found = layers[layers >= 0]
    if not found.size:
        return None
    low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="inverted_cdf")
    return float(low), float(high)


def own_onset(curves: TargetCurves, criterion: OnsetCriterion, seed: int) -> Ends | None:
    """What `find_task_particle` states."""
    interval = find_task_particle(curves, criterion, n_resamples=N_RESAMPLES, level=LEVEL, seed=seed).interval
    return None if interval is None else (interval.low, interval.high)


def plain_crossed(js: Array, seed: int) -> Array:
    """Means of the plain crossed bootstrap: prompts and draws drawn with replacement."""
    generator = np.random.default_rng(seed)
    prompts, draws = (resample_counts(generator, N_RESAMPLES, n) / n for n in js.shape[:2])
    return np.asarray(np.einsum("rp,rd,pdl->rl", prompts, draws, js, optimize=True))


def plain_vulnerable(js: Array, seed: int) -> Ends:
    """Percentiles of the argmax of these."""
    layers = plain_crossed(js, seed).argmax(axis=1)
    low, high = np.quantile(layers, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="inverted_cdf")
    return float(low), float(high)


def own_vulnerable(js: Array, seed: int) -> Ends | None:
    """What `find_vulnerable_layer` states: the range of the contenders."""
    interval = find_vulnerable_layer(js, n_resamples=N_RESAMPLES, level=LEVEL, seed=seed).interval
    return None if interval is None else (interval.low, interval.high)


def plain_mean(js: Array, seed: int) -> Ends:
    """Percentiles of the mean over all layers."""
    low, high = np.quantile(plain_crossed(js, seed).mean(axis=1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def own_mean(js: Array, seed: int) -> Ends | None:
    """What `group_by_mixer` states of a single kind."""
    n_prompts, _, n_layers = js.shape
    flat = TargetCurves(
        log_prob=np.full((n_prompts, n_layers), -1.0),
        embedding_log_prob=np.full(n_prompts, -1.0),
        top1_share=np.zeros((n_prompts, n_layers)),
    )
    (group,) = group_by_mixer(js, flat, ["one"] * n_layers, n_resamples=N_RESAMPLES, level=LEVEL, seed=seed)
    return None if group.interval is None else (group.interval.low, group.interval.high)


# ---------------------------------------------------------------- counting


def count(
    n_repeats: int, draw: Callable[[np.random.Generator], Any], truth: float, candidates: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, float, float]]:
    """Coverage and mean width of every candidate; where a candidate states nothing, that trace does not count."""
    ends: dict[str, list[Ends]] = {name: [] for name in candidates}
    for repeat in range(n_repeats):
        trace = draw(np.random.default_rng([seed, repeat]))
        for name, find in candidates.items():
            found = find(trace, repeat)
            if found is not None:
                ends[name].append(found)
    for name, stated in ends.items():
        if stated:
            low, high = np.array(stated).T
            yield name, float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def count_onsets(n_repeats: int, sizes: Sequence[int] = (5, 8, 16, 32)) -> Iterator[Row]:
    """The task particle: populations × criteria × numbers of prompts."""
    for population, prompts in PROMPTS.items():
        mean = prompts.draw(np.random.default_rng(0), 200_000).mean()
        for criterion_name, criterion in CRITERIA.items():
            truth = int(criterion.find(mean))

            def plain(curves: TargetCurves, seed: int, *, own: OnsetCriterion = criterion) -> Ends | None:
                return plain_onset(curves, own, seed)

            def ours(curves: TargetCurves, seed: int, *, own: OnsetCriterion = criterion) -> Ends | None:
                return own_onset(curves, own, seed)

            for n_prompts in sizes:

                def draw(generator: np.random.Generator, n: int = n_prompts, of: Prompts = prompts) -> TargetCurves:
                    return of.draw(generator, n)

                seed = zlib.crc32(f"{population} {criterion_name} {n_prompts}".encode())
                found = count(n_repeats, draw, truth, {"plain bootstrap": plain, "stated": ours}, seed)
                for name, coverage, width in found:
                    yield Row(
                        quantity=f"particle, {criterion_name}",
                        population=population,
                        size=f"{n_prompts} prompts",
                        candidate=name,
                        coverage=coverage,
                        width=width,
                    )


def count_divergences(
    n_repeats: int, sizes: Sequence[tuple[int, int]] = ((5, 5), (8, 5), (16, 5), (32, 5), (16, 2))
) -> Iterator[Row]:
    """The vulnerable layer and the mean by kind of mixer: leads × numbers of prompts and draws."""
    for n_prompts, n_draws in sizes:
        for peak in (0.02, 0.1):

            def draw(generator: np.random.Generator, n: int = n_prompts, d: int = n_draws, by: float = peak) -> Array:
                return draw_js(generator, n, d, peak=by)

            truth_mean = float((PROFILE.sum() - PROFILE[5] + 0.4 + peak) / len(PROFILE))
            questions: list[tuple[str, float, Mapping[str, Any]]] = [
                ("vulnerable layer", 5.0, {"plain bootstrap": plain_vulnerable, "stated": own_vulnerable}),
                ("mean JS by mixer", truth_mean, {"plain bootstrap": plain_mean, "stated": own_mean}),
            ]
            for quantity, truth, candidates in questions:
                seed = zlib.crc32(f"{quantity} {n_prompts} {n_draws} {peak}".encode())
                for name, coverage, width in count(n_repeats, draw, truth, candidates, seed):
                    yield Row(
                        quantity=quantity,
                        population=f"lead of {peak} bits",
                        size=f"{n_prompts} prompts, {n_draws} draws",
                        candidate=name,
                        coverage=coverage,
                        width=width,
                    )


def draw_parts(generator: np.random.Generator, weight: Array, n_groups: int) -> Array:
    """Divergences of the parts of some partitions of a layer's dimensions: they saturate in what the mask takes."""
    parts = [part for _ in range(n_groups) for part in np.split(generator.permutation(len(weight)), N_PARTS)]
    taken = np.array([weight[part].sum() for part in parts]) / weight.sum()
    return np.asarray(1 - np.exp(-5.0 * taken))


def count_partitions(n_repeats: int) -> Iterator[Row]:
    """The mean over masks where draws are the parts of whole partitions: how unequal dimensions are × partitions.

    Beside what is stated, not the plain bootstrap but Student's t, as if each draw were a sample by itself.
    """
    for spread, n_groups in ((0.3, 1), (1.0, 1), (2.0, 1), (3.0, 1), (2.0, 2)):
        weight = np.exp(spread * np.random.default_rng(0).standard_normal(60))
        many = draw_parts(np.random.default_rng(1), weight, 20_000)
        ends: dict[str, list[Ends]] = {"as a sample": [], "stated": []}
        for repeat in range(n_repeats):
            js = draw_parts(np.random.default_rng([2, repeat]), weight, n_groups)[None, :, None]
            for name, sampling in zip(ends, (Sampling(), Sampling(draws="parts")), strict=True):
                means = resample_crossed_means(js, n_resamples=N_RESAMPLES, seed=repeat, sampling=sampling)
                low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
                ends[name].append((float(low), float(high)))
        for name, stated in ends.items():
            low_ends, high_ends = np.array(stated).T
            yield Row(
                quantity="mean JS of a layer",
                population=f"dimensions of spread {spread:g}",
                size=f"{n_groups * N_PARTS} draws of {n_groups} partition{'' if n_groups == 1 else 's'}",
                candidate=name,
                coverage=float(np.mean((low_ends <= many.mean()) & (many.mean() <= high_ends))),
                width=float(np.mean(high_ends - low_ends)),
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=400, help="traces for each line")
    repeats = parser.parse_args().repeats
    print("| quantity | population | size | plain: coverage | width | stated: coverage | width |")
    print("|---|---|---|---:|---:|---:|---:|")
    for rows in (count_onsets(repeats), count_divergences(repeats), count_partitions(repeats)):
        for plain, stated in pair_up(rows):
            numbers = (f"{plain.coverage:.3f}", f"{plain.width:.3g}", f"{stated.coverage:.3f}", f"{stated.width:.3g}")
            print(f"| {' | '.join((stated.quantity, stated.population, stated.size, *numbers))} |", flush=True)


def pair_up(rows: Iterator[Row]) -> Iterator[tuple[Row, Row]]:
    """The row of the plain candidate beside that of the stated one; both come one after the other."""
    for plain in rows:
        yield plain, next(rows)


if __name__ == "__main__":
    main()
