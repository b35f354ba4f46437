"""Text as a model reads it, in passages of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layertracer.tasks._tokens.tokenizer import Tokenizer, find_added_tokens, find_unknown_id, tokenize_texts

_PROBE = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """Passages of texts as token ids.

    Attributes:
        rows: Token ids of each, the tokenizer's start token first where it puts one before a text.
        n_start: How many start tokens each begins with.
        n_tokens: Tokens that there were, start tokens not counted.
        n_short: Texts that are shorter than a passage.
        n_unknown: Passages that were left out because they hold the unknown token.
        unknown: A word of those that is unknown; "" where there is none.
    """

    rows: tuple[tuple[int, ...], ...]
    n_start: int
    n_tokens: int
    n_short: int = 0
    n_unknown: int = 0
    unknown: str = ""


def cut_passages(texts: Sequence[str], tokenizer: Tokenizer, *, n_tokens: int, least: int | None = None) -> Passages:
    """Texts cut into passages that do not overlap, no passage across two texts.

    What is left over at the end of a text is left out, unless shorter passages are asked for, and so are passages that
    hold the tokenizer's unknown token: a model does not see which word stands there.

    Laws: every passage has `n_tokens` tokens, its start tokens among them, or as few as `least` at the end of a text;
    the passages of a text, put together, are the beginning of its tokens.

    Args:
        texts: The texts.
        tokenizer: The model's tokenizer.
        n_tokens: Length of a passage.
        least: What is left over at the end of a text is a passage, too, where it has so many tokens; None for never.

    Raises:
        TaskError: If the tokenizer cannot read a text.
    """
    start, _ = find_added_tokens(tokenizer, texts[0][:100] or _PROBE) if texts else ((), ())
    unknown_id, length = find_unknown_id(tokenizer), n_tokens - len(start)
    every = tokenize_texts(tokenizer, list(texts), add_special_tokens=False)
    fewest = length if least is None else min(length, max(1, least - len(start)))
    cut = [ids[begin : begin + length] for ids in every for begin in range(0, len(ids) - fewest + 1, length)]
    known = [ids for ids in cut if unknown_id not in ids]
    is_unread = len(known) < len(cut)
    return Passages(
        rows=tuple(start + ids for ids in known),
        n_start=len(start),
        n_tokens=sum(map(len, every)),
        n_short=sum(len(ids) < fewest for ids in every),
        n_unknown=len(cut) - len(known),
        unknown=_find_unknown(texts, tokenizer, unknown_id) if is_unread else "",
    )


def _find_unknown(texts: Sequence[str], tokenizer: Tokenizer, unknown_id: int | None) -> str:
    """The first word that is unknown by itself."""
    for text in texts:
        words = list(dict.fromkeys(text.split()))
        every = tokenize_texts(tokenizer, words, add_special_tokens=False)
        for word, ids in zip(words, every, strict=True):
            if unknown_id in ids:
                return word
    return ""
