"""Trends over the number of parameters, within families."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from layertracer.comparisons._criteria import Reading
from layertracer.comparisons._prepared_runs import Lineup
from layertracer.comparisons._prompts import shared_rows
from layertracer.comparisons._results import Quantity, ScalingTrend
from layertracer.comparisons._sample import PromptSample, finite_interval
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import (
    SizeGroups,
    group_sizes,
    make_generator,
    monotone_trend,
    pool_groups,
    scaling_slope,
)

_STREAM_OF_REPEATS = 1000
"""Added to the seed where models of one size are resampled, to be independent of the resamples of prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Models in an order that does not depend on how they were given."""

    samples: tuple[PromptSample, ...]
    groups: SizeGroups
    weights: Float[np.ndarray, "resample model"]
    is_paired: bool
    settings: ComparisonSettings


def find_trends(lineup: Lineup) -> tuple[ScalingTrend, ...]:
    """The trend of the mean and the largest JS divergence, and of the particle's depth by every reading."""
    settings = lineup.settings
    rows = shared_rows(lineup.keys)
    is_paired = len(rows[0]) >= settings.min_shared
    order = sorted(range(lineup.n_models), key=lambda model: lineup.ranks[model])
    samples = tuple(
        lineup.store.draw(model, rows[model]) if is_paired else lineup.store.draw(model, stream=1 + lineup.ranks[model])
        for model in order
    )
    groups = group_sizes(
        [sample.record.model.n_parameters for sample in samples],
        [lineup.families[model] for model in order],
        tolerance=settings.size_tolerance,
    )
    weights = _resample_repeats(groups, settings)
    series = _Series(samples=samples, groups=groups, weights=weights, is_paired=is_paired, settings=settings)
    quantities: tuple[Quantity, ...] = ("mean_js_bits", "max_js_bits")
    return (
        *(_find_trend(series, quantity) for quantity in quantities),
        *(_find_trend(series, "particle_depth", reading) for reading in lineup.readings),
    )


def _resample_repeats(groups: SizeGroups, settings: ComparisonSettings) -> Float[np.ndarray, "resample model"]:
    """How often each model counts: those of one size are drawn with replacement, as many as there are."""
    generator = make_generator(settings.seed + _STREAM_OF_REPEATS)
    weights = np.ones((settings.n_resamples, groups.group.size))
    for group in range(groups.n_groups):
        members = np.flatnonzero(groups.group == group)
        if members.size > 1:
            weights[:, members] = generator.multinomial(
                members.size, np.full(members.size, 1 / members.size), size=settings.n_resamples
            )
    return weights


def _find_trend(series: _Series, quantity: Quantity, reading: Reading | None = None) -> ScalingTrend:
    values = np.array([_known(sample.value(quantity, reading)) for sample in series.samples])
    trend = monotone_trend(pool_groups(values, series.groups), series.groups)
    slope = float(scaling_slope(pool_groups(_log(values), series.groups), series.groups))
    known = np.isfinite(values)
    interval = None
    is_known = reading is not None or all(sample.has_js_interval for sample in series.samples)
    if np.isfinite(slope) and is_known:
        resampled = np.stack([sample.resampled(quantity, reading) for sample in series.samples], axis=1)
        slopes = scaling_slope(pool_groups(_log(resampled), series.groups, series.weights), series.groups)
        interval, _ = finite_interval(slopes, series.settings.level)
    n_models, n_families = _count_contrasted(series.groups, known)
    return ScalingTrend(
        quantity=quantity,
        lens=None if reading is None else reading.lens,
        criterion=None if reading is None else reading.name,
        n_models=n_models,
        n_sizes=0 if trend is None else trend.n_sizes,
        n_families=n_families,
        n_prompts=min(sample.n_prompts for sample in series.samples),
        is_paired=series.is_paired,
        slope=slope if np.isfinite(slope) else None,
        interval=interval,
        tau=None if trend is None else trend.tau,
        p_value=None if trend is None else trend.p_value,
        least_p_value=None if trend is None else trend.least_p_value,
        note=_note(quantity, values, has_trend=trend is not None, is_pooled=series.settings.families == "one"),
    )


def _count_contrasted(groups: SizeGroups, known: Bool[np.ndarray, " model"]) -> tuple[int, int]:
    """Models with a value in families that have at least two sizes with one, and the number of these families."""
    families = groups.stratum[np.unique(groups.group[known])]
    names, n_sizes = np.unique(families, return_counts=True)
    contrasted = names[n_sizes > 1]
    return int(np.isin(groups.stratum[groups.group[known]], contrasted).sum()), len(contrasted)


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def _log(values: Float[np.ndarray, "*batch model"]) -> Float[np.ndarray, "*batch model"]:
    """Natural logarithm; NaN where a value is missing or 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def _note(quantity: Quantity, values: Float[np.ndarray, " model"], *, has_trend: bool, is_pooled: bool) -> str | None:
    notes = []
    n_missing = int((~np.isfinite(values)).sum())
    if n_missing:
        what = "task particle" if quantity == "particle_depth" else "layer with the perturbed site"
        notes.append(f"{n_missing} of {values.size} models have no {what} and are left out")
    if (values == 0).any():
        notes.append("a divergence of 0 has no logarithm and is left out of the slope")
    if not has_trend:
        notes.append(
            "all models are of one size"
            if is_pooled
            else "no family of models has two sizes; families='one' compares sizes across families"
        )
    return "; ".join(notes) or None
