"""Prompts and the answers that are followed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from layertracer._errors import UsageError
from layertracer._types.causal_fields import checked_causal_fields
from layertracer._types.given import (
    Ids,
    Span,
    Text,
    Texts,
    Whole,
    checked_ids,
    checked_text,
    checked_texts,
    checked_whole,
)

TargetKind = Literal["answer", "model"]
"""Whose token is followed: the sample's answer, or the model's own top token."""

TargetTokens = Literal["first", "all"]
"""Whether the answer's first token is followed, or the teacher-forced product over all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One prompt and the answer to follow.

    Either text (`prompt`, `answer`), which a tokenizer turns into tokens, or token ids
    (`prompt_ids`, `answer_id`), for which no tokenizer is needed.

    Attributes:
        prompt: Text of the prompt, up to where the answer begins.
        answer: Text of the answer, with its leading space if it has one; the first of `answers` where they are given.
        prompt_ids: Token ids of the prompt.
        answer_id: Token id of the answer; the first of `answer_ids` where they are given.
        decoder_ids: Encoder-decoder models only: the tokens that the decoder has already read.
        answers: Texts of several answers, each of which is right: the probability followed is that of any of them.
        answer_ids: Token ids of several answers of one token, each of which is right.
        demonstration_set: Which set of demonstrations the prompt begins with, where a task has several.
        template: Which template the prompt is written in, where a task has several.
        subject: Causal tracing: the words of the prompt that it is about. Where they stand in it more than once, the
            first time counts that they are no part of a longer word.
        subject_span: Positions of the subject in `prompt_ids`: its first, and the one behind its last.
        contrast: Causal tracing: a prompt of as many tokens that is run instead, e.g. with another subject.
        contrast_ids: Token ids of that prompt.
        contrast_answer: Text of the answer that the contrast prompt has.
        contrast_answer_id: Token id of that answer.
        subject_from: From which character of the prompt on the subject is looked for, as behind demonstrations; from
            the beginning where it is left out.
        relation: What kind of fact the prompt states, e.g. "capital": samples of one kind can lend each other their
            subjects as contrasts. Where it is left out, what the prompt says beside the subject stands for it.

    Example:
        >>> Sample(prompt="hot -> cold\\nwide ->", answer=" narrow").answer
        ' narrow'
        >>> Sample(prompt="The capital of France is", answers=(" Paris", " paris")).answer
        ' Paris'
        >>> Sample(prompt="The Space Needle is in", answer=" Seattle", subject="The Space Needle").subject
        'The Space Needle'
    """

    prompt: Text | None = None
    answer: Text | None = None
    prompt_ids: Ids | None = None
    answer_id: Whole | None = None
    decoder_ids: Ids | None = None
    answers: Texts | None = None
    answer_ids: Ids | None = None
    demonstration_set: int | None = None
    template: int | None = None
    subject: Text | None = None
    subject_span: Span | None = None
    contrast: Text | None = None
    contrast_ids: Ids | None = None
    contrast_answer: Text | None = None
    contrast_answer_id: Whole | None = None
    subject_from: Whole | None = None
    relation: Text | None = None

    def __post_init__(self) -> None:
        """Refuse a sample that is neither text nor token ids."""
        checked_text("prompt", self.prompt, hint="Token ids go to prompt_ids=, e.g. Sample(prompt_ids=(1, 5, 9)).")
        checked_text("answer", self.answer, hint="A token id goes to answer_id=, e.g. Sample(..., answer_id=7).")
        if (self.prompt is None) == (self.prompt_ids is None):
            raise UsageError(
                f"A Sample needs either prompt= (text) or prompt_ids= (token ids), got "
                f"prompt={self.prompt!r} and prompt_ids={self.prompt_ids!r}. Give exactly one of them."
            )
        self._take_first("answers", "answer")
        self._take_first("answer_ids", "answer_id")
        if self.answer is not None and self.answer_id is not None:
            raise UsageError(
                f"A Sample takes answer= (text) or answer_id= (a token id), got both "
                f"({self.answer!r}, {self.answer_id!r}). Give at most one of them."
            )
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", checked_ids("prompt_ids", self.prompt_ids))
        if self.answer_id is not None:
            object.__setattr__(self, "answer_id", checked_whole("answer_id", self.answer_id))
        if self.decoder_ids is not None:
            object.__setattr__(self, "decoder_ids", checked_ids("decoder_ids", self.decoder_ids))
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in checked_causal_fields(given).items():
            object.__setattr__(self, name, value)

    def _take_first(self, several: str, one: str) -> None:
        """Several answers as a tuple without repetitions, the first of them as the answer."""
        given = getattr(self, several)
        if given is None:
            return
        hint = "It takes one answer or more, as in answers=(' Paris', ' paris') or answer_ids=(7, 9)."
        checked = checked_texts(several, given, hint=hint) if several == "answers" else checked_ids(several, given)
        if not checked:
            raise UsageError(f"{several}= is empty. {hint} For no answer leave it away.")
        distinct = tuple(dict.fromkeys(checked))
        if getattr(self, one) not in (None, distinct[0]):
            raise UsageError(
                f"A Sample takes {one}= or {several}=, got {getattr(self, one)!r} and {given!r}. Give all answers that "
                f"are right in {several}=, or the only one in {one}=."
            )
        object.__setattr__(self, several, distinct)
        object.__setattr__(self, one, distinct[0])

    @property
    def all_answers(self) -> tuple[str, ...]:
        """Every text that is a right answer; empty where none is given."""
        return tuple(self.answers or (() if self.answer is None else (self.answer,)))

    @property
    def all_answer_ids(self) -> tuple[int, ...]:
        """Every token id that is a right answer; empty where none is given."""
        return tuple(self.answer_ids or (() if self.answer_id is None else (self.answer_id,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedAnswer:
    """An answer as the model sees it.

    Attributes:
        ids: Its token ids.
        n_lead: How many of them say nothing of it yet, being white space or incomplete characters. They are read as
            the end of the prompt, and the token after them is the first that is followed.
        n_blank: How many of those are nothing but white space.
        text: Its text; None where only an id was given.
    """

    ids: tuple[int, ...]
    n_lead: int = 0
    n_blank: int = 0
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """A sample as the model sees it.

    Attributes:
        prompt_ids: Token ids of the prompt, start token included; never empty.
        answer_ids: Token ids of the answer, the first of several; empty where the sample has none.
        prompt_text: Text of the prompt, chat template included; None where only ids were given.
        answer_text: Text of the answer; None where only an id was given or there is none.
        decoder_ids: Encoder-decoder models only.
        n_lead: How many of `answer_ids` are read as the end of the prompt, see `EncodedAnswer`.
        n_blank: How many of those are nothing but white space.
        others: The other answers that are right.
        demonstration_set: Which set of demonstrations the prompt begins with, where a task has several.
        template: Which template the prompt is written in, where a task has several.
        subject_span: Positions of the subject in `prompt_ids`, its first and the one behind its last; None where the
            sample names none, it was not found, or was not asked for.
        contrast_ids: Token ids of the contrast prompt, up to where the followed token stands; None likewise.
        contrast_answer: The contrast's answer behind the prompt; None likewise.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] = ()
    prompt_text: str | None = None
    answer_text: str | None = None
    decoder_ids: tuple[int, ...] | None = None
    n_lead: int = 0
    n_blank: int = 0
    others: tuple[EncodedAnswer, ...] = ()
    demonstration_set: int | None = None
    template: int | None = None
    subject_span: tuple[int, int] | None = None
    contrast_ids: tuple[int, ...] | None = None
    contrast_answer: EncodedAnswer | None = None

    @property
    def answers(self) -> tuple[EncodedAnswer, ...]:
        """Every answer that is right; empty where the sample has none."""
        if not self.answer_ids:
            return ()
        first = EncodedAnswer(ids=self.answer_ids, n_lead=self.n_lead, n_blank=self.n_blank, text=self.answer_text)
        return (first, *self.others)
