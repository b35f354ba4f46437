"""Causal tracing from samples to a record: what can be used, the runs, roles, intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import SiteError, TaskError
from layertracer._types import Sample
from layertracer.evidence import CausalRecord, LogitDifference, RoleEffects, mean_by_role, mean_interval
from layertracer.measures import Sampling, note_on_curves
from layertracer.runs import collect_provenance
from layertracer.tasks import Task
from layertracer.tracing import (
    CausalInterrupted,
    CausalOptions,
    CausalPrompt,
    CausalReadings,
    Progress,
    TracedModel,
    describe_model,
    run_causal,
    token_texts,
)
from layertracer.validation._causal.clean_run import CleanPrompt, CleanReading, read_clean
from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.question import Asked, AskedPrompt, ask


class CausalTraceInterrupted(KeyboardInterrupt):
    """Causal tracing that was stopped by hand.

    Attributes:
        record: What was finished; the other prompts are listed in `excluded`.
    """

    def __init__(self, record: CausalRecord) -> None:
        n_done = len(record.lengths) - sum(one.reason == "unfinished" for one in record.excluded)
        super().__init__(f"interrupted after {n_done} of {len(record.lengths)} prompts")
        self.record = record


def trace_causally(
    model: TracedModel,
    samples: Task | Sequence[Sample],
    settings: CausalSettings | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    command: Sequence[str] | None = None,
    **asked: Any,
) -> CausalRecord:
    """What is restored, or disrupted, by putting the values of one run into another, at every layer and position.

    Samples that cannot be used are listed in `excluded` with the reason; their rows have no numbers in
    `restored_prob`.

    Laws: the same samples and seed give the same record, up to rounding; the prompts come back in the order given.

    Args:
        model: The model.
        samples: A task, or samples with subjects (noise) or contrasts (swap).
        settings: What is corrupted and how; the default where left out.
        on_progress: Called whenever cells were measured.
        command: The command line, for the provenance.
        **asked: Fields of `CausalSettings` by name, instead of `settings`.

    Raises:
        SiteError: If the model reads with an encoder, or no layer has the site.
        TaskError: If no sample can be used; the message counts the reasons.
        UsageError: If a setting is out of range.
        NonFiniteError: If the model's output is NaN.
        OutOfMemoryError: If not even one prompt fits.
        CausalTraceInterrupted: On Ctrl-C; carries what was finished.
    """
    settings, started_at = settings or CausalSettings(**asked), datetime.now(UTC)
    if model.network.call.has_encoder:
        raise SiteError(
            f"{model.name!r} reads prompts with an encoder, and causal tracing patches the layers of one stack. Give a "
            "decoder-only model."
        )
    question = ask(model, samples, settings)
    clean = _read_clean(model, question)
    _exclude_unsolved(question, clean, model)
    _refuse_none(question)
    readings, was_interrupted = _run(model, question, settings, on_progress)
    record = _build(model, question, clean, readings, settings=settings)
    record = replace(record, provenance=collect_provenance(command=command, started_at=started_at))
    if was_interrupted:
        raise CausalTraceInterrupted(record)
    _refuse_none(question)
    return record


def _read_clean(model: TracedModel, question: Asked) -> dict[int, CleanReading]:
    """What the model says to the clean prompts that can be used, by their numbers."""
    prompts = question.usable
    asked = [CleanPrompt(ids=one.ids, answers=one.answers, contrast_answers=one.contrast_answers) for one in prompts]
    return dict(zip((prompt.index for prompt in prompts), read_clean(model, asked), strict=True))


def _exclude_unsolved(question: Asked, clean: Mapping[int, CleanReading], model: TracedModel) -> None:
    """Leave out prompts that the model does not solve, with its probabilities."""
    tokens = {reading.top_id for reading in clean.values()}
    said = token_texts(model.tokenizer, sorted(tokens))
    for prompt in question.usable:
        reading = clean[prompt.index]
        prob, other = np.exp(reading.log_prob), np.exp(reading.contrast_log_prob)
        if prompt.contrast_answers and not prob > other:
            question.exclude(
                prompt.index,
                "unsolved",
                f"P(answer) is {prob:.3g}, not above P(contrast answer), {other:.3g}, on the clean prompt",
            )
        elif not prompt.contrast_answers and reading.top_id not in prompt.answers:
            question.exclude(
                prompt.index,
                "unsolved",
                f"the model's top token is {said[reading.top_id]!r} with {np.exp(reading.top_log_prob):.3g}; the "
                f"answer has {prob:.3g}",
            )


def _refuse_none(question: Asked) -> None:
    """Raise where no sample is left.

    Raises:
        TaskError: The message counts the reasons, and shows an example of each.
    """
    if question.usable:
        return
    counts = Counter(one.reason for one in question.excluded.values())
    examples = {one.reason: one for one in reversed(question.excluded.values())}
    listed = "; ".join(
        f"{n} {reason} (sample {examples[reason].prompt}: {examples[reason].explanation})"
        for reason, n in counts.most_common()
    )
    raise TaskError(
        f"None of {len(question.prompts)} samples can be traced causally: {listed}. Give prompts that the model "
        "answers, with a subject that stands in them or a contrast of as many tokens."
    )


def _run(
    model: TracedModel,
    question: Asked,
    settings: CausalSettings,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[CausalReadings, bool]:
    """The runs of all prompts that can be used; whether they were stopped by hand."""
    prompts = [_prompt_of(prompt) for prompt in question.usable]
    options = CausalOptions(
        corrupt=settings.corrupt,  # type: ignore[arg-type]  # looked at before
        direction=settings.direction,  # type: ignore[arg-type]
        site=settings.site,
        window=settings.window,
        draws=settings.n_draws,
        noise_scale=settings.noise_scale,
        seed=settings.seed,
        audit=settings.audit,
        memory=settings.memory,
    )

    def tell(n_done: int, n_total: int) -> None:
        if on_progress is not None:
            on_progress(Progress(n_done, n_total, "patching"))

    try:
        found = run_causal(model, prompts, options, min_total_effect=settings.min_total_effect, on_progress=tell)
    except CausalInterrupted as stop:
        return stop.readings, True
    return found, False


def _prompt_of(prompt: AskedPrompt) -> CausalPrompt:
    assert prompt.span is not None  # else it is excluded
    return CausalPrompt(
        index=prompt.index,
        ids=prompt.ids,
        corrupted_ids=prompt.corrupted_ids,
        span=prompt.span,
        answers=prompt.answers,
        contrast_answers=prompt.contrast_answers,
    )


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


def _build(
    model: TracedModel,
    question: Asked,
    clean: Mapping[int, CleanReading],
    readings: CausalReadings,
    *,
    settings: CausalSettings,
) -> CausalRecord:
    """The record of everything that was found."""
    description = describe_model(model)
    ran = [prompt.index for prompt in question.usable]
    numbers = _gather(question, clean, readings, ran=ran, n_layers=description.n_layers)
    _exclude_after(question, numbers, readings, ran, settings.min_total_effect)
    nothing = RoleEffects(
        roles=(),
        mean=np.empty((0, description.n_layers)),
        low=np.empty((0, description.n_layers)),
        high=np.empty((0, description.n_layers)),
        n_prompts=np.empty(0, np.int64),
    )
    record = CausalRecord(
        model={
            "name": model.name,
            "n_layers": description.n_layers,
            "mixers": [layer.mixer for layer in description.layers],
            "fingerprint": description.fingerprint,
            "class_name": description.class_name,
            "revision": description.revision,
            "n_parameters": description.n_parameters,
            "dtype": description.dtype,
            "device": description.device,
        },
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
        by_role=nothing,
        recovery_by_role=nothing,
        total_effect_interval=None,
        audit=readings.audit,
        method=readings.method,
        provenance={},
        spec={"task": dict(question.spec), **settings.to_spec(), "units": question.units},
        notes=(*question.notes, *readings.notes, *_notes_on_units(question)),
    )
    return _with_means(record, question, seed=settings.seed)


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
    few = note_on_curves(len(used), Sampling(units=own, draws="given")) if used else None
    if few is not None:
        notes.append(f"No intervals: {few}.")
    return tuple(notes)
