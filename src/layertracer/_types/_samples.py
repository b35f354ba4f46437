"""Prompts and the answers that are followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from layertracer._errors import UsageError

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
        answer: Text of the answer, with its leading space if it has one.
        prompt_ids: Token ids of the prompt.
        answer_id: Token id of the answer.
        decoder_ids: Encoder-decoder models only: the tokens that the decoder has already read.
        demonstration_set: Which set of demonstrations the prompt begins with, where a task has several.

    Example:
        >>> Sample(prompt="hot -> cold\\nwide ->", answer=" narrow").answer
        ' narrow'
    """

    prompt: str | None = None
    answer: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    answer_id: int | None = None
    decoder_ids: tuple[int, ...] | None = None
    demonstration_set: int | None = None

    def __post_init__(self) -> None:
        """Refuse a sample that is neither text nor token ids."""
        if (self.prompt is None) == (self.prompt_ids is None):
            raise UsageError(
                f"A Sample needs either prompt= (text) or prompt_ids= (token ids), got "
                f"prompt={self.prompt!r} and prompt_ids={self.prompt_ids!r}. Give exactly one of them."
            )
        if self.answer is not None and self.answer_id is not None:
            raise UsageError(
                f"A Sample takes answer= (text) or answer_id= (a token id), got both "
                f"({self.answer!r}, {self.answer_id!r}). Give at most one of them."
            )
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", tuple(int(token) for token in self.prompt_ids))
        if self.decoder_ids is not None:
            object.__setattr__(self, "decoder_ids", tuple(int(token) for token in self.decoder_ids))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """A sample as the model sees it.

    Attributes:
        prompt_ids: Token ids of the prompt, start token included; never empty.
        answer_ids: Token ids of the answer; empty where the sample has none.
        prompt_text: Text of the prompt, chat template included; None where only ids were given.
        answer_text: Text of the answer; None where only an id was given or there is none.
        decoder_ids: Encoder-decoder models only.
        demonstration_set: Which set of demonstrations the prompt begins with, where a task has several.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] = ()
    prompt_text: str | None = None
    answer_text: str | None = None
    decoder_ids: tuple[int, ...] | None = None
    demonstration_set: int | None = None
