"""Where the prompt's tokens end and the answer's begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from layertracer.tasks._tokens.telling import NO_LEAD, Lead, find_lead
from layertracer.tasks._tokens.tokenizer import Tokenizer, find_added_tokens, tokenize_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Prompt and answer, tokenised together and cut.

    Attributes:
        prompt_ids: Tokens of the prompt, start tokens included; empty where nothing of the prompt is left.
        answer_ids: Tokens of the answer.
        is_merged: Whether a token spans both, so that the prompt was cut before it.
        lead: Which of the answer's tokens say nothing of it yet.
        answer_text: Text of the answer; None where it is an id, or there is none.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    is_merged: bool
    lead: Lead = NO_LEAD
    answer_text: str | None = None

    @property
    def followed_id(self) -> int | None:
        """The first token that says something of the answer; None where there is no answer."""
        return self.answer_ids[self.lead.n_tokens] if self.answer_ids else None

    @property
    def is_long(self) -> bool:
        """Whether the answer goes on behind that token."""
        return len(self.answer_ids) > self.lead.n_tokens + 1

    @property
    def is_cut_short(self) -> bool:
        """Whether a token of the prompt is followed instead of read."""
        return self.is_merged and not self.lead.n_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """All texts of one call, cut.

    Attributes:
        cuts: One for each prompt, in order.
        start_ids: The tokens that the tokenizer put before every prompt.
    """

    cuts: tuple[Cut, ...]
    start_ids: tuple[int, ...]


def cut_texts(
    prompts: Sequence[str], answers: Sequence[str | None], *, tokenizer: Tokenizer, add_special_tokens: bool
) -> Cuts:
    """Prompts and answers as tokens, every prompt tokenised together with its answer.

    Tokens at the boundary may differ from those of the prompt alone; the answer then begins with the first token that
    differs. An end token that the tokenizer appends is taken off: the text goes on.

    Args:
        prompts: Texts of the prompts.
        answers: Texts of the answers, with their leading space; None where there is none.
        tokenizer: The tokenizer.
        add_special_tokens: Whether the tokenizer adds its own start token; False where the text has it already.

    Returns:
        A cut for each prompt.
    """
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    if add_special_tokens and prompts:
        start, end = find_added_tokens(tokenizer, max(prompts, key=len))
    joined = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True) if answer is not None]
    every = tokenize_texts(tokenizer, [*prompts, *joined], add_special_tokens=add_special_tokens)
    ended = [_strip_end(ids, end) for ids in every]
    alone, together = ended[: len(prompts)], iter(ended[len(prompts) :])
    cuts = tuple(
        Cut(prompt_ids=ids, answer_ids=(), is_merged=False)
        if answer is None
        else with_lead(_cut(ids, next(together), start=start), answer, tokenizer)
        for ids, answer in zip(alone, answers, strict=True)
    )
    return Cuts(cuts=tuple(_without_bare_start(cut, start) for cut in cuts), start_ids=start)


def with_lead(cut: Cut, answer: str, tokenizer: Tokenizer) -> Cut:
    """The cut, with the tokens counted that say nothing of the answer yet."""
    lead = find_lead(cut.answer_ids, answer, tokenizer, is_merged=cut.is_merged)
    return replace(cut, lead=lead, answer_text=answer)


def _cut(alone: tuple[int, ...], together: tuple[int, ...], *, start: tuple[int, ...]) -> Cut:
    """The tokens of prompt and answer, cut where they stop agreeing with those of the prompt alone."""
    if together[: len(alone)] == alone:
        return Cut(prompt_ids=alone, answer_ids=together[len(alone) :], is_merged=False)
    shared = len(start)
    while shared < min(len(alone), len(together)) and alone[shared] == together[shared]:
        shared += 1
    return Cut(prompt_ids=together[:shared], answer_ids=together[shared:], is_merged=True)


def _without_bare_start(cut: Cut, start: tuple[int, ...]) -> Cut:
    """The cut, its prompt empty where nothing but the start tokens is left of it."""
    if len(cut.prompt_ids) > len(start):
        return cut
    return replace(cut, prompt_ids=())


def _strip_end(ids: tuple[int, ...], end: tuple[int, ...]) -> tuple[int, ...]:
    """The ids without the end tokens that the tokenizer appends."""
    return ids[: -len(end)] if end and ids[-len(end) :] == end else ids
