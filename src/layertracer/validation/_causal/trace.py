"""Causal tracing from samples to a record: what can be used, the runs, roles, intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from layertracer._errors import SiteError, TaskError
from layertracer._types import Sample
from layertracer.evidence import CausalRecord
from layertracer.runs import collect_provenance
from layertracer.tasks import Task
from layertracer.tracing import (
    CausalInterrupted,
    CausalOptions,
    CausalPrompt,
    CausalReadings,
    Progress,
    TracedModel,
    run_causal,
    token_texts,
)
from layertracer.validation._causal.clean_run import CleanPrompt, CleanReading, read_clean
from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.question import Asked, AskedPrompt, ask
from layertracer.validation._causal.record import build_record


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
    record = build_record(model, question, clean, readings, settings=settings)
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
    # Contrasts that are there are of no use to noise, which needs to know where.
    have_contrasts = counts["no_subject"] and any(sample.contrast_ids is not None for sample in question.samples)
    swap = " These samples have contrast prompts: run those instead (corrupt='swap', --corrupt swap)."
    raise TaskError(
        f"None of {len(question.prompts)} samples can be traced causally: {listed}. Give prompts that the model "
        f"answers, with a subject that stands in them or a contrast of as many tokens.{swap if have_contrasts else ''}"
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
