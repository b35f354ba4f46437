"""What each perturbation of a trace does, and where it does most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from layertracer._errors import LayerTracerError
from layertracer._types import LossLayer, VulnerableLayer
from layertracer.measures import bootstrap_crossed_curve, bootstrap_js_curve
from layertracer.reports._values.findings import curve_over_draws
from layertracer.reports._values.numbers import show_number, show_ranges, show_share
from layertracer.reports._values.parts import Curve, Phrase, Strip, Table
from layertracer.reports._values.wording import (
    clause_of,
    contenders_clause,
    edge_clause,
    part_missing,
    site_words,
    vulnerable_label,
)
from layertracer.runs import EffectRecord, TraceRecord

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectAnswer:
    """What one perturbation does.

    Attributes:
        name: Its site in words, numbered where several perturbations share one.
        effect: What was measured.
        vulnerable: Where it changes the output most; None where the numbers allow no answer.
        loss: Where it costs the target most; None where that was not measured, or there is no answer.
        js: Mean JS divergence of each layer, bits.
        lost: Mean loss of the target's log-probability, nats; None where it was not measured.
    """

    name: str
    effect: EffectRecord
    vulnerable: VulnerableLayer | None
    loss: LossLayer | None
    js: Curve
    lost: Curve | None


def effect_answers(record: TraceRecord) -> tuple[EffectAnswer, ...]:
    """What every perturbation does, where more is known than one divergence; else nothing."""
    effects = tuple(record.effects.values())
    is_more = len(effects) > 1 or any(effect.target_log_prob is not None for effect in effects)
    if not is_more or not record.n_prompts or not all(effect.n_draws for effect in effects):
        return ()
    return tuple(_answer(record, effect) for effect in effects)


def _answer(record: TraceRecord, effect: EffectRecord) -> EffectAnswer:
    loss = effect.target_log_prob_loss
    counts = None if loss is None else ~np.isnan(loss).all(axis=(1, 2))
    lost = None
    if loss is not None and counts is not None and counts.any() and not np.isinf(loss).any():
        lost = curve_over_draws(loss[counts], bootstrap_crossed_curve, effect.loss_sampling, seed=record.spec.seed)
    return EffectAnswer(
        name=effect_name(effect),
        effect=effect,
        vulnerable=_or_none(lambda: effect.vulnerable_layer),
        loss=_or_none(lambda: effect.largest_loss_layer),
        js=curve_over_draws(effect.js_bits, bootstrap_js_curve, effect.sampling, seed=record.spec.seed),
        lost=lost,
    )


def effect_name(effect: EffectRecord) -> str:
    """The site of one of several perturbations in words, numbered where several share it."""
    number = effect.key.rpartition("#")[2] if effect.key.removeprefix(effect.site) else ""
    return f"{site_words(effect.perturbation)} ({number})" if number else site_words(effect.perturbation)


def _or_none(find: Callable[[], Found]) -> Found | None:
    """An answer; None where the numbers, such as infinite losses, allow none."""
    try:
        return find()
    except LayerTracerError:
        return None


def effect_phrases(answer: EffectAnswer, n_layers: int) -> tuple[Phrase, ...]:
    """The answer of one perturbation in a sentence of the headline's style."""
    clause = clause_of(answer.effect.perturbation)
    if answer.vulnerable is None:
        return (Phrase(f"The numbers allow no answer {clause}."),)
    phrases = [*_vulnerable(answer, answer.vulnerable, n_layers, clause)]
    if answer.loss is not None:
        phrases += _loss(answer.loss, n_layers)
    return (*phrases, Phrase("."))


def _vulnerable(answer: EffectAnswer, found: VulnerableLayer, n_layers: int, clause: str) -> list[Phrase]:
    js, edge = show_number(found.mean_js_bits, digits=2), edge_clause(found, n_layers)
    layer = Phrase(f"layer {found.layer}", strong=True)
    if n_layers - len(answer.effect.layers_without_site) == 1:
        return [Phrase("The only layer that was perturbed is "), layer, Phrase(f"{edge}: {js} bits {clause}")]
    if found.is_clear:
        return [Phrase("It breaks most easily at "), layer, Phrase(f"{edge} ({js} bits) {clause}")]
    where = f"{contenders_clause(found, n_layers)}, {js} bits at layer {found.layer}{edge}"
    return [Phrase("No layer stands out", strong=True), Phrase(f" {clause}: {where}")]


