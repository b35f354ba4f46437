"""What a trace found, as JSON values."""

from __future__ import annotations

from typing import Any

import numpy as np

from layertracer._types import Audit, Certificate, LayerMeasure, LossLayer, TaskParticle, VulnerableLayer
from layertracer.reports._values.effects import EffectAnswer, effect_answers
from layertracer.reports._values.findings import find_all, find_solved, gain, js_curve, target_curve
from layertracer.reports._values.named import LensAnswer, lens_answers
from layertracer.reports._values.numbers import round_for_json
from layertracer.reports._values.sentence import summary_sentence
from layertracer.runs import (
    EffectRecord,
    TraceRecord,
    summarize_loss,
    summarize_mixer,
    summarize_particle,
    summarize_vulnerable,
)


def summarize(record: TraceRecord) -> dict[str, Any]:
    """What a trace found, as JSON values: no NaN, no array.

    Returns:
        A dictionary with the answer as a sentence, the model, the task, both answers over all prompts
        and over the solved ones, results by kind of mixer, the mean curves (bits, probabilities; null
        where a layer has not the perturbed site), by name every effect (empty where there is one, of which the
        divergence alone is known), layer measure and lens, sensitivity, self-check, warnings and error.
    """
    findings, solved = find_all(record), find_solved(record)
    return {
        "sentence": summary_sentence(record),
        "status": record.status,
        "method": record.method,
        "model": _summarize_model(record),
        "task": dict(record.spec.task),
        "perturbation": dict(record.spec.perturbation),
        "target": record.spec.target,
        "n_prompts": record.n_prompts,
        "n_requested": record.n_requested,
        "solved_share": record.solved_share,
        "begins_share": record.begins_share,
        "task_particle": _summarize_particle(findings.particle),
        "vulnerable_layer": _summarize_vulnerable(findings.vulnerable),
        "by_mixer": [_rounded(summarize_mixer(group)) for group in findings.by_mixer],
        "layers_without_site": list(record.layers_without_site),
        "solved_only": None
        if solved is None
        else {
            "n_prompts": solved.n_prompts,
            "task_particle": _summarize_particle(solved.particle),
            "vulnerable_layer": _summarize_vulnerable(solved.vulnerable),
            "by_mixer": [_rounded(summarize_mixer(group)) for group in solved.by_mixer],
        },
        "curves": _summarize_curves(record),
        "effects": {answer.effect.key: _summarize_effect(answer) for answer in effect_answers(record)},
        "measures": {name: _summarize_measure(measure) for name, measure in record.measures.items()},
        "lenses": {lens.name: _summarize_lens(lens) for lens in lens_answers(record)},
        "sensitivity": _summarize_sensitivity(record),
        "sensitivity_note": record.sensitivity.note if record.n_prompts else None,
        **({} if record.certificate is None else {"certificate": _summarize_certificate(record.certificate)}),
        "self_check": {
            "passed": record.self_check.passed,
            "errors": round_for_json_mapping(record.self_check.errors),
            "notes": list(record.self_check.notes),
        },
        "audit": _summarize_audit(record.audit),
        "warnings": list(record.warnings),
        "error": None if record.error is None else dict(record.error),
        "elapsed_s": round_for_json(float(record.elapsed_s)),
    }


def _summarize_certificate(certificate: Certificate) -> dict[str, Any]:
    """What is certain; of each layer's observations their number, mean and ends."""
    return {
        **{
            name: getattr(certificate, name)
            for name in ("layer", "confidence", "ending", "n_cells", "n_total", "budget")
        },
        "contenders": list(certificate.contenders),
        "n_rounds": certificate.n_rounds,
        "n_prompts": certificate.n_prompts,
        "n_whole": certificate.n_whole,
        "rounds_by_layer": list(certificate.rounds_by_layer),
        **{
            name: [None if one is None else round_for_json(one) for one in getattr(certificate, name)]
            for name in ("mean_js_bits", "low_js_bits", "high_js_bits")
        },
        "particle": {
            "layer": certificate.particle.layer,
            "contenders": list(certificate.particle.contenders),
            "share_low": list(certificate.particle.share_low),
            "share_high": list(certificate.particle.share_high),
        },
    }


def round_for_json_mapping(values: dict[str, float]) -> dict[str, Any]:
    """A mapping of numbers, rounded; None where one is not finite."""
    return {name: round_for_json(float(value)) for name, value in values.items()}


