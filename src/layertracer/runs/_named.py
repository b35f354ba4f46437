"""What a record holds by name, made to fit it: effects, layer measures, lenses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import LayerMeasure, refuse_reserved
from layertracer.runs._context import RecordContext
from layertracer.runs._effects import DOMINANT_AXES, EffectRecord, effect_keys
from layertracer.runs._equality import same_values
from layertracer.runs._lens_records import LensRecord

if TYPE_CHECKING:
    from layertracer.runs._record import TraceRecord
else:  # under test, annotations are looked up when a function is called
    TraceRecord = object


_OWN = ("js_bits", *DOMINANT_AXES)
"""Arrays of a record that its first effect shares."""


def context_of(record: TraceRecord) -> RecordContext:
    """What the effects and lenses of a record must know of it."""
    has_one = np.array([not prompt.other_answer_ids for prompt in record.prompts], dtype=bool)
    last = record.target_log_prob[:, -1] if record.n_layers else np.full(record.n_prompts, np.nan)
    return RecordContext(
        onset=record.spec.onset,
        seed=record.spec.seed,
        units=record.sampling.units,
        clean_log_prob=np.where(has_one, last, np.nan).astype(np.float64),
        own={name: getattr(record, name) for name in _OWN},
        by_prompt=record.certificate is not None,
    )


def gather_effects(record: TraceRecord, context: RecordContext) -> dict[str, EffectRecord]:
    """The effects of a record, by their keys.

    The first one has the record's own `js_bits` and `dominant_*`: these are what is changed where a record is copied
    with other numbers, and what else it measured stays. One that was changed itself must say the same as they do.

    Raises:
        UsageError: If there is not one for each perturbation, or one does not fit or contradicts the record.
    """
    perturbations = record.spec.perturbations
    given = list(record.effects.values())
    if not given and len(perturbations) == 1:
        given = [_from_arrays(record, {})]
    if len(given) != len(perturbations):
        raise UsageError(
            f"effects holds {len(given)} effects, and spec has {len(perturbations)} perturbations. Give one effect for "
            "each of them, in their order."
        )
    _check_first(record, given[0], context)
    given[0] = _from_arrays(record, given[0].infos, given[0].rows)
    keys = effect_keys(perturbations)
    if len(set(keys)) < len(keys):
        raise UsageError(
            f"Two perturbations of one trace would be called alike: {', '.join(keys)}. Give sites names without '#'."
        )
    found = {}
    for key, asked, effect in zip(keys, perturbations, given, strict=True):
        _check_effect(record, effect, asked, given[0])
        found[key] = dataclasses.replace(effect, key=key, context=context)
    return found


def _from_arrays(record: TraceRecord, infos: Mapping[str, Any], rows: Mapping[str, np.ndarray] = {}) -> EffectRecord:
    """The first effect, of the record's own arrays."""
    return EffectRecord(
        key=effect_keys([record.spec.perturbation])[0],
        perturbation=record.spec.perturbation,
        rows={**rows, "js_bits": record.js_bits},
        infos=infos,
        **{name: getattr(record, name) for name in DOMINANT_AXES},
    )


def _check_first(record: TraceRecord, effect: EffectRecord, context: RecordContext) -> None:
    """Refuse a first effect of which something would be lost, or mixed with another trace's."""
    known = effect.context
    others = [name for name in _OWN if not same_values(_own_of(effect, name), context.own[name])]
    changed = [name for name in others if known is None or not same_values(_own_of(effect, name), known.own[name])]
    is_of_other = known is not None and not same_values(known.clean_log_prob, context.clean_log_prob)
    has_more = len(effect.rows) > 1
    if dict(effect.perturbation) != dict(record.spec.perturbation) and (changed or has_more or is_of_other):
        raise _misplaced(effect)
    if changed:
        raise UsageError(
            f"{changed[0]} of the effect {effect.key!r} is not that of the record, and both stand for the first "
            f"perturbation. Give the same array as {changed[0]}= too, or leave the effect as it was."
        )
    if others and is_of_other and has_more:
        raise UsageError(
            f"The effect {effect.key!r} is of another trace: neither its {others[0]} nor the target's log-probability "
            "in the clean output are those of this record. Give effects with the numbers that they were measured "
            "beside."
        )


def _own_of(effect: EffectRecord, name: str) -> np.ndarray:
    return effect.js_bits if name == "js_bits" else np.asarray(getattr(effect, name))


def _misplaced(effect: EffectRecord) -> UsageError:
    return UsageError(
        f"The effect {effect.key!r} is of another perturbation than the one at its place in spec. Give the effects "
        "in the order of spec.perturbation and spec.further_perturbations."
    )


