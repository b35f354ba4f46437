"""The answers of a trace: layers and mean curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layertracer._types import MixerGroup, TaskParticle, VulnerableLayer
from layertracer.measures import (
    CurveBand,
    Sampling,
    bootstrap_js_curve,
    bootstrap_mean_curve,
    mean_gain_prob,
    note_on_curves,
    note_on_means,
)
from layertracer.reports._values.parts import Curve
from layertracer.runs import TraceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The answers on one set of prompts; None, or empty, where there is nothing to conclude from."""

    n_prompts: int
    particle: TaskParticle | None
    vulnerable: VulnerableLayer | None
    by_mixer: tuple[MixerGroup, ...]


def find_all(record: TraceRecord) -> Findings:
    """The answers over all finished prompts."""
    has_prompts = record.n_prompts > 0 and record.n_layers > 0
    has_draws = has_prompts and record.n_draws > 0
    return Findings(
        n_prompts=record.n_prompts,
        particle=record.task_particle if has_prompts else None,
        vulnerable=record.vulnerable_layer if has_draws else None,
        by_mixer=record.by_mixer if has_draws else (),
    )


def find_solved(record: TraceRecord) -> Findings | None:
    """The answers over the prompts that the model solves; None where these are none, or all, or not known."""
    n_solved = sum(1 for prompt in record.prompts if prompt.solved)
    if n_solved in (0, record.n_prompts) or record.solved_share is None:
        return None
    return find_all(record.solved_only())


def target_curve(record: TraceRecord) -> Curve:
    """Mean probability of the target after each layer; the interval is over prompts, few of which have none."""
    return prob_curve(record, record.target_prob)


def prob_curve(record: TraceRecord, prob: np.ndarray) -> Curve:
    """Mean of a probability [prompt, layer] after each layer; the interval is over prompts, few of which have none."""
    values = prob.astype(np.float64)
    nothing = np.full(record.n_layers, np.nan)
    if values.size == 0:
        return Curve(mean=nothing, low=nothing, high=nothing)
    mean = values.mean(axis=0)
    if note_on_curves(record.n_prompts, record.sampling) or not np.isfinite(values).all():
        return Curve(mean=mean, low=nothing, high=nothing)
    low, high = bootstrap_mean_curve(values, seed=record.spec.seed, sampling=record.sampling)
    return Curve(mean=mean, low=low, high=high)


def js_curve(record: TraceRecord) -> Curve:
    """Mean JS divergence of each layer, bits; the interval is over prompts and draws.

    One prompt, or one random draw, leaves no interval.
    """
    return curve_over_draws(record.js_bits, bootstrap_js_curve, record.sampling, seed=record.spec.seed)


def curve_over_draws(
    of_layers: np.ndarray, bootstrap: Callable[..., CurveBand], sampling: Sampling, *, seed: int
) -> Curve:
    """Mean of each layer over prompts and draws, NaN at layers without the site, with its interval where there is one.

    Args:
        of_layers: What was measured, [prompt, draw, layer].
        bootstrap: What makes an interval of it.
        sampling: What of it was sampled.
        seed: Seed of the bootstrap.
    """
    values = of_layers.astype(np.float64)
    nothing = np.full(values.shape[-1], np.nan)
    if values.size == 0:
        return Curve(mean=nothing, low=nothing, high=nothing)
    mean, low, high = values.mean(axis=(0, 1)), nothing.copy(), nothing.copy()
    present = ~np.isnan(mean)
    if present.any() and note_on_means(values.shape[0], values.shape[1], sampling) is None:
        low[present], high[present] = bootstrap(values[..., present], seed=seed, sampling=sampling)
    return Curve(mean=mean, low=low, high=high)


def gain(record: TraceRecord) -> np.ndarray:
    """Mean gain in target probability of each layer; the first layer's is over the embeddings."""
    if record.n_prompts == 0:
        return np.full(record.n_layers, np.nan)
    return mean_gain_prob(record.curves)
