"""What a validation found, as JSON values and as a table of all its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from layertracer._types import LayerMeasure
from layertracer.evidence import CausalRecord, EvidenceRecord, RoleEffects
from layertracer.reports._evidence.overview import build_evidence_overview
from layertracer.reports._values.documents import (
    csv_text,
    number_row,
    plain_fields,
    plain_interval,
    plain_values,
    write_whole,
)

CSV_COLUMNS = (
    *("part", "name", "rows", "lens", "criterion", "layer", "quantity", "value", "low", "high", "unit"),
    *("p", "p_holm", "n", "note"),
)
"""Columns of the table: one row a number."""

Row = dict[str, Any]


def evidence_json(record: EvidenceRecord) -> dict[str, Any]:
    """What a validation found, as JSON values: no NaN, no array.

    Numbers of single prompts are left to the tables of the folder; here stand their means by layer.

    Returns:
        A dictionary with the answers in a sentence and one by one, the model, the task, particles, JS and other
        measures by layer, causal tracing by role, agreements, controls, doses, variance, lenses, probes, and notes.
    """
    overview = build_evidence_overview(record)
    return {
        "sentence": "".join(phrase.text for phrase in overview.sentence),
        "model": plain_values(dict(record.model)),
        "task": plain_values(dict(record.task)),
        "n_prompts": record.n_prompts,
        "solved_share": plain_values(record.solved_share),
        "quick": record.quick,
        "seed": record.seed,
        "verdicts": _listed(record.verdicts),
        "particles": _listed(record.particles),
        "target_prob": plain_values({lens: record.target_prob[lens] for lens in sorted(record.target_prob)}),
        "effects": [
            {
                "site": one.site,
                "rows": one.rows,
                "n_prompts": len(one.js_bits),
                "mean_js_bits": plain_values(one.mean_js_bits),
                "layer": one.layer,
                "is_clear": one.is_clear,
                "contenders": list(one.contenders),
            }
            for one in record.effects
        ],
        "importance": _measures(record.importance),
        "text_importance": _measures(record.text_importance),
        "causal": None if record.causal is None else causal_values(record.causal),
        "causal_reason": record.causal_reason,
        "agreements": _listed(record.agreements),
        "controls": _listed(record.controls),
        "doses": _listed(record.doses),
        "variance": _listed(record.variance),
        "prompts_needed": _listed(record.prompts_needed),
        "lenses": _listed(record.lenses),
        "probes": _listed(record.probes),
        "gradient_fidelity": plain_values(dict(record.gradient_fidelity)),
        "notes": list(record.notes),
    }


def _listed(records: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [plain_fields(one) for one in records]


def _measures(measures: Mapping[str, LayerMeasure]) -> dict[str, Any]:
    return {
        name: {
            "unit": measures[name].unit,
            "meaning": measures[name].meaning,
            "mean": plain_values(measures[name].mean),
        }
        for name in sorted(measures)
    }


def causal_values(causal: CausalRecord) -> dict[str, Any]:
    """What causal tracing found, by role of token."""
    return {
        "corrupt": causal.corrupt,
        "direction": causal.direction,
        "site": causal.site,
        "window": causal.window,
        "n_prompts": len(causal.lengths),
        "n_used": len(causal.lengths) - len(causal.excluded),
        "excluded": _listed(causal.excluded),
        "total_effect": plain_values(causal.total_effect),
        "total_effect_interval": plain_interval(causal.total_effect_interval),
        "by_role": plain_fields(causal.by_role),
        "recovery_by_role": plain_fields(causal.recovery_by_role),
        "notes": list(causal.notes),
    }


def write_evidence_csv(record: EvidenceRecord, path: str | Path) -> Path:
    """A table of all numbers that are not of single prompts, one row a number.

    Args:
        record: The evidence.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: csv_text(CSV_COLUMNS, evidence_rows(record)), path)


def evidence_rows(record: EvidenceRecord) -> Iterator[Row]:
    """Every number that is not of a single prompt."""
    yield from _particle_rows(record)
    yield from _curve_rows(record)
    if record.causal is not None:
        yield from _role_rows(record.causal.by_role, "indirect_effect", "probability")
        yield from _role_rows(record.causal.recovery_by_role, "recovery", "share")
    for one in record.agreements:
        head = {"part": "agreement", "name": f"{one.one} | {one.other}", "n": one.n_units, "note": one.note}
        yield number_row(head, one.method, one.value, "correlation", one.interval) | {"p": one.p, "p_holm": one.p_holm}
    for control in record.controls:
        head = {"part": "control", "name": control.name, "note": control.sentence}
        yield number_row(head, control.measured, control.value, control.unit)
        yield number_row(head, f"{control.measured}, truly", control.true_value, control.unit)
    yield from _dose_rows(record)
    for shares in record.variance:
        for source, share in sorted(shares.shares.items()):
            head = {"part": "variance", "name": shares.of, "n": shares.levels.get(source), "note": shares.note}
            yield number_row(head, source, share, "share")
    yield from _reading_rows(record)


