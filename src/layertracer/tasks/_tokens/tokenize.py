"""From samples to the ids of their prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from layertracer._types import Sample
from layertracer.tasks._tokens.answer_boundary import Cut, cut_texts, with_lead
from layertracer.tasks._tokens.chat_template import ChatFormat, render_chats
from layertracer.tasks._tokens.telling import Lead
from layertracer.tasks._tokens.tokenizer import Tokenizer, find_unknown_id, tokenize_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSamples:
    """Samples with their ids.

    Attributes:
        samples: The samples as the tokenizer got them, in a chat template where that was asked for.
        cuts: The ids of each, with its answer, the first of several.
        others: The ids of each with its other answers; they have the prompt's in common.
        start_token: The tokenizer's own start token, as its vocabulary spells it, if prompts begin with one.
        notes: What a user should know of it.
    """

    samples: tuple[Sample, ...]
    cuts: tuple[Cut, ...]
    others: tuple[tuple[Cut, ...], ...]
    start_token: str | None
    notes: tuple[str, ...] = ()


def cut_samples(
    samples: Sequence[Sample], tokenizer: Tokenizer | None, *, chat: ChatFormat | None, has_encoder: bool
) -> CutSamples:
    """Every sample as prompt and answer ids.

    Args:
        samples: Samples as text or as ids.
        tokenizer: The tokenizer; None if all samples are ids.
        chat: How prompts are put into the tokenizer's chat template; None where they are not.
        has_encoder: Whether prompts and answers are no one text.

    Raises:
        UsageError: If `chat` has no template or no text, or the template cannot be used.
    """
    if tokenizer is None:
        return _gather(samples, [_cut_ids(sample) for sample in samples], None, start_token=None)
    given, notes = (tuple(samples), ()) if chat is None else render_chats(samples, tokenizer, chat)
    every, start_token = _cut_with(given, tokenizer, add_special_tokens=chat is None, apart=has_encoder)
    cut = _gather(given, every, find_unknown_id(tokenizer), start_token=start_token)
    return replace(cut, notes=(*notes, *cut.notes))


def _gather(
    samples: Sequence[Sample], every: Sequence[Sequence[Cut]], unknown_id: int | None, *, start_token: str | None
) -> CutSamples:
    """Each sample's answers side by side, behind the same tokens of the prompt."""
    agreed = [_agree(_usable(cuts, unknown_id)) for cuts in every]
    n_given = sum(map(len, every))
    n_left = n_given - sum(map(len, agreed))
    note = f"{n_left} of {n_given} answers, beside others, have no token of their own: they are not followed."
    return CutSamples(
        samples=tuple(samples),
        cuts=tuple(cuts[0] for cuts in agreed),
        others=tuple(cuts[1:] for cuts in agreed),
        start_token=start_token,
        notes=(note,) if n_left else (),
    )


def _usable(cuts: Sequence[Cut], unknown_id: int | None) -> Sequence[Cut]:
    """Of several answers those of which there is something to follow; all where there is no such one."""
    known = [cut for cut in cuts if cut.answer_ids and unknown_id not in cut.answer_ids]
    return known or cuts[:1]


def _agree(cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """Answers behind the same tokens of the prompt: where one merges with it, the others read what it takes off."""
    n_shared = min(len(cut.prompt_ids) for cut in cuts)
    agreed = []
    for cut in cuts:
        more = cut.prompt_ids[n_shared:]
        lead = Lead(n_tokens=cut.lead.n_tokens + len(more), n_blank=cut.lead.n_blank + len(more))
        agreed.append(
            replace(cut, prompt_ids=cut.prompt_ids[:n_shared], answer_ids=more + cut.answer_ids, lead=lead)
            if more
            else cut
        )
    return tuple(agreed)


def _cut_with(
    samples: Sequence[Sample], tokenizer: Tokenizer, *, add_special_tokens: bool, apart: bool
) -> tuple[list[list[Cut]], str | None]:
    """Every sample as prompt and answer ids, a cut for each of its answers, and the start token of the texts."""
    joint = [
        i for i, sample in enumerate(samples) if sample.prompt is not None and sample.decoder_ids is None and not apart
    ]
    pairs = [(i, answer) for i in joint for answer in samples[i].all_answers or (None,)]
    texts = cut_texts(
        [str(samples[i].prompt) for i, _ in pairs],
        [answer for _, answer in pairs],
        tokenizer=tokenizer,
        add_special_tokens=add_special_tokens,
    )
    cuts: list[list[Cut]] = [[] for _ in samples]
    for (i, _), cut in zip(pairs, texts.cuts, strict=True):
        cuts[i] += _with_answer_ids(cut, samples[i])
    for i, sample in enumerate(samples):
        cuts[i] = cuts[i] or _cut_apart(sample, tokenizer, add_special_tokens)
    start_ids = texts.start_ids
    if not add_special_tokens and texts.cuts and texts.cuts[0].prompt_ids:
        # A chat template writes the start token itself.
        start_ids = tuple(i for i in texts.cuts[0].prompt_ids[:1] if i == getattr(tokenizer, "bos_token_id", None))
    return cuts, "".join(tokenizer.convert_ids_to_tokens(list(start_ids))) if start_ids else None


def _cut_apart(sample: Sample, tokenizer: Tokenizer, add_special_tokens: bool) -> list[Cut]:
    """A sample whose prompt and answer are no one text: ids on one side, or an encoder's prompt with its end token."""
    cuts = _cut_ids(sample)
    if sample.prompt is not None:
        prompt_ids = tokenize_texts(tokenizer, [sample.prompt], add_special_tokens=add_special_tokens)[0]
        cuts = [replace(cut, prompt_ids=prompt_ids) for cut in cuts]
    if not sample.all_answers:
        return cuts
    every = tokenize_texts(tokenizer, list(sample.all_answers), add_special_tokens=False)
    return [
        with_lead(replace(cuts[0], answer_ids=ids), answer, tokenizer)
        for ids, answer in zip(every, sample.all_answers, strict=True)
    ]


def _cut_ids(sample: Sample) -> list[Cut]:
    """What of a sample is given as ids."""
    cut = Cut(prompt_ids=sample.prompt_ids or (), answer_ids=(), is_merged=False)
    return _with_answer_ids(cut, sample)


def _with_answer_ids(cut: Cut, sample: Sample) -> list[Cut]:
    """The cut with each of the answer's ids, where answers are ids."""
    return [replace(cut, answer_ids=(token,)) for token in sample.all_answer_ids] or [cut]