def _loss(found: LossLayer, n_layers: int) -> list[Phrase]:
    nats, edge = show_number(found.mean_loss_nats, digits=2), edge_clause(found, n_layers)
    if found.is_clear:
        return [
            Phrase("; the target loses most at "),
            Phrase(f"layer {found.layer}", strong=True),
            Phrase(f"{edge} ({nats} nats)"),
        ]
    where = f"{contenders_clause(found, n_layers)}, {nats} nats at layer {found.layer}{edge}"
    return [Phrase("; of what the target loses "), Phrase("no layer stands out", strong=True), Phrase(f": {where}")]


def effects_table(answers: tuple[EffectAnswer, ...]) -> Table:
    """One row per perturbation: where it changes the output most, and where it costs the target most."""
    columns = (
        *("Site", "Draws", "Vulnerable layer", "Contenders", "Stable in", "Mean JS, bits"),
        *("Largest loss at", "Contenders of loss", "Mean loss, nats"),
    )
    return Table(columns=columns, rows=tuple(map(_row, answers)), numeric=frozenset(range(1, len(columns))))


def _row(answer: EffectAnswer) -> tuple[str, ...]:
    vulnerable, loss = answer.vulnerable, answer.loss
    row = [answer.name, str(answer.effect.n_draws)]
    if vulnerable is None:
        row += ["–"] * 4
    else:
        row += [*_which(vulnerable), show_share(vulnerable.stability), show_number(vulnerable.mean_js_bits)]
    row += ["–"] * 3 if loss is None else [*_which_loss(loss), show_number(loss.mean_loss_nats)]
    return tuple(row)


def _which(found: VulnerableLayer) -> tuple[str, str]:
    layer = str(found.layer) if found.is_clear else f"none clear (largest {found.layer})"
    return layer, show_ranges(found.contenders)


def _which_loss(found: LossLayer) -> tuple[str, str]:
    """The layer of the largest loss, as it reads behind "largest loss at"."""
    layer = str(found.layer) if found.is_clear else f"{found.layer}, not clear"
    return layer, show_ranges(found.contenders)


def effect_strips(answers: tuple[EffectAnswer, ...]) -> tuple[Strip, ...]:
    """Of each perturbation but the first one its divergences, and of all what happens to the target."""
    strips = []
    for number, answer in enumerate(answers):
        missing = f"{part_missing(answer.effect.perturbation)} here" if answer.effect.layers_without_site else None
        if number:
            strips.append(
                Strip(
                    title=f"JS divergence at the {answer.name}",
                    unit="bits",
                    values=answer.js.mean,
                    kind="magnitude",
                    marked=None if answer.vulnerable is None else answer.vulnerable.layer,
                    mark_label=None if answer.vulnerable is None else vulnerable_label(answer.vulnerable),
                    missing=missing,
                )
            )
        if answer.lost is not None:
            strips.append(
                Strip(
                    title=f"Change of the target's log-probability, {answer.name} perturbed",
                    unit="nats",
                    values=-answer.lost.mean,
                    kind="signed",
                    marked=None if answer.loss is None else answer.loss.layer,
                    mark_label=None if answer.loss is None else _loss_label(answer.loss),
                    missing=missing,
                )
            )
    return tuple(strips)


def _loss_label(found: LossLayer) -> str:
    return f"largest loss {found.layer}" if found.is_clear else f"largest loss at {found.layer}, not clear"


def effect_numbers(answers: tuple[EffectAnswer, ...], n_layers: int) -> Table:
    """Every number per layer of every perturbation."""
    columns, cells = ["Layer"], [[str(layer)] for layer in range(n_layers)]
    for answer in answers:
        curves = {"JS, bits": answer.js} | ({} if answer.lost is None else {"loss, nats": answer.lost})
        for what, curve in curves.items():
            columns += [f"{answer.name}: {what}", "Interval"]
            for layer in range(n_layers):
                cells[layer] += _cells(curve, layer, part_missing(answer.effect.perturbation))
    return Table(columns=tuple(columns), rows=tuple(map(tuple, cells)), numeric=frozenset(range(len(columns))))


def _cells(curve: Curve, layer: int, missing: str) -> list[str]:
    if np.isnan(curve.mean[layer]):
        return [missing, "–"]
    ends = (show_number(float(edge[layer]), digits=2) for edge in (curve.low, curve.high))
    return [show_number(float(curve.mean[layer])), " to ".join(ends) if np.isfinite(curve.low[layer]) else "–"]
