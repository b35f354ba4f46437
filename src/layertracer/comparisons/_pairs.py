"""Every pair of models: differences over the prompts that both finished."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.comparisons._criteria import Reading
from layertracer.comparisons._prepared_runs import Lineup
from layertracer.comparisons._prompts import shared_rows
from layertracer.comparisons._results import DepthCurve, Difference, PairDifference, Quantity
from layertracer.comparisons._sample import MODEL_QUANTITIES, PromptSample, finite_interval


def compare_pair(lineup: Lineup, i: int, j: int) -> PairDifference:
    """Models i and j: paired over shared prompts where there are enough, each over its own prompts otherwise."""
    store, ranks, labels = lineup.store, lineup.ranks, lineup.labels
    rows = shared_rows([lineup.keys[i], lineup.keys[j]])
    n_shared = len(rows[0])
    is_paired = n_shared >= lineup.settings.min_shared
    if is_paired:
        first, second = store.draw(i, rows[0]), store.draw(j, rows[1])
    else:
        # The stream goes with the models' ranks, not with their places in the pair: (j, i) mirrors (i, j).
        first = store.draw(i, stream=1 + (ranks[i] > ranks[j]))
        second = store.draw(j, stream=1 + (ranks[j] > ranks[i]))
    return PairDifference(
        first=labels[i],
        second=labels[j],
        is_paired=is_paired,
        n_shared=n_shared,
        n_first=first.n_prompts,
        n_second=second.n_prompts,
        differences=(
            *(_difference(first, second, quantity) for quantity in MODEL_QUANTITIES),
            *(_difference(first, second, "particle_depth", reading) for reading in lineup.readings),
        ),
        profile=_profile_difference(first, second, lineup.grid) if first.has_js and second.has_js else None,
    )


def _difference(
    first: PromptSample, second: PromptSample, quantity: Quantity, reading: Reading | None = None
) -> Difference:
    values = first.value(quantity, reading), second.value(quantity, reading)
    value = None if values[0] is None or values[1] is None else values[1] - values[0]
    interval, share_found = _interval(first, second, quantity, reading, value=value)
    return Difference(
        quantity=quantity,
        lens=None if reading is None else reading.lens,
        criterion=None if reading is None else reading.name,
        first=values[0],
        second=values[1],
        value=value,
        interval=interval,
        share_found=share_found,
    )


def _interval(
    first: PromptSample,
    second: PromptSample,
    quantity: Quantity,
    reading: Reading | None,
    *,
    value: float | None,
) -> tuple[Interval | None, float]:
    """The interval of a difference, and the share of the resamples in which both models have a value."""
    apart = second.resampled(quantity, reading) - first.resampled(quantity, reading)
    # A largest value and an onset are biased in few prompts, a mean is not.
    around = None if quantity == "mean_js_bits" else value
    interval, share_found = finite_interval(apart, first.settings.level, around=around)
    if quantity == "vulnerable_depth":
        return _vulnerable_interval(first, second), share_found
    enough = (one.has_js_interval if reading is None else one.has_onset_interval for one in (first, second))
    return (interval if value is not None and all(enough) else None), share_found


def _vulnerable_interval(first: PromptSample, second: PromptSample) -> Interval | None:
    """How far the most vulnerable layers can be apart: from any contender of one model to any of the other.

    Each model's contenders hold its layer with half of the error, so that both do with the level. Where neither model
    has a layer that stands out, nothing is said of a difference.
    """
    level = first.settings.level
    if not (first.has_js and second.has_js and first.has_js_interval and second.has_js_interval):
        return None
    if np.array_equal(first.record.js_bits, second.record.js_bits, equal_nan=True):
        return Interval(low=0.0, high=0.0, level=level)
    found = [one.vulnerable(level=(1.0 + level) / 2.0) for one in (first, second)]
    if not any(one.is_clear for one in found):
        return None
    ends = [
        ((min(one.contenders) + 1) / of.record.n_layers, (max(one.contenders) + 1) / of.record.n_layers)
        for one, of in zip(found, (first, second), strict=True)
    ]
    return Interval(low=ends[1][0] - ends[0][1], high=ends[1][1] - ends[0][0], level=level)


def _profile_difference(first: PromptSample, second: PromptSample, grid: Float[np.ndarray, " depth"]) -> DepthCurve:
    mean = second.profile(grid) - first.profile(grid)
    low, high = (np.full(grid.size, np.nan) for _ in range(2))
    present = np.isfinite(mean)
    if first.has_js_interval and second.has_js_interval:
        apart = second.resampled_profile(grid) - first.resampled_profile(grid)
        tail = (1.0 - first.settings.level) / 2.0
        low[present], high[present] = np.quantile(apart[:, present], (tail, 1.0 - tail), axis=0)
    return DepthCurve(depth=grid, mean=mean, low=low, high=high)
