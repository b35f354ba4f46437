"""Contrast prompts and their answers as token ids, beside those of the prompts themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from layertracer._types import EncodedAnswer, EncodedSample, Sample
from layertracer.tasks._tokens.answer_boundary import Cut
from layertracer.tasks._tokens.chat_template import ChatFormat
from layertracer.tasks._tokens.subjects import find_subject_spans
from layertracer.tasks._tokens.tokenize import CutSamples, cut_samples
from layertracer.tasks._tokens.tokenizer import Tokenizer

_Cutter: TypeAlias = Callable[[Sequence[Sample]], Sequence[Cut]]


def add_contrasts(
    given: Sequence[Sample],
    cut: CutSamples,
    encoded: Sequence[EncodedSample],
    tokenizer: Tokenizer | None,
    *,
    chat: ChatFormat | None,
) -> tuple[EncodedSample, ...]:
    """The samples with the tokens of their subjects, their contrast prompts, and the answers of these.

    A contrast prompt is tokenised with the sample's own answer behind it, so that both are cut alike. The contrast's
    answer is tokenised behind the sample's own prompt, where its probability is compared; its ids are empty where the
    tokenizer merges it with the prompt, so that it cannot be compared there.

    Args:
        given: The samples as they were given.
        cut: Their ids.
        encoded: The same as samples.
        tokenizer: The tokenizer; None if all samples are ids.
        chat: How prompts are put into the tokenizer's chat template; None where they are not.
    """

    def cutting(samples: Sequence[Sample]) -> Sequence[Cut]:
        return cut_samples(samples, tokenizer, chat=chat, has_encoder=False).cuts if samples else ()

    spans = find_subject_spans(given, cut.samples, cut.cuts, tokenizer, add_special_tokens=chat is None)
    contrasts = _encode_contrasts(given, encoded, cutting)
    answers = _encode_answers(given, encoded, cutting)
    return tuple(
        replace(sample, subject_span=span, contrast_ids=contrast, contrast_answer=answer)
        for sample, span, contrast, answer in zip(encoded, spans, contrasts, answers, strict=True)
    )


def read_ids(sample: EncodedSample) -> tuple[int, ...]:
    """What is read before the token that is followed."""
    return sample.prompt_ids + sample.answer_ids[: sample.n_lead]


def _encode_contrasts(
    given: Sequence[Sample], encoded: Sequence[EncodedSample], cutting: _Cutter
) -> list[tuple[int, ...] | None]:
    """The tokens of every contrast prompt up to where the followed token stands; None where there is none."""
    texts = [i for i, sample in enumerate(given) if sample.contrast is not None]
    cuts = iter(cutting([_without_causal(given[i], prompt=given[i].contrast) for i in texts]))
    found = {i: cut.prompt_ids + cut.answer_ids[: cut.lead.n_tokens] for i, cut in zip(texts, cuts, strict=True)}
    for i, sample in enumerate(given):
        if sample.contrast_ids is not None:
            found[i] = sample.contrast_ids + encoded[i].answer_ids[: encoded[i].n_lead]
    return [found.get(i) for i in range(len(given))]


def _encode_answers(
    given: Sequence[Sample], encoded: Sequence[EncodedSample], cutting: _Cutter
) -> list[EncodedAnswer | None]:
    """The answer of every contrast behind the sample's own prompt; None where there is none."""
    texts = [i for i, sample in enumerate(given) if sample.contrast_answer is not None]
    cuts = iter(cutting([_without_causal(given[i], answer=given[i].contrast_answer) for i in texts]))
    found = {i: _behind(encoded[i], cut) for i, cut in zip(texts, cuts, strict=True)}
    for i, sample in enumerate(given):
        if sample.contrast_answer_id is not None:
            lead = encoded[i].answer_ids[: encoded[i].n_lead]
            ids = (*lead, sample.contrast_answer_id)
            found[i] = EncodedAnswer(ids=ids, n_lead=len(lead), n_blank=encoded[i].n_blank)
    return [found.get(i) for i in range(len(given))]


def _behind(sample: EncodedSample, cut: Cut) -> EncodedAnswer:
    """An answer that was tokenised with a sample's prompt, as it stands behind the sample's own tokens."""
    whole, n_prompt = cut.prompt_ids + cut.answer_ids, len(sample.prompt_ids)
    if whole[:n_prompt] != sample.prompt_ids:
        return EncodedAnswer(ids=(), text=cut.answer_text)
    n_lead = len(cut.prompt_ids) + cut.lead.n_tokens - n_prompt
    if n_lead < 0:
        return EncodedAnswer(ids=(), text=cut.answer_text)
    return EncodedAnswer(ids=whole[n_prompt:], n_lead=n_lead, n_blank=cut.lead.n_blank, text=cut.answer_text)


def _without_causal(sample: Sample, *, prompt: str | None = None, answer: str | None = None) -> Sample:
    """The sample's prompt and answers alone, or with another prompt or answer."""
    is_text = sample.prompt is not None
    others = sample.answers if answer is None else None
    return Sample(
        prompt=(sample.prompt if prompt is None else prompt) if is_text else None,
        prompt_ids=None if is_text else sample.prompt_ids,
        answer=sample.answer if answer is None else answer,
        answers=others,
        answer_id=sample.answer_id if answer is None else None,
        answer_ids=sample.answer_ids if answer is None else None,
    )
