"""The answers of a trace: layers, mean curves, the sweep of the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertracer._types import MixerGroup, TaskParticle, VulnerableLayer
from layertracer.measures import bootstrap_mean_curve, mean_gain_prob
from layertracer.reports._parts import Curve
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
    """Mean probability of the target after each layer."""
    return _mean_curve(record.target_prob, seed=record.spec.seed)


def js_curve(record: TraceRecord) -> Curve:
    """Mean JS divergence of each layer, bits; the interval is over prompts."""
    per_prompt = record.js_bits.mean(axis=1) if record.n_draws else np.full((record.n_prompts, record.n_layers), np.nan)
    return _mean_curve(per_prompt, seed=record.spec.seed)


def gain(record: TraceRecord) -> np.ndarray:
    """Mean gain in target probability of each layer; the first layer's is over the embeddings."""
    if record.n_prompts == 0:
        return np.full(record.n_layers, np.nan)
    return mean_gain_prob(record.curves)


def _mean_curve(measured: np.ndarray, *, seed: int) -> Curve:
    """Mean and interval over prompts; NaN at layers that hold nothing but NaN."""
    values = measured.astype(np.float64)
    nothing = np.full(values.shape[1], np.nan)
    if values.size == 0:
        return Curve(mean=nothing, low=nothing, high=nothing)
    mean, low, high = values.mean(axis=0), nothing.copy(), nothing.copy()
    present = ~np.isnan(values).all(axis=0)
    if present.any() and np.isfinite(values[:, present]).all():
        low[present], high[present] = bootstrap_mean_curve(values[:, present], seed=seed)
    return Curve(mean=mean, low=low, high=high)


def sweep_rows(record: TraceRecord) -> list[tuple[float, int | None, float]]:
    """Threshold, layer of the mean curve, share of prompts found: one row per threshold."""
    if record.n_prompts == 0:
        return []
    sweep = record.sensitivity
    return [
        (float(delta), None if layer is None or layer < 0 else int(layer), float(share))
        for delta, layer, share in zip(sweep.deltas, sweep.layers, sweep.share_found, strict=True)
    ]
