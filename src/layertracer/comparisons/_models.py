"""The summary of every model."""

from __future__ import annotations

from collections import Counter

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.comparisons._criteria import Reading
from layertracer.comparisons._prepared_runs import Lineup
from layertracer.comparisons._results import (
    DepthCurve,
    Estimate,
    ModelSummary,
    ParticleDepth,
    Quantity,
    VulnerableDepth,
)
from layertracer.comparisons._sample import PromptSample, finite_interval
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import (
    NONE_FOUND,
    bootstrap_mean_curve,
    describe_particle,
    note_on_curves,
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
        identity=lineup.identities[model],
        n_parameters=record.model.n_parameters,
        n_layers=record.n_layers,
        mixers=dict(sorted(mixers.items(), key=lambda item: (-item[1], item[0]))),
        n_prompts=record.n_prompts,
        solved_share=record.solved_share,
        begins_share=record.begins_share,
        mean_js=_estimate(sample, "mean_js_bits"),
        max_js=_estimate(sample, "max_js_bits"),
        vulnerable=_find_vulnerable(sample) if sample.has_js else None,
        profile=_js_curve(sample, grid) if sample.has_js else None,
        js_curve=_js_curve(sample, relative_depth(record.n_layers)) if sample.has_js else None,
        target_curve=_target_curve(sample),
        particles=tuple(_find_particle(sample, reading, settings) for reading in lineup.readings),
    )


def _estimate(sample: PromptSample, quantity: Quantity) -> Estimate | None:
    value = sample.value(quantity)
    if value is None:
        return None
    around = value if quantity == "max_js_bits" else None
    interval, _ = finite_interval(sample.resampled(quantity), sample.settings.level, around=around)
    if interval is None or not sample.has_js_interval:
        return Estimate(value=value, interval=None)
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return Estimate(value=value, interval=Interval(low=low, high=high, level=interval.level))


def _find_vulnerable(sample: PromptSample) -> VulnerableDepth:
    n_layers, found = sample.record.n_layers, sample.vulnerable(level=sample.settings.level)
    return VulnerableDepth(
        layer=found.layer,
        depth=(found.layer + 1) / n_layers,
        interval=None if found.interval is None else to_depth(found.interval, n_layers),
        stability=found.stability,
        contenders=found.contenders,
    )


def _find_particle(sample: PromptSample, reading: Reading, settings: ComparisonSettings) -> ParticleDepth:
    layers, n_layers = sample.onset_layers(reading), sample.record.n_layers
    particle = describe_particle(
        sample.curves[reading.lens], reading.criterion, layers, level=settings.level, sampling=sample.record.sampling
    )
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


def _js_curve(sample: PromptSample, depth: Float[np.ndarray, " depth"]) -> DepthCurve:
    """Mean JS divergence over depth, and its interval over prompts and draws; NaN where there is none."""
    mean = sample.profile(depth)
    low, high = (np.full(depth.size, np.nan) for _ in range(2))
    present = np.isfinite(mean)
    if sample.has_js_interval:
        tail = (1.0 - sample.settings.level) / 2.0
        resampled = sample.resampled_profile(depth)[:, present]
        low[present], high[present] = np.clip(np.quantile(resampled, (tail, 1.0 - tail), axis=0), 0.0, 1.0)
    return DepthCurve(depth=depth, mean=mean, low=low, high=high)


def _target_curve(sample: PromptSample) -> DepthCurve:
    """Mean probability of the target after each layer, and its interval over prompts; few have none."""
    record, settings = sample.record, sample.settings
    values, depth = record.target_prob.astype(np.float64), relative_depth(record.n_layers)
    low, high = (np.full(depth.size, np.nan) for _ in range(2))
    if note_on_curves(record.n_prompts, record.sampling) is None:
        low, high = bootstrap_mean_curve(
            values,
            n_resamples=settings.n_resamples,
            level=settings.level,
            seed=sample.seed,
            sampling=record.sampling,
        )
    return DepthCurve(depth=depth, mean=values.mean(axis=0), low=low, high=high)
