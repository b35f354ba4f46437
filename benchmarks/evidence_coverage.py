"""How often the statistics of agreement and of designs err, on planted data: `python -m benchmarks.evidence_coverage`.

Curves and numbers that have nothing to do with one another are drawn again and again, and how often they are found to
agree at 5 % is counted, by plain choices and by what is stated; likewise how often intervals hold the population's
answer. Decision 0021 and docs/statistics.md rest on this table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from layertracer.measures import (
    FirstTop1,
    TargetCurves,
    cluster_interval,
    correlate,
    correlate_layers,
    correlate_prompts,
    fire_rates,
    resample_mean_curves,
    shift_p,
    wilson,
)

Array = NDArray[np.float64]
Curves = Callable[[np.random.Generator, int, int], Array]
LEVEL, N_RESAMPLES = 0.95, 600


# ---------------------------------------------------------------- curves that have nothing in common


def autoregressive(rho: float) -> Curves:
    """Neighbouring layers correlate by `rho`."""

    def draw(rng: np.random.Generator, n: int, n_layers: int) -> Array:
        curves = rng.standard_normal((n, n_layers))
        for layer in range(1, n_layers):
            curves[:, layer] = rho * curves[:, layer - 1] + np.sqrt(1 - rho**2) * curves[:, layer]
        return curves

    return draw


def smooth(length: float) -> Curves:
    """Gaussian processes that vary over this share of the depth."""

    def draw(rng: np.random.Generator, n: int, n_layers: int) -> Array:
        depth = np.arange(n_layers) / n_layers
        kernel = np.exp(-0.5 * ((depth[:, None] - depth) / length) ** 2) + 1e-6 * np.eye(n_layers)
        return np.asarray(rng.standard_normal((n, n_layers)) @ np.linalg.cholesky(kernel).T)

    return draw


def rising(rng: np.random.Generator, n: int, n_layers: int) -> Array:
    """Rising or falling, with some noise."""
    slopes = 4 * rng.standard_normal((n, 1)) * np.arange(n_layers) / n_layers
    return np.asarray(slopes + 0.3 * rng.standard_normal((n, n_layers)))


def walking(rng: np.random.Generator, n: int, n_layers: int) -> Array:
    """Random walks with drift."""
    return np.asarray((rng.standard_normal((n, n_layers)) + rng.standard_normal((n, 1))).cumsum(axis=1))


def humped(rng: np.random.Generator, n: int, n_layers: int) -> Array:
    """One hump each, at a random place."""
    middle, width = rng.uniform(0.2, 0.8, (n, 1)), rng.uniform(0.1, 0.4, (n, 1))
    humps = np.exp(-0.5 * ((np.arange(n_layers) / n_layers - middle) / width) ** 2)
    return np.asarray(humps + 0.05 * rng.standard_normal((n, n_layers)))


def fading(rng: np.random.Generator, n: int, n_layers: int) -> Array:
    """Decays from the first layer, of a random rate and sign, and a little noise."""
    sign, rate = rng.choice([-1.0, 1.0], (n, 1)), rng.uniform(0.5, 8, (n, 1))
    return np.asarray(sign * np.exp(-np.arange(n_layers) / rate) + 0.02 * rng.standard_normal((n, n_layers)))


def with_special_ends(rng: np.random.Generator, n: int, n_layers: int) -> Array:
    """Noise with a first and a last layer that stand out, each by a random amount and sign."""
    curves = 0.1 * rng.standard_normal((n, n_layers))
    curves[:, [0, -1]] += rng.uniform(1, 3, (n, 2)) * rng.choice([-1.0, 1.0], (n, 2))
    return curves


NULLS: dict[str, Curves] = {
    "layers by themselves": autoregressive(0.0),
    "neighbours correlate by 0.8": autoregressive(0.8),
    "neighbours correlate by 0.95": autoregressive(0.95),
    "smooth over 0.1 of the depth": smooth(0.1),
    "smooth over 0.4 of the depth": smooth(0.4),
    "rising or falling": rising,
    "random walks with drift": walking,
    "one hump each": humped,
    "fading from the first layer": fading,
    "first and last layer special": with_special_ends,
}


def plain_shift_p(one: Array, other: Array) -> float:
    """Circular shifts of the curves as they are."""
    found = [abs(float(correlate(one, np.roll(other, shift), "spearman"))) for shift in range(len(one))]
    return float(np.mean(np.array(found) >= found[0] - 1e-9))


def textbook_p(one: Array, other: Array) -> float:
    """As if layers were independent: random permutations of them."""
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(other, (199, 1)), axis=1)
    null = np.abs(correlate(np.broadcast_to(one, orders.shape), orders, "spearman"))
    return float((1 + (null >= abs(correlate(one, other, "spearman")) - 1e-9).sum()) / 200)


def count_false(n_repeats: int, n_layers: int = 30) -> Iterator[tuple[str, ...]]:
    """How often curves that have nothing in common agree at 5 %."""
    for name, draw in NULLS.items():
        rng = np.random.default_rng(0)
        pairs = list(zip(draw(rng, n_repeats, n_layers), draw(rng, n_repeats, n_layers), strict=True))
        shares = [np.mean([p(*pair) <= 0.05 for pair in pairs]) for p in (textbook_p, plain_shift_p, shift_p)]
        yield (name, *(f"{share:.3f}" for share in shares))


# ---------------------------------------------------------------- intervals


def count_layers(n_repeats: int) -> Iterator[tuple[str, ...]]:
    """Correlations over 30 layers of mean curves: how often intervals hold that of the population."""
    curve, noise = autoregressive(0.8), autoregressive(0.6)
    for n_prompts, rho, spread in ((5, 0.5, 1.0), (8, 0.8, 1.0), (16, 0.0, 1.0), (16, 0.95, 2.0), (64, 0.95, 2.0)):
        held, widths = [], []
        for repeat in range(n_repeats):
            rng = np.random.default_rng([1, repeat])
            one, rest = curve(rng, 2, 30)
            other = rho * one + np.sqrt(1 - rho**2) * rest
            truth = float(correlate(one, other, "spearman"))
            ones, others = (of + spread * noise(rng, n_prompts, 30) for of in (one, other))
            means = [resample_mean_curves(of, n_resamples=N_RESAMPLES, seed=repeat) for of in (ones, others)]
            plain = np.quantile(correlate(means[0], means[1], "spearman"), (0.025, 0.975))
            stated = correlate_layers(ones, others, seed=repeat, n_resamples=N_RESAMPLES).interval
            assert stated is not None
            ends = (tuple(plain), (stated.low, stated.high))
            held.append([low <= truth <= high for low, high in ends])
            widths.append([high - low for low, high in ends])
        rates, wide = np.mean(held, axis=0), np.mean(widths, axis=0)
        what = f"correlation of layers {rho:g}, {n_prompts} prompts of spread {spread:g}"
        yield what, f"{rates[0]:.3f}", f"{wide[0]:.2f}", f"{rates[1]:.3f}", f"{wide[1]:.2f}"


def two_of_each(rng: np.random.Generator, n: int, rho: float, n_sets: int) -> Array:
    """Two layers of each prompt that correlate by `rho`, half of their variance from the set."""
    by_set, own = rng.standard_normal((2, n_sets)), rng.standard_normal((2, n))
    one, rest = np.sqrt(0.5) * by_set[:, np.arange(n) % n_sets] + np.sqrt(0.5) * own
    return np.round(4 * np.stack([one, rho * one + np.sqrt(1 - rho**2) * rest]))


def count_prompts(n_repeats: int) -> Iterator[tuple[str, ...]]:
    """Correlations over prompts in sets of demonstrations: with prompts as the units, and with sets."""
    for n, n_sets in ((32, 8), (64, 16)):
        for rho in (0.0, 0.8):
            many, others = two_of_each(np.random.default_rng(9), 200_000, rho, 200_000)
            truth = float(correlate(many, others, "spearman"))
            held, false = [], []
            for repeat in range(n_repeats):
                one, other = two_of_each(np.random.default_rng([2, repeat]), n, rho, n_sets)
                sets = (np.arange(n) % n_sets).tolist()
                found = [
                    correlate_prompts(one, other, units=units, n_resamples=N_RESAMPLES, seed=repeat)
                    for units in (None, sets)
                ]
                held.append([of.interval is not None and of.interval.low <= truth <= of.interval.high for of in found])
                false.append([of.p is not None and of.p <= 0.05 for of in found])
            rates, found_rates = np.mean(held, axis=0), np.mean(false, axis=0)
            what = f"correlation of prompts {rho:g}, {n} in {n_sets} sets"
            numbers = (f"{rates[0]:.3f}", f"{found_rates[0]:.3f}", f"{rates[1]:.3f}", f"{found_rates[1]:.3f}")
            yield (what, *numbers)


def count_clusters(n_repeats: int) -> Iterator[tuple[str, ...]]:
    """Means over prompts in clusters: with prompts as the units, and with clusters."""
    for n_clusters in (2, 3, 5, 8, 16):
        held = []
        for repeat in range(n_repeats):
            rng = np.random.default_rng([3, repeat])
            clusters = np.arange(n_clusters).repeat(rng.integers(3, 10, n_clusters))
            values = rng.standard_normal(n_clusters)[clusters] + rng.standard_normal(len(clusters))
            stated = [
                cluster_interval(values, units, n_resamples=N_RESAMPLES, seed=repeat).interval
                for units in (range(len(values)), clusters.tolist())
            ]
            held.append([one is not None and one.low <= 0.0 <= one.high for one in stated])
        rates = np.mean(held, axis=0)
        yield f"mean over {n_clusters} clusters", f"{rates[0]:.3f}", f"{rates[1]:.3f}"


def count_rates(n_repeats: int) -> Iterator[tuple[str, ...]]:
    """How often a criterion fires, of 10 %: Wilson's of all curves, and with prompts as the units."""
    for between in (0.0, 0.05, 0.2, 0.5):
        held = []
        for repeat in range(n_repeats):
            rng = np.random.default_rng([4, repeat])
            own = rng.beta(0.1 / between, 0.9 / between, (16, 1)) if between else np.full((16, 1), 0.1)
            shares = np.zeros((16, 20, 3))
            shares[..., -1] = rng.random((16, 20)) < own
            flat = np.full(shares.shape, -5.0)
            curves = TargetCurves(log_prob=flat, embedding_log_prob=flat[..., 0], top1_share=shares)
            found = fire_rates(curves, {"first": FirstTop1()})["first"]
            plain = wilson(found.n_fired, found.n_curves)
            held.append([one.low <= 0.1 <= one.high for one in (plain, found.interval)])
        rates = np.mean(held, axis=0)
        yield f"rate of 10 %, prompts of correlation {between:g}", f"{rates[0]:.3f}", f"{rates[1]:.3f}"


TABLES = (
    (count_false, ("curves that have nothing in common", "layers permuted", "shifts as they are", "stated p")),
    (count_layers, ("interval", "percentile: coverage", "width", "stated: coverage", "width")),
    (count_prompts, ("interval", "prompts: coverage", "p ≤ 0.05", "sets: coverage", "p ≤ 0.05")),
    (count_clusters, ("interval", "prompts: coverage", "clusters: coverage")),
    (count_rates, ("interval", "all curves: coverage", "prompts: coverage")),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="data sets for each line")
    repeats = parser.parse_args().repeats
    for rows, columns in TABLES:
        print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}")
        for row in rows(repeats):
            print(f"| {' | '.join(row)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
