"""From readings to the record: numbers at their places, means by role, intervals, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer.evidence import CausalRecord, LogitDifference, RoleEffects, mean_by_role, mean_interval
from layertracer.measures import Sampling, note_on_curves
from layertracer.tracing import CausalReadings, TracedModel, describe_model, token_texts
from layertracer.validation._causal.clean_run import CleanReading
from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.question import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """The numbers of all samples, in the order given; NaN where there are none."""

    clean_prob: NDArray[np.float32]
    corrupted_prob: NDArray[np.float32]
    restored_prob: NDArray[np.float32]
    difference: LogitDifference | None


def _gather(
    question: Asked, clean: Mapping[int, CleanReading], readings: CausalReadings, *, ran: Sequence[int], n_layers: int
) -> _Numbers:
    """The readings of the prompts that ran, and of others the clean run, at their places."""
    n, longest = len(question.prompts), max(_lengths_shown(question))
    places = [place for place, index in enumerate(ran) if readings.finished[place]]
    done = [ran[place] for place in places]

    def spread(values: Any, before: Mapping[int, float] | None = None, *more: int) -> NDArray[np.float32]:
        found = np.full((n, *more), np.nan, np.float32)
        for index, value in (before or {}).items():
            found[index] = value
        rows = found[:, : values.shape[1], : values.shape[2]] if more else found
        rows[done] = values[places]
        return found

    def log_mean_exp(values: Any) -> Any:
        return np.exp(values.astype(np.float64)).mean(axis=1)

    def probs(values: Any) -> Any:
        return np.minimum(np.exp(values.astype(np.float64)), 1.0)

    first = {index: float(np.exp(one.log_prob)) for index, one in clean.items()}
    shape = (n_layers, longest)
    difference = None
    if any(prompt.contrast_answers for prompt in question.prompts):
        own = {index: one.log_prob - one.contrast_log_prob for index, one in clean.items()}
        difference = LogitDifference(
            clean=spread(readings.clean_log_prob - readings.clean_contrast_log_prob, own),
            corrupted=spread((readings.corrupted_log_prob - readings.corrupted_contrast_log_prob).mean(axis=1)),
            restored=spread(readings.restored_difference, None, *shape),
        )
    return _Numbers(
        clean_prob=spread(probs(readings.clean_log_prob), first),
        corrupted_prob=spread(log_mean_exp(readings.corrupted_log_prob)),
        restored_prob=spread(readings.restored_prob, None, *shape),
        difference=difference,
    )


def _lengths_shown(question: Asked) -> list[int]:
    """Lengths of the prompts, those left aside that are longer than the model's context."""
    too_long = {index for index, one in question.excluded.items() if one.reason == "too_long"}
    return [len(prompt.ids) for prompt in question.prompts if prompt.index not in too_long]


def _exclude_after(
    question: Asked, numbers: _Numbers, readings: CausalReadings, ran: Sequence[int], least: float
) -> None:
    """Leave out prompts that corruption hardly moves, and those that were not finished."""
    for place, index in enumerate(ran):
        if not readings.finished[place]:
            question.exclude(index, "unfinished", "tracing was interrupted before this prompt")
            continue
        clean, corrupted = float(numbers.clean_prob[index]), float(numbers.corrupted_prob[index])
        if not readings.is_patched[place]:
            question.exclude(
                index,
                "small_effect",
                f"clean {clean:.3g} and corrupted {corrupted:.3g} differ by {abs(clean - corrupted):.2g}, less than "
                f"{least:g}",
            )


