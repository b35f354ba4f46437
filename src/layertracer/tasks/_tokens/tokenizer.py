"""What is asked of a tokenizer. Those of Hugging Face's `transformers` have it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from layertracer._errors import TaskError, printable_cause, printable_name
from layertracer._types import panics_as_errors
from layertracer.tasks._deadline import TookTooLong, within

_READING_S = 30.0
_CHARACTERS_PER_S = 2_000
"""A tokenizer reads a hundred times as fast; one that is slower is in a regular expression without an end."""


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer, known by what it can do.

    Where it has them, the attributes `bos_token_id`, `eos_token_id`, `unk_token_id` and `chat_template` are read too.
    """

    def __call__(
        self,
        text: list[str],
        *,
        add_special_tokens: bool = True,
        return_attention_mask: bool | None = None,
        return_token_type_ids: bool | None = None,
        verbose: bool = True,
    ) -> Any:
        """A mapping in which "input_ids" are the token ids of every text."""

    def decode(self, token_ids: list[int]) -> Any:
        """The text of token ids."""

    def convert_ids_to_tokens(self, ids: list[int]) -> Any:
        """The tokens as the vocabulary spells them."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        **template_arguments: Any,
    ) -> Any:
        """The conversation as the model expects it."""


def tokenize_texts(tokenizer: Tokenizer, texts: list[str], *, add_special_tokens: bool) -> list[tuple[int, ...]]:
    """Token ids of every text, in one call.

    Raises:
        TaskError: If the tokenizer raises, or does not come to an end.
    """
    if not texts:
        return []

    def read() -> list[tuple[int, ...]]:
        with panics_as_errors():
            encoding = tokenizer(
                texts,
                add_special_tokens=add_special_tokens,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # the length is checked here, with a better message
            )
        return [tuple(int(token) for token in ids) for ids in encoding["input_ids"]]

    cause: Exception | None = None
    limit_s = _READING_S + sum(map(len, texts)) / _CHARACTERS_PER_S
    try:
        return within(limit_s, read)
    except TookTooLong:
        reason = f"it did not come to an end within {limit_s:.0f} s"
    except Exception as error:  # noqa: BLE001 - a tokenizer is made of files that somebody else wrote
        cause = error
        reason = f"{type(error).__name__}: {printable_name(' '.join(str(error).split()) or 'no message', at_most=300)}"
    raise TaskError(
        f"{describe_tokenizer(tokenizer)} cannot read {len(texts)} text(s), the first of them "
        f"{printable_name(texts[0], at_most=60)!r}: {reason}. Expected a tokenizer that reads any text. Copy its files "
        "again, or give another tokenizer and the model to wrap_model."
    ) from None if cause is None else printable_cause(cause)


def describe_tokenizer(tokenizer: object) -> str:
    """What a message calls a tokenizer: its class, and where it came from."""
    origin = getattr(tokenizer, "name_or_path", None)
    name = f"The tokenizer {type(tokenizer).__name__}"
    return f"{name} of {printable_name(origin)}" if isinstance(origin, str) and origin else name


def find_added_tokens(tokenizer: Tokenizer, probe: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that the tokenizer puts before and behind a text of its own accord, learned from a probe text."""
    plain = tokenize_texts(tokenizer, [probe], add_special_tokens=False)[0]
    framed = tokenize_texts(tokenizer, [probe], add_special_tokens=True)[0]
    if not plain:
        return framed, ()
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return framed[:start], framed[start + len(plain) :]
    return (), ()


def find_unknown_id(tokenizer: Tokenizer | None) -> int | None:
    """The id that stands for words outside the vocabulary; None where there is no such id.

    Byte-level tokenizers, which know every word, often name their start or end token as the unknown one too. Where
    that token comes up it was meant, so it is none.
    """
    unknown: int | None = getattr(tokenizer, "unk_token_id", None)
    framing = (getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None))
    return None if unknown in framing else unknown
