"""Every pair of models: differences over the prompts that both finished."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from layertracer.comparisons._criteria import Reading
from layertracer.comparisons._lineup import Lineup
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
    apart = second.resampled(quantity, reading) - first.resampled(quantity, reading)
    interval, share_found = finite_interval(apart, first.settings.level)
    return Difference(
        quantity=quantity,
        lens=None if reading is None else reading.lens,
        criterion=None if reading is None else reading.name,
        first=values[0],
        second=values[1],
        value=None if values[0] is None or values[1] is None else values[1] - values[0],
        interval=interval,
        share_found=share_found,
    )


def _profile_difference(first: PromptSample, second: PromptSample, grid: Float[np.ndarray, " depth"]) -> DepthCurve:
    apart = second.resampled_profile(grid) - first.resampled_profile(grid)
    mean = second.profile(grid) - first.profile(grid)
    low, high = (np.full(grid.size, np.nan) for _ in range(2))
    present = np.isfinite(mean)
    tail = (1.0 - first.settings.level) / 2.0
    low[present], high[present] = np.quantile(apart[:, present], (tail, 1.0 - tail), axis=0)
    return DepthCurve(depth=grid, mean=mean, low=low, high=high)