def build_record(
    model: TracedModel,
    question: Asked,
    clean: Mapping[int, CleanReading],
    readings: CausalReadings,
    *,
    settings: CausalSettings,
) -> CausalRecord:
    """The record of everything that was found; prompts that came to nothing are left out in `question`, too.

    Args:
        model: The model.
        question: The samples.
        clean: What the model said to the clean prompts, by their numbers.
        readings: The runs of those that could be used then.
        settings: What was asked.
    """
    ran = [prompt.index for prompt in question.usable]
    facts = _facts_of(model)
    numbers = _gather(question, clean, readings, ran=ran, n_layers=facts["n_layers"])
    _exclude_after(question, numbers, readings, ran, settings.min_total_effect)
    record = CausalRecord(
        model=facts,
        corrupt=settings.corrupt,
        direction=settings.direction,
        site=settings.site,
        window=settings.window,
        n_draws=settings.n_draws,
        noise_scale=settings.noise_scale if settings.corrupt == "noise" else None,
        noise_std=readings.noise_std,
        seed=settings.seed,
        clean_prob=numbers.clean_prob,
        corrupted_prob=numbers.corrupted_prob,
        restored_prob=numbers.restored_prob,
        logit_difference=numbers.difference,
        subject_spans=np.array([prompt.span or (-1, -1) for prompt in question.prompts], np.int64),
        lengths=np.array([len(prompt.ids) for prompt in question.prompts], np.int64),
        token_texts=_texts(model, question),
        excluded=tuple(question.excluded[index] for index in sorted(question.excluded)),
        by_role=_no_effects(facts["n_layers"]),
        recovery_by_role=_no_effects(facts["n_layers"]),
        total_effect_interval=None,
        audit=readings.audit,
        method=readings.method,
        provenance={},
        spec={"task": dict(question.spec), **settings.to_spec(), "units": question.units},
        notes=(*question.notes, *readings.notes, *_notes_on_units(question)),
    )
    return _with_means(record, question, seed=settings.seed)


def _facts_of(model: TracedModel) -> dict[str, Any]:
    """What is known of the model."""
    description = describe_model(model)
    names = ("name", "n_layers", "fingerprint", "class_name", "revision", "n_parameters", "dtype", "device")
    facts: dict[str, Any] = {name: getattr(description, name) for name in names}
    return {**facts, "mixers": [layer.mixer for layer in description.layers]}


def _no_effects(n_layers: int) -> RoleEffects:
    """No role."""
    empty = np.empty((0, n_layers))
    return RoleEffects(roles=(), mean=empty, low=empty, high=empty, n_prompts=np.empty(0, np.int64))


def _with_means(record: CausalRecord, question: Asked, *, seed: int) -> CausalRecord:
    """The record with means by role and their intervals, over the prompts that were used."""
    places: dict[str, Any] = {"units": question.units, "seed": seed}
    used = np.array([index not in question.excluded for index in range(len(question.prompts))])
    total = np.where(used, record.total_effect, np.nan)
    return replace(
        record,
        by_role=mean_by_role(
            record.indirect_effect, record.subject_spans, record.lengths, bounds=(-1.0, 1.0), **places
        ),
        recovery_by_role=mean_by_role(record.recovery, record.subject_spans, record.lengths, **places),
        total_effect_interval=mean_interval(total, bounds=(-1.0, 1.0), **places),
    )


def _texts(model: TracedModel, question: Asked) -> tuple[tuple[str, ...], ...]:
    """The text of every token of every prompt; nothing without a tokenizer."""
    if model.tokenizer is None:
        return ()
    texts = token_texts(model.tokenizer, sorted({token for prompt in question.prompts for token in prompt.ids}))
    return tuple(tuple(texts[token] for token in prompt.ids) for prompt in question.prompts)


def _notes_on_units(question: Asked) -> tuple[str, ...]:
    """What must be said of the intervals: copies that count once, and too few prompts."""
    used = [prompt.index for prompt in question.usable]
    units = question.units
    own = None if units is None else tuple(units[index] for index in used)
    notes = []
    sets = {sample.demonstration_set for sample in question.samples}
    if own is not None and len(set(own)) < len(own):
        what = "sets of demonstrations" if len(sets) > 1 else "different prompts"
        notes.append(f"The {len(own)} prompts are of {len(set(own))} {what}: intervals resample these.")
    # Copies of one prompt are one prompt, and no set of demonstrations.
    n, sampling = (len(used), Sampling(units=own)) if len(sets) > 1 else (len(set(own or used)), Sampling())
    few = note_on_curves(n, replace(sampling, draws="given")) if used else None
    if few is not None:
        notes.append(f"No intervals: {few}.")
    return tuple(notes)