def _summarize_audit(audit: Audit | None) -> dict[str, Any] | None:
    if audit is None:
        return None
    worst = {name: getattr(audit, name) for name in ("worst_nats", "worst_bits", "bound")}
    return {
        "share": audit.share,
        "n_cells": audit.n_cells,
        "n_forwards": audit.n_forwards,
        "n_drawn": audit.n_drawn,
        **{name: None if value is None else round_for_json(value) for name, value in worst.items()},
        "notes": list(audit.notes),
    }


def _summarize_model(record: TraceRecord) -> dict[str, Any]:
    model = record.model
    return {
        "name": model.name,
        "class_name": model.class_name,
        "revision": model.revision,
        "n_layers": model.n_layers,
        "mixers": [layer.mixer for layer in model.layers],
        "d_model": model.d_model,
        "d_vocab": model.d_vocab,
        "n_parameters": model.n_parameters,
        "device": model.device,
        "dtype": model.dtype,
        "fingerprint": model.fingerprint,
    }


def _summarize_particle(particle: TaskParticle | None) -> dict[str, Any] | None:
    if particle is None:
        return None
    more = {"per_prompt": list(particle.per_prompt), "criterion": dict(particle.criterion)}
    return _rounded(summarize_particle(particle)) | more


def _summarize_vulnerable(vulnerable: VulnerableLayer | None) -> dict[str, Any] | None:
    if vulnerable is None:
        return None
    return _rounded(summarize_vulnerable(vulnerable)) | {"per_prompt": list(vulnerable.per_prompt)}


def _summarize_loss(loss: LossLayer | None) -> dict[str, Any] | None:
    return None if loss is None else _rounded(summarize_loss(loss)) | {"per_prompt": list(loss.per_prompt)}


def _summarize_effect(answer: EffectAnswer) -> dict[str, Any]:
    curves = {"js_bits": answer.js} | ({} if answer.lost is None else {"target_log_prob_loss": answer.lost})
    return {
        "perturbation": dict(answer.effect.perturbation),
        "n_draws": answer.effect.n_draws,
        "layers_without_site": list(answer.effect.layers_without_site),
        "vulnerable_layer": _summarize_vulnerable(answer.vulnerable),
        "largest_loss_layer": _summarize_loss(answer.loss),
        "curves": {name: round_for_json(curve.mean, digits=6) for name, curve in curves.items()},
        "measures": _summarize_further_rows(answer.effect),
    }


def _summarize_further_rows(effect: EffectRecord) -> dict[str, Any]:
    """What else was measured of the perturbed output, means over prompts and draws."""
    return {
        name: {
            "unit": effect.infos[name].unit,
            "meaning": effect.infos[name].meaning,
            "mean": round_for_json(values.mean(axis=(0, 1), dtype=np.float64), digits=6),
        }
        for name, values in effect.rows.items()
        if name not in ("js_bits", "target_log_prob")
    }


def _summarize_measure(measure: LayerMeasure) -> dict[str, Any]:
    return {"unit": measure.unit, "meaning": measure.meaning, "mean": round_for_json(measure.mean, digits=6)}


def _summarize_lens(lens: LensAnswer) -> dict[str, Any]:
    return {
        "meaning": lens.meaning,
        "task_particle": _summarize_particle(lens.particle),
        "curves": {"target_prob": round_for_json(lens.target.mean, digits=6)},
    }


def _summarize_sensitivity(record: TraceRecord) -> list[dict[str, Any]]:
    """One entry for each value of the criterion's parameter, under its name; empty where it has none."""
    if record.n_prompts == 0:
        return []
    sweep = record.sensitivity
    return [
        {sweep.parameter or "value": round_for_json(value), "layer": layer, "share_found": round_for_json(share)}
        for value, layer, share in zip(sweep.values, sweep.layers, sweep.share_found, strict=True)
    ]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """The answers that a run keeps, with their numbers as people read them; bounds of intervals stay."""
    return {name: round_for_json(value) if isinstance(value, float) else value for name, value in values.items()}


def _summarize_curves(record: TraceRecord) -> dict[str, Any]:
    target, js = target_curve(record), js_curve(record)
    return {
        "target_prob": round_for_json(target.mean, digits=6),
        "target_gain": round_for_json(gain(record), digits=6),
        "js_bits": round_for_json(js.mean, digits=6),
    }
