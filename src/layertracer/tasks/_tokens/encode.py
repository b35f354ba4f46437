"""From samples to token ids, everything checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layertracer._types import EncodedAnswer, EncodedSample, Sample, TargetTokens
from layertracer.tasks._task import Task
from layertracer.tasks._tokens.answer_boundary import Cut
from layertracer.tasks._tokens.chat_template import ChatFormat
from layertracer.tasks._tokens.checks import (
    check_answers,
    check_lengths,
    check_need_no_tokenizer,
    check_samples,
    collect_warnings,
)
from layertracer.tasks._tokens.contrasts import add_contrasts
from layertracer.tasks._tokens.known_words import explain_left_out, fit_task
from layertracer.tasks._tokens.tokenize import cut_samples
from layertracer.tasks._tokens.tokenizer import Tokenizer, find_unknown_id


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTask:
    """Samples as the model sees them.

    Attributes:
        samples: The encoded samples, in the order given.
        n_multi_token: Number of answers of more than one token, those not counted that are read with the prompt.
        n_read_ahead: Number of answers that begin with tokens that say nothing of them, white space or pieces of a
            character, and which are read with the prompt.
        n_merged: Number of prompts whose last token would have merged with the answer, and which were cut before it.
        start_token: The tokenizer's own start token, as its vocabulary spells it, if prompts begin with one.
        chat: Whether the prompts stand in the tokenizer's chat template.
        spec: The task's specification, with what was left out for this tokenizer.
        left_out: One sentence for each reason for which pairs or prompts of the task were left out.
        warnings: One sentence for each thing that a user should know, those of `left_out` first.
    """

    samples: tuple[EncodedSample, ...]
    n_multi_token: int
    n_read_ahead: int
    n_merged: int
    start_token: str | None
    chat: bool
    spec: Mapping[str, Any]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def encode_samples(  # noqa: PLR0913 - settings by name
    samples: Task | Iterable[Sample],
    tokenizer: Tokenizer | None,
    *,
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    has_encoder: bool = False,
    followed: TargetTokens | None = "first",
    causal: bool = False,
) -> EncodedTask:
    """Token ids of prompts and answers, with the boundary found by tokenising both together.

    Where an encoder reads the prompt and a decoder writes the answer, the two are no one text and are tokenised apart.

    A task is fitted to the tokenizer first, see `fit_task`: what the model has no token for is left out. Samples that
    are given by themselves all stay, whatever they hold.

    Laws: the order is kept; a prompt's and its answer's ids together are the tokens of prompt + answer; samples given
    as ids come back as they are, and need no tokenizer.

    Args:
        samples: A task, or samples as text or as ids.
        tokenizer: A tokenizer of Hugging Face's kind; None if all samples are ids.
        chat: Whether to put each prompt into the tokenizer's chat template as the user's turn. The answer then opens
            the reply, with the space that the template writes before a reply, if any, instead of its own.
        system: Text of a system's turn before it.
        template_arguments: What else the template is given, e.g. {"enable_thinking": False}.
        max_length: The model's context, in tokens; None where it has no limit.
        has_encoder: Whether the model's encoder reads the prompts.
        followed: Tokens of the answers that are followed: the first, all, or, with None, not any.
        causal: Whether subjects, contrast prompts and their answers are encoded too.

    Returns:
        The encoded samples with counts and warnings.

    Raises:
        EmptyTaskError: If there is no sample, or none is left.
        UsageError: If a text has no tokenizer, or `chat` has no template or no text, or the template cannot be used.
        TaskError: If a prompt is empty or a token id negative.
        AnswerError: If an answer tokenises to nothing, or merges with the whole prompt.
        PromptTooLongError: If a prompt is longer than `max_length`; the message lists all of them.

    Example:
        >>> encode_samples([Sample(prompt_ids=(1, 5, 9), answer_id=7)], None).samples[0].answer_ids
        (7,)
    """
    task = samples if isinstance(samples, Task) else None
    chat_format = ChatFormat.of(chat=chat, system=system, arguments=template_arguments)
    if task is not None:
        samples = task = fit_task(task, tokenizer, chat=chat_format, has_encoder=has_encoder, followed=followed)
    given = tuple(samples)
    check_samples(given)
    if tokenizer is None:
        check_need_no_tokenizer(given)
    cut = cut_samples(given, tokenizer, chat=chat_format, has_encoder=has_encoder)
    check_answers(cut.samples, cut.cuts)
    check_lengths(cut.samples, cut.cuts, max_length=max_length)
    left_out = () if task is None else explain_left_out(task)
    others = [other for cuts in cut.others for other in cuts]
    encoded = tuple(map(_make_encoded, cut.samples, cut.cuts, cut.others))
    if causal:
        encoded = add_contrasts(given, cut, encoded, tokenizer, chat=chat_format)
    noticed = collect_warnings(
        cut.samples, cut.cuts, others=others, chat=chat, unknown_id=find_unknown_id(tokenizer), followed=followed
    )
    return EncodedTask(
        samples=encoded,
        n_multi_token=sum(ids.is_long for ids in (*cut.cuts, *others)),
        n_read_ahead=sum(ids.lead.n_tokens > 0 for ids in cut.cuts),
        n_merged=sum(ids.is_cut_short for ids in cut.cuts),
        start_token=cut.start_token,
        chat=chat,
        spec={"name": "samples", "kind": "samples"} if task is None else task.spec,
        left_out=left_out,
        warnings=(*left_out, *cut.notes, *noticed),
    )


def _make_encoded(sample: Sample, cut: Cut, others: Sequence[Cut]) -> EncodedSample:
    """The sample as the model sees it."""
    return EncodedSample(
        prompt_ids=cut.prompt_ids,
        answer_ids=cut.answer_ids,
        prompt_text=sample.prompt,
        answer_text=cut.answer_text,
        decoder_ids=sample.decoder_ids,
        n_lead=cut.lead.n_tokens,
        n_blank=cut.lead.n_blank,
        others=tuple(
            EncodedAnswer(
                ids=other.answer_ids, n_lead=other.lead.n_tokens, n_blank=other.lead.n_blank, text=other.answer_text
            )
            for other in others
        ),
        demonstration_set=sample.demonstration_set,
        template=sample.template,
    )
