"""Which token of an answer is the first that says something of it.

Many tokenizers part the space from what follows it: from digits, or from scripts of which they know no words. Others
write a character as several pieces. What such a token's probability says is that an answer comes, not which one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from layertracer._types import panics_as_errors
from layertracer.tasks._tokens.tokenizer import Tokenizer

_INCOMPLETE = "\ufffd"
"""What tokenizers decode pieces of a character to."""

_SPACE_MARKS = str.maketrans({"Ġ": " ", "Ċ": "\n", "ĉ": "\t", "▁": " "})
"""How vocabularies spell white space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """The tokens at the beginning of an answer that say nothing of it.

    Attributes:
        n_tokens: How many there are.
        n_blank: How many of them, at the beginning, are nothing but white space.
    """

    n_tokens: int = 0
    n_blank: int = 0


NO_LEAD = Lead()
"""Of an answer that says something from its first token on."""


def find_lead(answer_ids: Sequence[int], text: str, tokenizer: Tokenizer, *, is_merged: bool = False) -> Lead:
    """How many of an answer's tokens come before the first that completes a character other than white space.

    An answer of nothing but white space has no such token: then white space is what it says, and its first token is
    followed.

    Args:
        answer_ids: Tokens of the answer.
        text: Its text.
        tokenizer: The tokenizer.
        is_merged: Whether the first token reaches back into the prompt.
    """
    if len(answer_ids) < 2 or not _says_something(text):
        return NO_LEAD
    n_before = _n_before(_decode(answer_ids, tokenizer, text), text) if is_merged else 0
    n_blank = 0
    for n_read in range(1, len(answer_ids)):
        read = _decode(answer_ids[:n_read], tokenizer, text)[n_before:]
        if _says_something(read):
            return Lead(n_tokens=n_read - 1, n_blank=n_blank)
        if n_blank == n_read - 1 and _INCOMPLETE not in read:
            n_blank = n_read
    return Lead(n_tokens=len(answer_ids) - 1, n_blank=n_blank)


def _says_something(text: str) -> bool:
    """Whether there is a character that is seen, and whole."""
    return any(not _is_blank(char) and char != _INCOMPLETE for char in text)


def _is_blank(char: str) -> bool:
    """White space, control characters, and marks that are not seen, such as those of direction."""
    return char.isspace() or unicodedata.category(char) in ("Cc", "Cf")


def _n_before(decoded: str, text: str) -> int:
    """How many characters of the prompt stand in tokens that begin in it."""
    return len(decoded) - len(text) if decoded.endswith(text) else 0


def _decode(ids: Sequence[int], tokenizer: Tokenizer, answer: str) -> str:
    """The text of some tokens of an answer; as the vocabulary spells them where the tokenizer cannot decode them."""
    try:
        with panics_as_errors():
            text = str(tokenizer.decode(list(ids)))
    except Exception:  # noqa: BLE001 - whatever a tokenizer raises on a part of a text: its vocabulary still has a spelling
        text = "".join(map(str, tokenizer.convert_ids_to_tokens(list(ids))))
    # Without a decoder, spaces stay as they are spelled; unless the answer itself has such a mark, they are meant.
    return text if any(chr(mark) in answer for mark in _SPACE_MARKS) else text.translate(_SPACE_MARKS)
