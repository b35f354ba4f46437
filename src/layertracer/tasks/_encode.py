"""From samples to token ids, everything checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from layertracer._errors import UsageError
from layertracer._types import EncodedSample, Sample
from layertracer.tasks._boundary import Cut, cut_texts
from layertracer.tasks._checks import check_answers, check_lengths, check_samples, collect_warnings, name_samples
from layertracer.tasks._tokenizer import Tokenizer, tokenize_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTask:
    """Samples as the model sees them.

    Attributes:
        samples: The encoded samples, in the order given.
        n_multi_token: Number of answers of more than one token.
        n_merged: Number of prompts whose last token would have merged with the answer, and which were cut before it.
        start_token: The tokenizer's own start token, as its vocabulary spells it, if prompts begin with one.
        chat: Whether the prompts stand in the tokenizer's chat template.
        warnings: One sentence for each thing that a user should know.
    """

    samples: tuple[EncodedSample, ...]
    n_multi_token: int
    n_merged: int
    start_token: str | None
    chat: bool
    warnings: tuple[str, ...]


def encode_samples(
    samples: Iterable[Sample],
    tokenizer: Tokenizer | None,
    *,
    chat: bool = False,
    max_length: int | None = None,
    has_encoder: bool = False,
) -> EncodedTask:
    """Token ids of prompts and answers, with the boundary found by tokenising both together.

    Where an encoder reads the prompt and a decoder writes the answer, the two are no one text and are tokenised apart.

    Laws: the order is kept; a prompt's and its answer's ids together are the tokens of prompt + answer; samples given
    as ids come back as they are, and need no tokenizer.

    Args:
        samples: Samples as text or as ids.
        tokenizer: A tokenizer of Hugging Face's kind; None if all samples are ids.
        chat: Whether to put each prompt into the tokenizer's chat template as the user's turn. The answer then opens
            the reply, without its leading space.
        max_length: The model's context, in tokens; None where it has no limit.
        has_encoder: Whether the model's encoder reads the prompts.

    Returns:
        The encoded samples with counts and warnings.

    Raises:
        EmptyTaskError: If there is no sample.
        UsageError: If a text has no tokenizer, or `chat` has no template or no text.
        TaskError: If a prompt is empty or a token id negative.
        AnswerError: If an answer tokenises to nothing, or merges with the whole prompt.
        PromptTooLongError: If a prompt is longer than `max_length`; the message lists all of them.

    Example:
        >>> encode_samples([Sample(prompt_ids=(1, 5, 9), answer_id=7)], None).samples[0].answer_ids
        (7,)
    """
    given = tuple(samples)
    check_samples(given)
    texts = [index for index, sample in enumerate(given) if sample.prompt is not None or sample.answer is not None]
    if tokenizer is None:
        if texts:
            raise UsageError(
                f"{name_samples(given, texts)}: text needs a tokenizer, and there is none. Give a tokenizer, or "
                f"samples of token ids such as Sample(prompt_ids=(1, 5, 9), answer_id=7)."
            )
        cuts, start_token = [_cut_ids(sample) for sample in given], None
    else:
        rendered = _apply_chat_template(given, tokenizer) if chat else given
        cuts, start_token = _cut_samples(rendered, tokenizer, add_special_tokens=not chat, apart=has_encoder)
        given = rendered
    check_answers(given, cuts)
    check_lengths(given, cuts, max_length=max_length)
    return EncodedTask(
        samples=tuple(_make_encoded(sample, cut) for sample, cut in zip(given, cuts, strict=True)),
        n_multi_token=sum(len(cut.answer_ids) > 1 for cut in cuts),
        n_merged=sum(cut.is_merged for cut in cuts),
        start_token=start_token,
        chat=chat,
        warnings=collect_warnings(given, cuts, chat=chat, unknown_id=getattr(tokenizer, "unk_token_id", None)),
    )


def _apply_chat_template(samples: Sequence[Sample], tokenizer: Tokenizer) -> tuple[Sample, ...]:
    """The samples with their prompts as a user's turn, up to where the reply begins."""
    ids_only = [index for index, sample in enumerate(samples) if sample.prompt is None]
    if ids_only:
        raise UsageError(
            f"{name_samples(samples, ids_only)}: chat=True needs prompts as text, got token ids. Put the chat "
            f"template's tokens into the ids, and leave chat out."
        )
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"chat=True needs a chat template, and this tokenizer ({type(tokenizer).__name__}) has none. Leave chat "
            f"out, or set tokenizer.chat_template."
        )
    return tuple(_render_chat(sample, tokenizer) for sample in samples)


def _render_chat(sample: Sample, tokenizer: Tokenizer) -> Sample:
    """One prompt in the chat template."""
    conversation = [{"role": "user", "content": str(sample.prompt)}]
    rendered = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    return replace(sample, prompt=str(rendered), answer=None if sample.answer is None else sample.answer.lstrip())


def _cut_samples(
    samples: Sequence[Sample], tokenizer: Tokenizer, *, add_special_tokens: bool, apart: bool
) -> tuple[list[Cut], str | None]:
    """Every sample as prompt and answer ids, and the start token of the texts."""
    joint = [
        i for i, sample in enumerate(samples) if sample.prompt is not None and sample.decoder_ids is None and not apart
    ]
    texts = cut_texts(
        [str(samples[i].prompt) for i in joint],
        [samples[i].answer for i in joint],
        tokenizer=tokenizer,
        add_special_tokens=add_special_tokens,
    )
    cut_of = dict(zip(joint, texts.cuts, strict=True))
    cuts = [
        _with_answer_id(cut_of[i], sample) if i in cut_of else _cut_apart(sample, tokenizer, add_special_tokens)
        for i, sample in enumerate(samples)
    ]
    start_ids = texts.start_ids
    if not add_special_tokens and texts.cuts and texts.cuts[0].prompt_ids:
        # A chat template writes the start token itself.
        start_ids = tuple(i for i in texts.cuts[0].prompt_ids[:1] if i == getattr(tokenizer, "bos_token_id", None))
    return cuts, "".join(tokenizer.convert_ids_to_tokens(list(start_ids))) if start_ids else None


def _cut_apart(sample: Sample, tokenizer: Tokenizer, add_special_tokens: bool) -> Cut:
    """A sample whose prompt and answer are no one text: ids on one side, or an encoder's prompt with its end token."""
    cut = _cut_ids(sample)
    if sample.prompt is not None:
        prompt_ids = tokenize_texts(tokenizer, [sample.prompt], add_special_tokens=add_special_tokens)[0]
        cut = replace(cut, prompt_ids=prompt_ids)
    if sample.answer is not None:
        cut = replace(cut, answer_ids=tokenize_texts(tokenizer, [sample.answer], add_special_tokens=False)[0])
    return cut


def _cut_ids(sample: Sample) -> Cut:
    """What of a sample is given as ids."""
    answer_ids = () if sample.answer_id is None else (int(sample.answer_id),)
    return Cut(prompt_ids=sample.prompt_ids or (), answer_ids=answer_ids, is_merged=False)


def _with_answer_id(cut: Cut, sample: Sample) -> Cut:
    """The cut of a text prompt, with the answer's id where the answer is one."""
    return cut if sample.answer_id is None else replace(cut, answer_ids=(int(sample.answer_id),))


def _make_encoded(sample: Sample, cut: Cut) -> EncodedSample:
    """The sample as the model sees it."""
    return EncodedSample(
        prompt_ids=cut.prompt_ids,
        answer_ids=cut.answer_ids,
        prompt_text=sample.prompt,
        answer_text=sample.answer,
        decoder_ids=sample.decoder_ids,
    )
