"""Samples for causal tracing as a model sees them: subjects found, contrasts lent where they are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from layertracer._types import Sample
from layertracer.tasks._lent_contrasts import lend_contrasts, pool_of
from layertracer.tasks._subjects import with_subjects
from layertracer.tasks._task import Task
from layertracer.tasks._tokens.chat_template import ChatFormat
from layertracer.tasks._tokens.encode import EncodedTask, encode_samples
from layertracer.tasks._tokens.known_words import explain_left_out, fit_task
from layertracer.tasks._tokens.tokenizer import Tokenizer


def encode_causally(  # noqa: PLR0913 - settings by name
    given: Task | Sequence[Sample],
    tokenizer: Tokenizer | None,
    *,
    lend: bool = False,
    seed: int = 0,
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
) -> EncodedTask:
    """The samples as the model sees them, each with its subject, its contrast, and the contrast's answer.

    What pairs ask about is the subject of prompts that are made of them. Where contrasts are to be lent, samples
    without one borrow the subject of another fact, see `lend_contrasts`, of the whole task whatever its limit.

    Args:
        given: A task, or samples.
        tokenizer: The model's tokenizer; None if all samples are ids.
        lend: Whether samples without a contrast get one, where another fact has a subject to lend.
        seed: Seed of the choice.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them.
        template_arguments: What else the template is given.

    Raises:
        LayerTracerError: As `encode_samples`.
    """
    settings: dict[str, Any] = {"chat": chat, "system": system, "template_arguments": template_arguments}
    task = None
    samples: Sequence[Sample] = ()
    if isinstance(given, Task):
        chat_format = ChatFormat.of(chat=chat, system=system, arguments=template_arguments)
        task = fit_task(given, tokenizer, chat=chat_format)
        samples = with_subjects(task)
    else:
        samples = tuple(given)
    lent = samples
    if lend and samples:
        pool = pool_of(task, samples) if task is not None else ()
        lent = lend_contrasts(samples, tokenizer, pool=pool, seed=seed, **settings)
    # Of warnings those on following several tokens are left out: here it is always one.
    encoded = encode_samples(lent, tokenizer, causal=True, followed=None, **settings)
    n_lent = sum(one is not other for one, other in zip(lent, samples, strict=True))
    told = (*_tell_of_answers(encoded), *_tell_of_lent(n_lent, len(samples), seed))
    if task is None:
        return replace(encoded, warnings=(*encoded.warnings, *told))
    left_out = explain_left_out(task)
    return replace(encoded, spec=task.spec, left_out=left_out, warnings=(*left_out, *encoded.warnings, *told))


def _tell_of_answers(encoded: EncodedTask) -> tuple[str, ...]:
    """What is said of answers of several tokens."""
    if not encoded.n_multi_token:
        return ()
    return (f"{encoded.n_multi_token} answers have more than one token: the first that says something is followed.",)


def _tell_of_lent(n_lent: int, n: int, seed: int) -> tuple[str, ...]:
    """What is said of contrasts that were lent."""
    if not n_lent:
        return ()
    note = (
        f"{n_lent} of {n} prompts got a contrast: the subject of another fact of the same relation with as many tokens "
        f"and another answer, drawn by seed {seed}."
    )
    return (note,)