def _check_effect(record: TraceRecord, effect: EffectRecord, asked: Mapping[str, Any], first: EffectRecord) -> None:
    if dict(effect.perturbation) != dict(asked):
        raise _misplaced(effect)
    if effect.infos != first.infos:
        raise UsageError(
            f"The effect {effect.key!r} has the row measures {', '.join(effect.infos)}, and {first.key!r} has "
            f"{', '.join(first.infos)}. Measure the same of every perturbation of a trace."
        )
    n_prompts, _, n_layers = effect.js_bits.shape
    if (n_prompts, n_layers) != (record.n_prompts, record.n_layers):
        raise UsageError(
            f"js_bits of the effect {effect.key!r} has shape {list(effect.js_bits.shape)}, this record needs "
            f"[{record.n_prompts}, draw, {record.n_layers}]: one row per finished prompt and one column per layer."
        )


def gather_measures(record: TraceRecord) -> dict[str, LayerMeasure]:
    """The layer measures of a record, by their names.

    Raises:
        UsageError: If one has another name, or the name of something else, or does not fit.
    """
    for name, measure in record.measures.items():
        if name != measure.name:
            raise UsageError(f"measures holds {measure.name!r} under the name {name!r}. Use its own name as the key.")
        refuse_reserved("layer measure", name)
        if any(name in effect.rows for effect in record.effects.values()):
            raise UsageError(
                f"A layer measure and a row measure of this trace are both called {name!r}. Give each a name of its "
                "own."
            )
        _check_rows(record, measure.values.shape, f"The layer measure {name!r}")
    return dict(record.measures)


def gather_lenses(record: TraceRecord, context: RecordContext) -> dict[str, LensRecord]:
    """The lenses of a record, by their names.

    Raises:
        UsageError: If one has another name, does not fit, or was not asked for, or one that was is not there.
    """
    for name, lens in record.lenses.items():
        if name != lens.name:
            raise UsageError(f"lenses holds {lens.name!r} under the name {name!r}. Use its own name as the key.")
        _check_rows(record, lens.target_rank.shape, f"The lens {name!r}")
        if lens.top_ids.shape != record.top_ids.shape:
            raise UsageError(
                f"top_ids of the lens {name!r} has shape {list(lens.top_ids.shape)}, this record needs "
                f"{list(record.top_ids.shape)}: as many tokens as the logit lens keeps."
            )
    if set(record.lenses) != set(record.spec.lenses):
        raise UsageError(
            f"lenses holds {', '.join(record.lenses) or 'none'}, and spec.lenses names "
            f"{', '.join(record.spec.lenses) or 'none'}. Give a spec that names the lenses of the record."
        )
    return {name: dataclasses.replace(lens, context=context) for name, lens in record.lenses.items()}


def _check_rows(record: TraceRecord, shape: tuple[int, ...], what: str) -> None:
    if shape != (record.n_prompts, record.n_layers):
        raise UsageError(
            f"{what} has values of shape {list(shape)}, this record needs {[record.n_prompts, record.n_layers]} "
            "([prompt, layer]). Every array has one row per finished prompt and one column per layer of the model."
        )


def columns_of(record: TraceRecord) -> dict[str, Any]:
    """The columns of a data frame of one row per prompt and layer."""
    prompts, layers = np.indices((record.n_prompts, record.n_layers), dtype=np.int32)
    return {
        "prompt": prompts.ravel(),
        "layer": layers.ravel(),
        "mixer": [layer.mixer for layer in record.model.layers] * record.n_prompts,
        "target_prob": record.target_prob.ravel(),
        "target_log_prob": record.target_log_prob.ravel(),
        "target_rank": record.target_rank.ravel(),
        "entropy_bits": record.entropy_bits.ravel(),
        "js_bits": record.js_bits.mean(axis=1).ravel(),
        **{name: values.ravel() for name, values in _further_columns(record)},
    }


def _further_columns(record: TraceRecord) -> Iterator[tuple[str, np.ndarray]]:
    for name, measure in record.measures.items():
        yield name, measure.values
    for number, (key, effect) in enumerate(record.effects.items()):
        prefix = f"{key}." if number else ""
        for name, rows in effect.rows.items():
            if name == "target_log_prob":
                yield f"{prefix}target_log_prob_loss", np.asarray(effect.target_log_prob_loss).mean(axis=1)
            elif number or name != "js_bits":
                yield f"{prefix}{name}", rows.mean(axis=1)
    for name, lens in record.lenses.items():
        yield f"{name}.target_prob", lens.target_prob
        yield f"{name}.target_rank", lens.target_rank
        yield f"{name}.entropy_bits", lens.entropy_bits
