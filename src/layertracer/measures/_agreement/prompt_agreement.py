"""Whether two numbers of each prompt agree: their correlation, its interval over prompts, its p over permutations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.measures._agreement.correlation import (
    FEWEST,
    ROUNDING,
    Correlation,
    Method,
    average_ranks,
    centre,
    check_method,
    correlate_lists,
    score,
)
from layertracer.measures._bootstrap import SURE_UNITS, tails
from layertracer.measures._resampling import (
    Sampling,
    check_resampling,
    chunk_sizes,
    make_generator,
    number_units,
    prompt_weights,
)

_FEWEST_PERMUTED = 4
"""Units below which no permutation is rare enough to say something."""

_MOST_TRIMMED = 1 / 3
"""Share of the prompts that may be left out of permutations so that all clusters have one size."""

_EDGE = 1.0 - 1e-9
"""Farthest a correlation goes into Fisher's z, which is infinite at 1."""


class _Pairs(NamedTuple):
    """Two numbers of every prompt, NaN where there is none, and the prompts' clusters."""

    one: Float[np.ndarray, " prompt"]
    other: Float[np.ndarray, " prompt"]
    numbered: Int[np.ndarray, " prompt"]
    has_clusters: bool

    @property
    def whole(self) -> _Pairs:
        """Those prompts that have both numbers; clusters without one are gone."""
        keep = ~(np.isnan(self.one) | np.isnan(self.other))
        numbered = np.unique(self.numbered[keep], return_inverse=True)[1]
        return _Pairs(self.one[keep], self.other[keep], numbered, self.has_clusters)

    @property
    def n_units(self) -> int:
        """Number of clusters, or of prompts where each is by itself."""
        return len(np.unique(self.numbered))


