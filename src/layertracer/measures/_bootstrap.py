"""Intervals from resamples: how far a result moves when other prompts, or other draws, had been taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from layertracer._types import Interval
from layertracer.measures._checked_arrays import check_finite
from layertracer.measures._resampling import (
    PROMPTS_AND_DRAWS,
    Sampling,
    check_resampling,
    count_units,
    resample_crossed_means,
    resample_mean_curves,
)

MIN_UNITS = 5
"""Prompts, or sets of demonstrations, without which a layer has no interval."""

SURE_UNITS = 8
"""Prompts, or sets of demonstrations, from which on an interval holds as often as it says; see decision 0013."""


class CurveBand(NamedTuple):
    """An interval around a mean curve, layer by layer.

    Attributes:
        low: Lower end, shape [layer].
        high: Upper end, shape [layer].
    """

    low: Float[np.ndarray, " layer"]
    high: Float[np.ndarray, " layer"]


def bootstrap_mean_curve(
    values: Float[np.ndarray, "prompt layer"],
    *,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> CurveBand:
    """Bootstrap interval of a mean curve, over prompts.

    Prompts are weighed anew `n_resamples` times, as `resample_mean_curves` does; the band holds the middle `level` of
    the means of each layer. It is a band of single layers: a whole curve leaves it somewhere more often than
    1 - level. One prompt gives a band without width: it cannot say how far another one lies. Up to five prompts give
    the range of the prompts, which holds the mean less often than `level`: see `note_on_curves` before it is shown.

    Laws: equal seeds give equal bands; the band of a constant is that constant; it lies within the values; it shrinks
    as 1/√n with the number of prompts; adding a constant moves it by that constant.

    Args:
        values: One curve a prompt, e.g. target probabilities.
        n_resamples: Number of resamples.
        level: Coverage, in (0, 1).
        seed: Seed of the resamples.
        sampling: What is taken anew together; every prompt by itself where left out.

    Returns:
        Lower and upper end, in the unit of `values`.

    Raises:
        UsageError: If there is no prompt, a value is not finite, or a number is out of range.

    Example:
        >>> band = bootstrap_mean_curve(np.array([[0.0, 0.5], [1.0, 0.5]]))
        >>> band.low.tolist(), band.high.tolist()
        ([0.0, 0.5], [1.0, 0.5])

    Source:
        Efron (1979), "Bootstrap methods: another look at the jackknife"; Rubin (1981), "The Bayesian bootstrap".
    """
    check_finite(values, axes=("prompt", "layer"), caller="bootstrap_mean_curve")
    check_resampling(n_resamples, level)
    means = resample_mean_curves(values, n_resamples=n_resamples, seed=seed, sampling=sampling)
    low, high = np.quantile(means, tails(level), axis=0)
    return CurveBand(low=low, high=high)


def bootstrap_js_curve(
    js_bits: Float[np.ndarray, "prompt draw layer"],
    *,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> CurveBand:
    """Interval of the mean JS divergence of each layer, over prompts and draws; within [0, 1].

    Laws: those of `resample_crossed_means`.

    Raises:
        UsageError: If there is no prompt, draw or layer, a value is not finite, or a number is out of range.
    """
    low, high = bootstrap_crossed_curve(js_bits, n_resamples=n_resamples, level=level, seed=seed, sampling=sampling)
    return CurveBand(low=np.clip(low, 0.0, 1.0), high=np.clip(high, 0.0, 1.0))


def bootstrap_crossed_curve(
    values: Float[np.ndarray, "prompt draw layer"],
    *,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> CurveBand:
    """Interval of the mean of each layer, over prompts and draws; it may reach beyond the values.

    Laws: those of `resample_crossed_means`.

    Raises:
        UsageError: If there is no prompt, draw or layer, a value is not finite, or a number is out of range.
    """
    checked = check_finite(values, axes=("prompt", "draw", "layer"), caller="bootstrap_crossed_curve")
    check_resampling(n_resamples, level)
    means = resample_crossed_means(checked, n_resamples=n_resamples, seed=seed, sampling=sampling)
    low, high = np.quantile(means, tails(level), axis=0)
    return CurveBand(low=low, high=high)


def note_on_onsets(n_prompts: int, sampling: Sampling = PROMPTS_AND_DRAWS) -> str | None:
    """What must be said of the interval of an onset, or of its absence; None where there is nothing.

    Example:
        >>> note_on_onsets(1), note_on_onsets(6), note_on_onsets(8)
        ('one prompt: no interval', '6 prompts: below 8 an interval may hold less often than it says', None)
    """
    n_units, name = _name_units(n_prompts, sampling)
    if n_units < MIN_UNITS:
        return f"{name}: no interval{'' if n_units == 1 else f' below {MIN_UNITS}'}"
    return f"{name}: below {SURE_UNITS} an interval may hold less often than it says" if n_units < SURE_UNITS else None


def note_on_curves(n_prompts: int, sampling: Sampling = PROMPTS_AND_DRAWS) -> str | None:
    """Why there is no band around a mean curve of target probabilities; None where there is one.

    `bootstrap_mean_curve` reaches no further than the units do, and of two to four the mean is often elsewhere.

    Example:
        >>> note_on_curves(4), note_on_curves(64, Sampling(units=(0,) * 64)), note_on_curves(5)
        ('4 prompts: no interval below 5', 'one set of demonstrations: no interval', None)
    """
    return note_on_onsets(n_prompts, sampling) if count_units(sampling, n_prompts) < MIN_UNITS else None


def note_on_means(n_prompts: int, n_draws: int, sampling: Sampling = PROMPTS_AND_DRAWS) -> str | None:
    """Why there is no interval of a mean over prompts and draws; None where there is one.

    Student's t tells how far a mean may be off from two prompts and two draws on, however wide that is.

    Example:
        >>> note_on_means(1, 5), note_on_means(8, 1), note_on_means(8, 1, Sampling(draws="given"))
        ('one prompt: no interval', 'one draw: no interval', None)
    """
    n_units, name = _name_units(n_prompts, sampling)
    if n_units == 1:
        return f"{name}: no interval"
    return "one draw: no interval" if sampling.has_random_draws and n_draws == 1 else None


def note_on_contenders(n_prompts: int, n_draws: int, sampling: Sampling = PROMPTS_AND_DRAWS) -> str | None:
    """Why layers cannot be told apart at all; None where they can.

    Few draws that each mask dimensions of their own agree where all miss the one that decides; fewer than five units
    agree where all miss what few prompts do. Neither spread says so.

    Example:
        >>> note_on_contenders(8, 1), note_on_contenders(3, 5), note_on_contenders(8, 5)
        ('one draw: no interval', '3 prompts: no interval below 5', None)
        >>> note_on_contenders(8, 5, Sampling(sure_draws=10)).partition(";")[0]
        '5 random draws: below 10 a dimension that decides may not have been masked'
    """
    note = note_on_means(n_prompts, n_draws, sampling) or note_on_curves(n_prompts, sampling)
    if note is not None or sampling.draws != "sampled" or n_draws >= sampling.sure_draws:
        return note
    missed = f"below {sampling.sure_draws} a dimension that decides may not have been masked"
    return f"{n_draws} random draws: {missed}; use scheme='partition' or more draws"


def _name_units(n_prompts: int, sampling: Sampling) -> tuple[int, str]:
    """Number of units, and their number in words."""
    n_units = count_units(sampling, n_prompts)
    one, several = (
        ("prompt", "prompts") if sampling.units is None else ("set of demonstrations", "sets of demonstrations")
    )
    return n_units, f"one {one}" if n_units == 1 else f"{n_units} {several}"


def percentile_interval(values: Float[np.ndarray, " resample"], level: float) -> Interval:
    """Percentile interval of a number."""
    low, high = np.quantile(values, tails(level))
    return Interval(low=float(low), high=float(high), level=float(level))


def layer_interval(
    layers: Int[np.ndarray, " resample"], level: float, *, around: int, n_layers: int | None = None
) -> Interval:
    """Interval of a layer, out of its resamples: the percentile interval, and its mirror image around the estimate.

    With few prompts an onset is biased: what one prompt in ten does is not there, and the resamples miss it twice. The
    bias of the resamples is taken off by the mirror image (the basic bootstrap), and not trusted: both count.

    Args:
        layers: The layer in every resample that has one.
        level: Coverage.
        around: The estimate.
        n_layers: Ends beyond the model's layers are cut off.

    Source:
        Davison and Hinkley (1997), "Bootstrap methods and their application", for the basic interval.
    """
    low, high = np.quantile(layers, tails(level), method="inverted_cdf")
    low, high = min(low, 2 * around - high), max(high, 2 * around - low)
    if n_layers is not None:
        low, high = max(low, 0), min(high, n_layers - 1)
    return Interval(low=float(low), high=float(high), level=float(level))


def mirrored_interval(values: Float[np.ndarray, " resample"], level: float, *, around: float) -> Interval:
    """The same for a number that need not be a layer, such as a difference between depths."""
    found = percentile_interval(values, level)
    low, high = min(found.low, 2 * around - found.high), max(found.high, 2 * around - found.low)
    return Interval(low=float(low), high=float(high), level=float(level))


def tails(level: float) -> tuple[float, float]:
    """Shares of the resamples below the lower and below the upper end."""
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0
