"""What evidence cannot be though each of its numbers could: at odds with itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from layertracer._types import LayerMeasure
from layertracer.evidence._causal_laws import ROUNDING, find_causal_contradictions, of_interval, of_shape
from layertracer.evidence._records import (
    Agreement,
    Control,
    DoseResponse,
    EvidenceRecord,
    LensQuality,
    ParticleReading,
    Probing,
    SiteEffect,
    VarianceShares,
)

_ALLOWANCE = 1e-4
"""What a measure of float32 may lie beyond its bounds, as in a run."""


def find_contradictions(record: EvidenceRecord) -> Iterator[str]:
    """What of a record contradicts the rest of it, each with its place; nothing where all goes together."""
    n_layers = record.model["n_layers"]
    mixers = record.model.get("mixers")
    if isinstance(mixers, list | tuple) and len(mixers) != n_layers:
        yield f"model.mixers are {len(mixers)}, and model.n_layers is {n_layers}"
    yield from _of_verdicts(record)
    for index, reading in enumerate(record.particles):
        yield from _of_particle(reading, n_layers, f"particles[{index}]")
    for lens, curve in record.target_prob.items():
        yield from of_shape(curve, (n_layers + 1,), f"target_prob.{lens}", "the embeddings and the model's layers")
    for index, effect in enumerate(record.effects):
        yield from _of_effect(effect, n_layers, f"effects[{index}]")
    for field in ("importance", "text_importance"):
        yield from _of_measures(getattr(record, field), n_layers, field)
    for index, agreement in enumerate(record.agreements):
        yield from _of_agreement(agreement, f"agreements[{index}]")
    for index, control in enumerate(record.controls):
        yield from _of_control(control, n_layers, f"controls[{index}]")
    for index, dose in enumerate(record.doses):
        yield from _of_dose(dose, n_layers, f"doses[{index}]")
    yield from _of_the_rest(record, n_layers)


def _of_the_rest(record: EvidenceRecord, n_layers: int) -> Iterator[str]:
    for index, variance in enumerate(record.variance):
        yield from _of_variance(variance, f"variance[{index}]")
    for index, lens in enumerate(record.lenses):
        yield from _of_lens(lens, n_layers, f"lenses[{index}]")
    for index, probe in enumerate(record.probes):
        yield from _of_probe(probe, n_layers, f"probes[{index}]")
    if (record.causal is None) != bool(record.causal_reason):
        yield "causal_reason must say why there is no causal trace, and nothing where there is one"
    if record.causal is not None:
        if record.causal.model["n_layers"] != n_layers:
            yield f"causal.model.n_layers is {record.causal.model['n_layers']}, and model.n_layers is {n_layers}"
        yield from find_causal_contradictions(record.causal, "causal.")


def _of_verdicts(record: EvidenceRecord) -> Iterator[str]:
    seen: set[str] = set()
    for index, verdict in enumerate(record.verdicts):
        if verdict.question in seen:
            yield f"verdicts[{index}].question is {verdict.question!r}, which was answered already"
        seen.add(verdict.question)
        if not verdict.sentence:
            yield f"verdicts[{index}].sentence is empty"


def _of_layer(layer: int | None, n_layers: int, place: str, *, least: int = 0) -> Iterator[str]:
    if layer is not None and not least <= layer < n_layers:
        yield f"{place} is layer {layer}, and the model has {n_layers}"


def _of_particle(reading: ParticleReading, n_layers: int, place: str) -> Iterator[str]:
    yield from _of_layer(reading.layer, n_layers, f"{place}.layer")
    for index, layer in enumerate(reading.per_prompt):
        yield from _of_layer(layer, n_layers, f"{place}.per_prompt[{index}]")
    found = [layer for layer in reading.per_prompt if layer is not None]
    share = len(found) / len(reading.per_prompt) if reading.per_prompt else float("nan")
    if reading.per_prompt and not abs(share - reading.share_found) < ROUNDING:
        yield f"{place}.share_found is {reading.share_found:g}, and {share:g} of its prompts have one"
    if reading.interval is not None:
        if reading.layer is None:
            yield f"{place}.interval is there, and its layer is not"
        yield from of_interval(reading.interval, f"{place}.interval", (0.0, n_layers - 1.0))
    rate, interval = reading.false_positive_rate, reading.false_positive_interval
    if np.isnan(rate) != (reading.n_random == 0):
        yield f"{place}.false_positive_rate is {rate:g}, and n_random is {reading.n_random}"
    if interval is not None:
        yield from of_interval(interval, f"{place}.false_positive_interval", (0.0, 1.0))
        if not interval.low - ROUNDING <= rate <= interval.high + ROUNDING:
            yield f"{place}.false_positive_rate is {rate:g}, which is not in its interval"


def _of_effect(effect: SiteEffect, n_layers: int, place: str) -> Iterator[str]:
    n_prompts = len(effect.js_bits)
    yield from of_shape(effect.js_bits, (n_prompts, n_layers), f"{place}.js_bits", "its prompts and the model's layers")
    yield from _of_layer(effect.layer, n_layers, f"{place}.layer")
    yield from _of_layers(effect.contenders, n_layers, f"{place}.contenders")
    if effect.layer not in effect.contenders:
        yield f"{place}.layer is {effect.layer}, which is none of its contenders"
    if effect.is_clear and len(effect.contenders) != 1:
        yield f"{place}.is_clear is true, and it has {len(effect.contenders)} contenders"
    if effect.js_bits.shape[1:] == (n_layers,) and effect.layer < n_layers:
        mean = effect.mean_js_bits
        if not np.isnan(mean).all() and not mean[effect.layer] >= np.nanmax(mean) - ROUNDING:
            yield f"{place}.layer is {effect.layer}, and the largest mean is that of layer {int(np.nanargmax(mean))}"


def _of_layers(layers: Sequence[int], n_layers: int, place: str) -> Iterator[str]:
    if list(layers) != sorted(set(layers)):
        yield f"{place} are not ascending, each once: {list(layers)[:9]}"
    if layers and max(layers) >= n_layers:
        yield f"{place} has layer {max(layers)}, and the model has {n_layers}"


def _of_measures(measures: Mapping[str, LayerMeasure], n_layers: int, field: str) -> Iterator[str]:
    for name, measure in measures.items():
        place = f"{field}.{name}"
        if measure.name != name:
            yield f"{place} is called {measure.name!r}"
        n_prompts = len(measure.values)
        shape = (n_prompts, n_layers)
        yield from of_shape(measure.values, shape, f"{place}.values", "its prompts and the model's layers")
        low = -np.inf if measure.info.low is None else measure.info.low
        high = np.inf if measure.info.high is None else measure.info.high
        if np.any((measure.values < low - _ALLOWANCE) | (measure.values > high + _ALLOWANCE)):
            yield f"{place}.values has a number beyond [{low:g}, {high:g}], between which it lies, it says"


def _of_agreement(agreement: Agreement, place: str) -> Iterator[str]:
    if agreement.value is None and not (agreement.interval is None and agreement.p is None):
        yield f"{place} has an interval or a p-value, and no value"
    if (agreement.p is None) != (agreement.p_holm is None):
        yield f"{place} has one of p and p_holm and not the other"
    if agreement.p is not None and agreement.p_holm is not None and agreement.p_holm < agreement.p - 1e-9:
        yield f"{place}.p_holm is {agreement.p_holm:g}, and p is {agreement.p:g}: a correction makes none smaller"
    if agreement.interval is not None:
        yield from of_interval(agreement.interval, f"{place}.interval", (-1.0, 1.0))


def _of_control(control: Control, n_layers: int, place: str) -> Iterator[str]:
    yield from _of_layer(control.layer, n_layers, f"{place}.layer")
    if not control.sentence:
        yield f"{place}.sentence is empty"


def _of_dose(dose: DoseResponse, n_layers: int, place: str) -> Iterator[str]:
    n_doses = len(dose.fractions)
    if list(dose.fractions) != sorted(set(dose.fractions)):
        yield f"{place}.fractions are not ascending, each once"
    if dose.reference not in dose.fractions:
        yield f"{place}.reference is {dose.reference:g}, which is none of its fractions"
    yield from of_shape(dose.js_bits, (n_doses, n_layers), f"{place}.js_bits", "its fractions and the model's layers")
    yield from of_shape(dose.rank_correlation, (n_doses,), f"{place}.rank_correlation", "its fractions")
    if len(dose.layer) != n_doses:
        yield f"{place}.layer has {len(dose.layer)} entries, and its fractions are {n_doses}"
    for index, layer in enumerate(dose.layer):
        yield from _of_layer(layer, n_layers, f"{place}.layer[{index}]")
    for name in ("without_dominant", "only_dominant"):
        curve = getattr(dose, name)
        if curve is not None:
            yield from of_shape(curve, (n_layers,), f"{place}.{name}", "the model's layers")


def _of_variance(variance: VarianceShares, place: str) -> Iterator[str]:
    shares = list(variance.shares.values())
    if shares and not np.isnan(shares).all() and not abs(sum(shares) - 1.0) < ROUNDING:
        yield f"{place}.shares add up to {sum(shares):g}, and must to 1"
    odd = sorted(set(variance.levels) - set(variance.shares))
    if odd:
        yield f"{place}.levels has {odd[0]!r}, of which there is no share"


def _of_lens(lens: LensQuality, n_layers: int, place: str) -> Iterator[str]:
    for name in ("kl_nats", "bias_nats", "top1"):
        what = "the embeddings and the model's layers"
        yield from of_shape(getattr(lens, name), (n_layers + 1,), f"{place}.{name}", what)
    for layer in lens.fallback:
        yield from _of_layer(layer, n_layers, f"{place}.fallback", least=-1)


def _of_probe(probe: Probing, n_layers: int, place: str) -> Iterator[str]:
    yield from _of_layer(probe.layer, n_layers, f"{place}.layer", least=-1)
    yield from of_interval(probe.interval, f"{place}.interval", (0.0, 1.0))
    less = probe.accuracy - probe.control_accuracy
    if not np.isnan(less) and not abs(probe.selectivity - less) < ROUNDING:
        yield f"{place}.selectivity is {probe.selectivity:g}, and accuracy less control_accuracy is {less:g}"
