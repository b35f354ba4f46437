"""The answers of a trace: layers, mean curves, the sweep of the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertracer._types import TaskParticle, VulnerableLayer
from layertracer.measures import bootstrap_mean_curve
from layertracer.reports._parts import Curve
from layertracer.runs import TraceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The two answers on one set of prompts; None where there is nothing to conclude from."""

    n_prompts: int
    particle: TaskParticle | None
    vulnerable: VulnerableLayer | None


def find_all(record: TraceRecord) -> Findings:
    """The answers over all finished prompts."""
    has_prompts = record.n_prompts > 0 and record.n_layers > 0
    has_draws = has_prompts and record.n_draws > 0
    return Findings(
        n_prompts=record.n_prompts,
        particle=record.task_particle if has_prompts else None,
        vulnerable=record.vulnerable_layer if has_draws else None,
    )


def find_solved(record: TraceRecord) -> Findings | None:
    """The answers over the prompts that the model solves; None where that is no prompt or every prompt."""
    n_solved = sum(1 for prompt in record.prompts if prompt.solved)
    if n_solved in (0, record.n_prompts):
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
    before = np.concatenate([record.embedding_prob[:, None], record.target_prob[:, :-1]], axis=1)
    return np.asarray((record.target_prob - before).mean(axis=0, dtype=np.float64))


def _mean_curve(measured: np.ndarray, *, seed: int) -> Curve:
    values = measured.astype(np.float64)
    nothing = np.full(values.shape[1], np.nan)
    if values.size == 0 or not np.isfinite(values).all():
        return Curve(mean=values.mean(axis=0) if values.size else nothing, low=nothing, high=nothing)
    low, high = bootstrap_mean_curve(values, seed=seed)
    return Curve(mean=values.mean(axis=0), low=low, high=high)


def sweep_rows(record: TraceRecord) -> list[tuple[float, int | None, float]]:
    """Threshold, layer of the mean curve, share of prompts found: one row per threshold."""
    if record.n_prompts == 0:
        return []
    sweep = record.sensitivity
    return [
        (float(delta), None if layer is None or layer < 0 else int(layer), float(share))
        for delta, layer, share in zip(sweep.deltas, sweep.layers, sweep.share_found, strict=True)
    ]
