"""From samples to the ids of their prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from layertracer._errors import UsageError
from layertracer._types import Sample
from layertracer.tasks._boundary import Cut, cut_texts
from layertracer.tasks._checks import name_samples
from layertracer.tasks._tokenizer import Tokenizer, tokenize_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSamples:
    """Samples with their ids.

    Attributes:
        samples: The samples as the tokenizer got them, in a chat template where that was asked for.
        cuts: The ids of each.
        start_token: The tokenizer's own start token, as its vocabulary spells it, if prompts begin with one.
    """

    samples: tuple[Sample, ...]
    cuts: tuple[Cut, ...]
    start_token: str | None


def cut_samples(samples: Sequence[Sample], tokenizer: Tokenizer | None, *, chat: bool, has_encoder: bool) -> CutSamples:
    """Every sample as prompt and answer ids.

    Args:
        samples: Samples as text or as ids.
        tokenizer: The tokenizer; None if all samples are ids.
        chat: Whether to put each prompt into the tokenizer's chat template.
        has_encoder: Whether prompts and answers are no one text.

    Raises:
        UsageError: If `chat` has no template or no text.
    """
    if tokenizer is None:
        return CutSamples(samples=tuple(samples), cuts=tuple(map(_cut_ids, samples)), start_token=None)
    given = _apply_chat_template(samples, tokenizer) if chat else tuple(samples)
    cuts, start_token = _cut_with(given, tokenizer, add_special_tokens=not chat, apart=has_encoder)
    return CutSamples(samples=given, cuts=tuple(cuts), start_token=start_token)


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


def _cut_with(
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