def _particle_rows(record: EvidenceRecord) -> Iterator[Row]:
    for one in record.particles:
        head = {"part": "particle", "lens": one.lens, "criterion": one.criterion, "n": len(one.per_prompt)}
        layer = None if one.layer is None else float(one.layer)
        yield number_row(head, "particle", layer, "layer", one.interval)
        yield number_row(head, "share_found", one.share_found, "share")
        fired, of = one.false_positive_rate, {"n": one.n_random}
        yield number_row(head, "false_positive_rate", fired, "share", one.false_positive_interval) | of


def _by_layer(head: Row, quantity: str, values: np.ndarray, unit: str, first: int = 0) -> Iterator[Row]:
    for layer, value in enumerate(values, start=first):
        yield number_row({**head, "layer": layer}, quantity, float(value), unit)


def _curve_rows(record: EvidenceRecord) -> Iterator[Row]:
    for lens in sorted(record.target_prob):
        head: Row = {"part": "target", "lens": lens}
        yield from _by_layer(head, "target_prob", record.target_prob[lens], "probability", first=-1)
    for effect in record.effects:
        head = {"part": "effect", "name": effect.site, "rows": effect.rows, "n": len(effect.js_bits)}
        yield from _by_layer(head, "js_bits", effect.mean_js_bits, "bits")
    for rows, measures in (("task", record.importance), ("text", record.text_importance)):
        for name in sorted(measures):
            head = {"part": "importance", "name": name, "rows": rows, "n": len(measures[name].values)}
            yield from _by_layer(head, name, measures[name].mean, measures[name].unit)


def _role_rows(effects: RoleEffects, quantity: str, unit: str) -> Iterator[Row]:
    for row, role in enumerate(effects.roles):
        for layer in range(effects.mean.shape[1]):
            head = {"part": "causal", "name": role, "layer": layer, "n": int(effects.n_prompts[row])}
            ends = {"low": float(effects.low[row, layer]), "high": float(effects.high[row, layer])}
            yield number_row(head, quantity, float(effects.mean[row, layer]), unit) | ends


def _dose_rows(record: EvidenceRecord) -> Iterator[Row]:
    for dose in record.doses:
        for number, fraction in enumerate(dose.fractions):
            head: Row = {"part": "dose", "name": dose.site, "note": f"{fraction:g} of the dimensions masked"}
            yield number_row(head, "rank_correlation", float(dose.rank_correlation[number]), "correlation")
            yield from _by_layer(head, "js_bits", dose.js_bits[number], "bits")
        for name in ("without_dominant", "only_dominant"):
            curve = getattr(dose, name)
            if curve is not None:
                yield from _by_layer({"part": "dose", "name": dose.site, "note": name}, "js_bits", curve, "bits")


def _reading_rows(record: EvidenceRecord) -> Iterator[Row]:
    for need in record.prompts_needed:
        head: Row = {"part": "prompts", "name": need.of, "note": need.note}
        yield number_row(head, "prompts_needed", None if need.n_prompts is None else float(need.n_prompts), "prompts")
        for n_prompts, width in sorted(need.measured.items()):
            yield number_row({**head, "n": n_prompts}, "half_width", width, "layers")
    for lens in record.lenses:
        head = {"part": "lens", "lens": lens.lens, "n": lens.n_tokens}
        for name, unit in (("kl_nats", "nats"), ("bias_nats", "nats"), ("top1", "share")):
            yield from _by_layer(head, name, getattr(lens, name), unit, first=-1)
    for probe in record.probes:
        head = {"part": "probe", "name": f"{probe.kind} {probe.k}", "layer": probe.layer, "n": probe.n_test}
        yield number_row(head, "accuracy", probe.accuracy, "share", probe.interval)
        yield number_row(head, "control_accuracy", probe.control_accuracy, "share")
    for name, value in sorted(record.gradient_fidelity.items()):
        yield number_row({"part": "gradient", "name": name}, "fidelity", value, "correlation")
