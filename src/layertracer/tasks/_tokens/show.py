"""A sample token by token, for people."""

from __future__ import annotations

from layertracer._types import EncodedSample, panics_as_errors
from layertracer.tasks._tokens.tokenizer import Tokenizer

_SENTENCE_PIECE_SPACE = "▁"
_UNDECODABLE = "\ufffd"


def show_tokens(encoded: EncodedSample, tokenizer: Tokenizer | None) -> list[str]:
    """The text of every token of a sample: first the prompt's, then the answer's.

    Leading spaces are kept, and line breaks and other characters that do not print are written as escapes, so that
    each token stays on one line. A token that is only a part of a character is shown as the vocabulary spells it.

    Args:
        encoded: One sample of `encode_samples`.
        tokenizer: The tokenizer that encoded it; None for samples of ids, which are shown as "#7".

    Returns:
        `len(encoded.prompt_ids) + len(encoded.answer_ids)` texts.

    Example:
        >>> show_tokens(EncodedSample(prompt_ids=(1, 5), answer_ids=(7,)), None)
        ['#1', '#5', '#7']
    """
    ids = [*encoded.prompt_ids, *encoded.answer_ids]
    if tokenizer is None:
        return [f"#{token}" for token in ids]
    spelled = tokenizer.convert_ids_to_tokens(ids)
    return [_show_token(token, str(spelling), tokenizer) for token, spelling in zip(ids, spelled, strict=True)]


def _show_token(token: int, spelling: str, tokenizer: Tokenizer) -> str:
    """One token's text on one line."""
    try:
        with panics_as_errors():
            text = str(tokenizer.decode([token]))
    except Exception:  # noqa: BLE001 - whatever a tokenizer raises on one token: its vocabulary still has a spelling
        text = spelling
    if _UNDECODABLE in text or not text:
        text = spelling
    elif spelling.startswith(_SENTENCE_PIECE_SPACE) and not text.startswith(" "):
        text = " " + text  # such tokenizers drop the space that opens a text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
