"""Where a placement stands among random ones of its size, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval
from layertracer.advice import Verdict
from layertracer.hybrids._placing.row_kl import RowKL
from layertracer.measures import make_generator, percentile_interval, wilson

_N_RESAMPLES = 2_000
_LEVEL = 0.95
_FEWEST_OTHERS = 19
"""Others from which on being the best of all says something: of fewer, one in twenty or more is so by chance."""
_MIDDLE = (25.0, 75.0)
"""Percentiles between which a placement is one like the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A placement among random ones, on the same rows.

    Attributes:
        percentile: Share of the others whose objective is lower, ties by half, in percent.
        interval: Its interval: over rows, and over random placements where they are a sample. None where rows are too
            few.
        verdict: "better" where the whole interval is below the middle half of the others, "worse" where it is above;
            "undecided" among fewer than 19 others, the best of which one is by chance once in twenty.
        below_best_nats: The best other one's objective less this one's: positive where none of them is better.
        below_best_interval: Its interval over rows, paired; None likewise, and where one of the others is better: that
            one was picked for being the best on these very rows, so that an interval would make too sure of it.
        n_others: How many others.
    """

    percentile: float
    interval: Interval | None
    verdict: Verdict
    below_best_nats: float
    below_best_interval: Interval | None
    n_others: int


def find_standing(own: RowKL, others: RowKL, *, are_all: bool, seed: int) -> Standing:
    """A placement among others, with what other rows and other random placements would have said.

    Rows are resampled, with all placements on the same resample. Where the others are a sample of the placements of
    their size, they are drawn anew with each resample, and the interval holds Wilson's of the share, which has a width
    where every one of them is worse.

    Args:
        own: One placement.
        others: The others, on the same rows; the placement itself is none of them.
        are_all: Whether there are no further placements of that size.
        seed: Seed of the resamples.

    Source:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    value, among = float(own.objective()[0]), others.objective()
    percentile = 100.0 * _share_below(among, value)
    best = int(np.argmin(among))
    below_best = float(among[best] - value)
    if not own.has_intervals:
        return Standing(
            percentile=percentile,
            interval=None,
            verdict="undecided",
            below_best_nats=below_best,
            below_best_interval=None,
            n_others=len(among),
        )
    resampled = own.beside(others).resampled(n_resamples=_N_RESAMPLES, seed=seed)
    interval = _percentile_interval(resampled, percentile, are_all=are_all, seed=seed)
    return Standing(
        percentile=percentile,
        interval=interval,
        verdict=_verdict(interval) if len(among) >= _FEWEST_OTHERS else "undecided",
        below_best_nats=below_best,
        below_best_interval=percentile_interval(resampled[:, 1 + best] - resampled[:, 0], _LEVEL)
        if below_best > 0.0
        else None,
        n_others=len(among),
    )


def percentile_of(values: Float64[np.ndarray, " placement"], value: float) -> float:
    """Percentage of the values that are lower than `value`, equal ones by half.

    Example:
        >>> percentile_of(np.array([1.0, 2.0, 2.0, 3.0]), 2.0)
        50.0
    """
    return 100.0 * _share_below(values, value)


def _share_below(values: Float64[np.ndarray, " placement"], value: float) -> float:
    return float(np.mean((values < value) + 0.5 * (values == value)))


def _percentile_interval(
    resampled: Float64[np.ndarray, "resample placement"], percentile: float, *, are_all: bool, seed: int
) -> Interval:
    """Interval of the percentile; the first placement is the one that is compared."""
    own, others = resampled[:, :1], resampled[:, 1:]
    below = (others < own) + 0.5 * (others == own)
    if are_all:
        shares = below.mean(axis=1)
    else:
        n_resamples, n_others = others.shape
        drawn = make_generator(seed).integers(n_others, size=(n_resamples, n_others))
        shares = np.take_along_axis(below, drawn, axis=1).mean(axis=1)
    over_rows = percentile_interval(100.0 * shares, _LEVEL)
    low, high = min(over_rows.low, percentile), max(over_rows.high, percentile)
    if not are_all:
        n_others = others.shape[1]
        by_draws = wilson(round(percentile / 100.0 * n_others), n_others)
        low, high = min(low, 100.0 * by_draws.low), max(high, 100.0 * by_draws.high)
    return Interval(low=low, high=high, level=_LEVEL)


def _verdict(interval: Interval) -> Verdict:
    low, high = _MIDDLE
    if interval.high < low:
        return "better"
    return "worse" if interval.low > high else "undecided"