def correlate_prompts(  # noqa: PLR0913 - settings by name
    one: Sequence[float | None] | Float[np.ndarray, " prompt"],
    other: Sequence[float | None] | Float[np.ndarray, " prompt"],
    *,
    method: Method = "spearman",
    units: Sequence[int] | None = None,
    seed: int = 0,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> Correlation:
    """Correlation over prompts of two numbers of each, such as two layers.

    Prompts without one of the two (None or NaN) are left out and counted in the note: what is found holds for those
    that have both. p is the share of random permutations of one against the other whose correlation is as far from 0
    or farther, as they are among them. Clusters are permuted whole, as what their prompts have in common would else
    count as often as there are prompts; they are brought to one size by leaving out some prompts at random, and where
    that would leave out more than a third, there is no p.

    The interval weighs prompts, or clusters, anew: the hull of the percentile interval and of its mirror image on
    Fisher's scale. Below eight units there is none: a resample of few is one unit almost alone.

    Laws: symmetric in the value; equal seeds give equal results; a rising line through the values of one changes
    nothing, of "spearman" any rising function; p is at least 1/(n_resamples + 1).

    Args:
        one: A number a prompt; None or NaN where there is none.
        other: Likewise, of the same prompts in the same order.
        method: "spearman" for ranks (ties share theirs), "pearson" for values.
        units: Cluster of every prompt; None where each is by itself.
        seed: Seed of resamples and permutations.
        n_resamples: Number of resamples, and of permutations.
        level: Coverage of the interval.

    Returns:
        The correlation; `n_units` is the number of prompts that have both numbers.

    Raises:
        UsageError: If the two have not one number a prompt, a value is infinite, or a number is out of range.

    Example:
        >>> found = correlate_prompts([3, 5, 4, None, 8], [4, 6, 5, 7, 9])
        >>> round(found.value, 6), found.n_units, found.note.partition(";")[0]
        (1.0, 4, '1 of 5 prompts without one of the two left out')
    """
    check_method(method)
    check_resampling(n_resamples, level)
    pairs = _read(one, other, units)
    whole = pairs.whole
    n, n_all = len(whole.one), len(pairs.one)
    notes = [f"{n_all - n} of {n_all} prompts without one of the two left out"] if n < n_all else []
    value = correlate_lists(whole.one, whole.other, method)
    if value is None:
        notes.append(f"{n} prompts: below {FEWEST} no correlation" if n < FEWEST else "one of the two is constant")
        return Correlation(
            value=None, interval=None, p=None, n_units=n, units="prompts", method=method, note="; ".join(notes)
        )
    permuting, resampling = make_generator(seed).spawn(2)
    p, said = _permutation_p(pairs if pairs.has_clusters else whole, method, permuting, n_resamples)
    interval, said_of_it = _interval(whole, value, method, resampling, n_resamples=n_resamples, level=level)
    note = "; ".join([*notes, *said, *said_of_it])
    return Correlation(value=value, interval=interval, p=p, n_units=n, units="prompts", method=method, note=note)


def _read(
    one: Sequence[float | None] | Float[np.ndarray, " prompt"],
    other: Sequence[float | None] | Float[np.ndarray, " prompt"],
    units: Sequence[int] | None,
) -> _Pairs:
    """The numbers in double precision, and the number of every prompt's cluster.

    Raises:
        UsageError: If they do not fit together.
    """
    first, second = (np.array([np.nan if value is None else value for value in given], float) for given in (one, other))
    if len(first) != len(second):
        raise UsageError(f"one and other must have a number for each prompt, got {len(first)} and {len(second)}.")
    if np.isinf(first).any() or np.isinf(second).any():
        raise UsageError("one or other holds infinite values. Give None where a prompt has no number.")
    sampling = Sampling(units=None if units is None else tuple(map(int, units)))
    numbered = number_units(sampling, len(first)) if len(first) else np.zeros(0, dtype=np.int64)
    return _Pairs(first, second, numbered, units is not None)


def _permutation_p(
    pairs: _Pairs, method: Method, generator: np.random.Generator, n_permutations: int
) -> tuple[float | None, list[str]]:
    """Two-sided p over permutations of whole clusters, and what must be said of it."""
    what = "clusters" if pairs.has_clusters else "prompts"
    if pairs.n_units < _FEWEST_PERMUTED:
        return None, [f"{pairs.n_units} {what}: no p below {_FEWEST_PERMUTED}"]
    places = _equal_clusters(pairs.numbered, generator)
    n_trimmed = len(pairs.one) - places.size
    if n_trimmed > _MOST_TRIMMED * len(pairs.one):
        return None, ["clusters differ too much in size to be permuted: no p"]
    one, other = (_score_known(values, method)[places] for values in (pairs.one, pairs.other))
    observed, n_as_far = _signals(one.ravel(), other.reshape(1, -1))[0], 0
    for size in chunk_sizes(n_permutations, floats_per_resample=12 * places.size):
        order = generator.permuted(np.tile(np.arange(len(places)), (size, 1)), axis=1)
        n_as_far += int((_signals(one.ravel(), other[order].reshape(size, -1)) >= observed - ROUNDING).sum())
    said = [f"p leaves out {n_trimmed} prompts, so that clusters are of one size"] if n_trimmed else []
    return float((1 + n_as_far) / (1 + n_permutations)), said


def _equal_clusters(
    numbered: Int[np.ndarray, " prompt"], generator: np.random.Generator
) -> Int[np.ndarray, "cluster member"]:
    """Prompts by cluster, as many of each as the smallest has; which, is drawn, and their order is kept."""
    clusters = [np.flatnonzero(numbered == number) for number in np.unique(numbered)]
    size = min(map(len, clusters))
    return np.stack([np.sort(generator.permutation(cluster)[:size]) for cluster in clusters])


def _score_known(values: Float[np.ndarray, " prompt"], method: Method) -> Float[np.ndarray, " prompt"]:
    """What is correlated of the numbers that are there; NaN elsewhere."""
    known = ~np.isnan(values)
    scored = np.full(values.shape, np.nan)
    scored[known] = centre(score(values[known], method))
    return scored


def _signals(
    one: Float[np.ndarray, " prompt"], others: Float[np.ndarray, "permutation prompt"]
) -> Float[np.ndarray, " permutation"]:
    """How far from 0 correlations are, each over the prompts that have both, in units of their spread by chance.

    Where prompts are missing, other permutations have other numbers of pairs, and few correlate farther by chance.
    """
    keep = ~(np.isnan(one) | np.isnan(others))
    n_pairs = np.maximum(keep.sum(axis=1, keepdims=True), 1)
    first, second = (np.where(keep, values, 0.0) for values in (np.broadcast_to(one, others.shape), others))
    first, second = (
        np.where(keep, values - values.sum(axis=1, keepdims=True) / n_pairs, 0.0) for values in (first, second)
    )
    squares = (first**2).sum(axis=1) * (second**2).sum(axis=1)
    norm = np.sqrt(np.where(squares > 0.0, squares, np.inf))
    return np.asarray(np.abs((first * second).sum(axis=1)) / norm * np.sqrt(n_pairs[:, 0]))


def _interval(
    pairs: _Pairs,
    value: float,
    method: Method,
    generator: np.random.Generator,
    *,
    n_resamples: int,
    level: float,
) -> tuple[Interval | None, list[str]]:
    """The interval over prompts or clusters, and what must be said of it."""
    n_units, what = pairs.n_units, "clusters" if pairs.has_clusters else "prompts"
    if n_units < SURE_UNITS:
        return None, [f"{n_units} {what}: no interval below {SURE_UNITS}"]
    found = np.concatenate(list(_weighted_correlations(pairs, method, generator, n_resamples)))
    fisher = np.arctanh(np.clip(found[~np.isnan(found)], -_EDGE, _EDGE))
    around = float(np.arctanh(np.clip(value, -_EDGE, _EDGE)))
    low, high = np.quantile(fisher, tails(level))
    low, high = np.tanh(min(low, 2 * around - high)), np.tanh(max(high, 2 * around - low))
    return Interval(low=float(min(low, value)), high=float(max(high, value)), level=float(level)), []


def _weighted_correlations(
    pairs: _Pairs, method: Method, generator: np.random.Generator, n_resamples: int
) -> Iterator[Float[np.ndarray, " resample"]]:
    """The correlation in every resample; NaN where one of the two is constant in it."""
    ranks = [average_ranks(values) for values in (pairs.one, pairs.other)]
    for size in chunk_sizes(n_resamples, floats_per_resample=8 * len(pairs.one)):
        weights = prompt_weights(generator, size, pairs.numbered)
        if method == "spearman":
            scores = [_weighted_ranks(own, weights) for own in ranks]
        else:
            scores = [np.broadcast_to(centre(values), weights.shape) for values in (pairs.one, pairs.other)]
        one, other = (values - (weights * values).sum(axis=1, keepdims=True) for values in scores)
        squares = (weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1)
        norm = np.sqrt(np.where(squares > 0.0, squares, np.nan))
        yield np.clip((weights * one * other).sum(axis=1) / norm, -1.0, 1.0)


def _weighted_ranks(
    ranks: Float[np.ndarray, " prompt"], weights: Float[np.ndarray, "resample prompt"]
) -> Float[np.ndarray, "resample prompt"]:
    """Share of the weight below each value, and half of that of its equals: ranks where prompts weigh differently."""
    _, inverse = np.unique(ranks, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    by_value = np.add.reduceat(weights[:, order], starts, axis=1)
    return np.asarray((np.cumsum(by_value, axis=1) - by_value / 2.0)[:, inverse])
