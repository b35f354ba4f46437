"""The answers of a trace as JSON values."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer._errors import LayerTracerError, NonFiniteError
from layertracer._types import Interval, LargestLayer, LossLayer, MixerGroup, TaskParticle, VulnerableLayer
from layertracer.runs._effects import EffectRecord
from layertracer.runs._record import TraceRecord


def summarize_record(record: TraceRecord) -> dict[str, Any]:
    """The answers of a trace as JSON values, over all prompts and over the solved ones.

    Returns:
        "n_prompts", "n_requested", "solved_share" and "begins_share" (in [0, 1], or None where no prompt has an answer
        or it is not known), and under "all" and "solved" (None where no prompt is left) "n_prompts", "task_particle",
        "vulnerable_layer", "robustness" and "by_mixer" (and "effects" and "lenses" by name, where more than one is
        known), or "error" where the numbers allow no answer.
    """
    solved = record.solved_only()
    return {
        "n_prompts": record.n_prompts,
        "n_requested": record.n_requested,
        "solved_share": record.solved_share,
        "begins_share": record.begins_share,
        "all": _summarize_answers(record),
        "solved": _summarize_answers(solved),
    }


def _summarize_answers(record: TraceRecord) -> dict[str, Any] | None:
    if record.n_prompts == 0:
        return None
    try:
        return {"n_prompts": record.n_prompts} | _answers(record)
    except LayerTracerError as error:
        # What was measured is kept even where nothing follows from it: saving must not lose a run.
        return {"n_prompts": record.n_prompts, "error": str(error)}


def _answers(record: TraceRecord) -> dict[str, Any]:
    missing = record.layers_without_site if len(record.layers_without_site) < record.n_layers else ()
    measured = {name: getattr(record, name) for name in ("target_log_prob", "embedding_log_prob")}
    for name, values in (measured | {"js_bits": np.delete(record.js_bits, missing, axis=-1)}).items():
        n_nan = int(np.isnan(values).sum())
        if n_nan:
            raise NonFiniteError(f"{name} holds {n_nan} NaN, so there is no answer. Trace in float32.")
    robustness = record.robustness
    return {
        "task_particle": summarize_particle(record.task_particle),
        "vulnerable_layer": summarize_vulnerable(record.vulnerable_layer),
        "robustness": {"max_bits": float(robustness.max_bits), "mean_bits": float(robustness.mean_bits)},
        "by_mixer": [summarize_mixer(group) for group in record.by_mixer],
    } | _named_answers(record)


def _named_answers(record: TraceRecord) -> dict[str, Any]:
    """The answers of every effect and lens, by name; nothing where there is one effect that no more is known of."""
    answers: dict[str, Any] = {}
    effects = record.effects.values()
    if len(effects) > 1 or any(effect.target_log_prob is not None for effect in effects):
        answers["effects"] = {effect.key: _summarize_effect(effect) for effect in effects}
    if record.lenses:
        answers["lenses"] = {
            name: {"task_particle": summarize_particle(lens.task_particle)} for name, lens in record.lenses.items()
        }
    return answers


def _summarize_effect(effect: EffectRecord) -> dict[str, Any]:
    try:
        vulnerable, loss = effect.vulnerable_layer, effect.largest_loss_layer
    except LayerTracerError as error:
        return {"error": str(error)}
    return {
        "vulnerable_layer": summarize_vulnerable(vulnerable),
        "largest_loss_layer": None if loss is None else summarize_loss(loss),
    }


def summarize_particle(particle: TaskParticle) -> dict[str, Any]:
    """The layer at which the task starts, as JSON values."""
    return {
        "layer": particle.layer,
        "interval": _interval(particle.interval),
        "interval_share_found": particle.interval_share_found,
        "share_found": particle.share_found,
        "note": particle.note,
    }


def summarize_vulnerable(vulnerable: VulnerableLayer) -> dict[str, Any]:
    """The layer that breaks most easily, as JSON values."""
    return {"layer": vulnerable.layer, "mean_js_bits": vulnerable.mean_js_bits} | _summarize_largest(vulnerable)


def _summarize_largest(found: LargestLayer) -> dict[str, Any]:
    return {
        "interval": _interval(found.interval),
        "stability": found.stability,
        "is_edge": found.is_edge,
        "is_clear": found.is_clear,
        "contenders": list(found.contenders),
        "note": found.note,
    }


def summarize_loss(found: LossLayer) -> dict[str, Any]:
    """The layer whose perturbation costs the target most, as JSON values."""
    return {"layer": found.layer, "mean_loss_nats": found.mean_loss_nats} | _summarize_largest(found)


def summarize_mixer(group: MixerGroup) -> dict[str, Any]:
    """The results of one kind of mixer as JSON values."""
    return {
        "mixer": group.mixer,
        "n_layers": group.n_layers,
        "layers": list(group.layers),
        "n_perturbed": group.n_perturbed,
        "mean_depth": group.mean_depth,
        "mean_js_bits": group.mean_js_bits,
        "interval": _interval(group.interval),
        "vulnerable_layer": group.vulnerable_layer,
        "max_js_bits": group.max_js_bits,
        "mean_gain_prob": group.mean_gain_prob,
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"low": interval.low, "high": interval.high, "level": interval.level}
