"""The summary of every model."""

from __future__ import annotations

from collections import Counter

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.comparisons._criteria import Reading
from layertracer.comparisons._lineup import Lineup
from layertracer.comparisons._results import (
    DepthCurve,
    Estimate,
    ModelSummary,
    ParticleDepth,
    Quantity,
    VulnerableDepth,
)
from layertracer.comparisons._sample import PromptSample
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import (
    NONE_FOUND,
    bootstrap_mean_curve,
    describe_particle,
    find_vulnerable_layer,
    interpolate_profile,
    percentile_interval,
    relative_depth,
)


def summarize_model(lineup: Lineup, model: int) -> ModelSummary:
    """One model on all of its prompts."""
    sample, grid, settings = lineup.store.draw(model), lineup.grid, lineup.settings
    record = sample.record
    mixers = Counter(layer.mixer for layer in record.model.layers)
    return ModelSummary(
        label=lineup.labels[model],
        name=record.model.name,
        family=lineup.families[model],
        fingerprint=record.model.fingerprint,
        n_parameters=record.model.n_parameters,
        n_layers=record.n_layers,
        mixers=dict(sorted(mixers.items(), key=lambda item: (-item[1], item[0]))),
        n_prompts=record.n_prompts,
        solved_share=record.solved_share,
        begins_share=record.begins_share,
        mean_js=_estimate(sample, "mean_js_bits"),
        max_js=_estimate(sample, "max_js_bits"),
        vulnerable=_find_vulnerable(sample) if sample.has_js else None,
        profile=_curve(interpolate_profile(sample.js_curves, grid), grid, sample) if sample.has_js else None,
        js_curve=_curve(sample.js_curves, relative_depth(record.n_layers), sample) if sample.has_js else None,
        target_curve=_curve(record.target_prob.astype(np.float64), relative_depth(record.n_layers), sample),
        particles=tuple(_find_particle(sample, reading, settings) for reading in lineup.readings),
    )


def _estimate(sample: PromptSample, quantity: Quantity) -> Estimate | None:
    value = sample.value(quantity)
    if value is None:
        return None
    return Estimate(value=value, interval=percentile_interval(sample.resampled(quantity), sample.settings.level))


def _find_vulnerable(sample: PromptSample) -> VulnerableDepth:
    record, settings = sample.record, sample.settings
    found = find_vulnerable_layer(
        record.js_bits, n_resamples=settings.n_resamples, level=settings.level, seed=settings.seed
    )
    return VulnerableDepth(
        layer=found.layer,
        depth=(found.layer + 1) / record.n_layers,
        interval=to_depth(found.interval, record.n_layers),
        stability=found.stability,
    )


def _find_particle(sample: PromptSample, reading: Reading, settings: ComparisonSettings) -> ParticleDepth:
    layers, n_layers = sample.onset_layers(reading), sample.record.n_layers
    particle = describe_particle(sample.curves[reading.lens], reading.criterion, layers, level=settings.level)
    depths = (layers[layers != NONE_FOUND] + 1) / n_layers
    return ParticleDepth(
        lens=reading.lens,
        criterion=reading.name,
        is_headline=reading.is_headline,
        layer=particle.layer,
        depth=None if particle.layer is None else (particle.layer + 1) / n_layers,
        interval=None if particle.interval is None else to_depth(particle.interval, n_layers),
        interval_share_found=particle.interval_share_found,
        share_found=particle.share_found,
        share_deep=float((depths > settings.deep_depth).mean()) if depths.size else None,
    )


def to_depth(interval: Interval, n_layers: int) -> Interval:
    """An interval over layers as one over relative depth."""
    low, high = (interval.low + 1) / n_layers, (interval.high + 1) / n_layers
    return Interval(low=low, high=high, level=interval.level)


def _curve(
    values: Float[np.ndarray, "prompt depth"], depth: Float[np.ndarray, " depth"], sample: PromptSample
) -> DepthCurve:
    """Mean and interval of curves; NaN where they hold nothing else."""
    present = ~np.isnan(values).all(axis=0)
    mean, low, high = (np.full(depth.size, np.nan) for _ in range(3))
    mean[present] = values[:, present].mean(axis=0)
    settings = sample.settings
    low[present], high[present] = bootstrap_mean_curve(
        values[:, present], n_resamples=settings.n_resamples, level=settings.level, seed=sample.seed
    )
    return DepthCurve(depth=depth, mean=mean, low=low, high=high)
