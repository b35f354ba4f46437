"""Start tokens of an encoder-decoder model: what its decoder has read when its answer begins.

Generation gives it a start token, and many models then force a first token whatever the decoder says: BART its start of
a sentence, translators the language to write in. The distribution at a forced token's place was never trained to say
anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

_NEEDS_A_LANGUAGE = frozenset({"mbart", "m2m_100", "nllb-moe"})
"""Types of models that write in the language of their first token. This decides about a warning alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderStart:
    """What a decoder begins with.

    Attributes:
        ids: The start token and what generation forces behind it; None where no start token is configured.
        lacks_language: Whether a language should follow that only the user knows.
    """

    ids: tuple[int, ...] | None
    lacks_language: bool = False


def find_decoder_start(module: nn.Module, tokenizer: Any) -> DecoderStart:
    """What the decoder begins with, by the model's generation settings and the target language of its tokenizer.

    Args:
        module: The model.
        tokenizer: Its tokenizer; None where it has none.
    """
    holders = [getattr(module, name, None) for name in ("generation_config", "config")]
    start = next(_configured(holders, "decoder_start_token_id", "bos_token_id"), None)
    if start is None:
        return DecoderStart(ids=None)
    forced = _forced_ids(holders)
    if forced:
        return DecoderStart(ids=(start, *forced))
    language = _language_id(tokenizer)
    if language is not None:
        return DecoderStart(ids=(start,) if language == start else (start, language))
    return DecoderStart(ids=(start,), lacks_language=_lacks_language(module, tokenizer, start))


def _configured(holders: list[Any], *names: str) -> Iterator[int]:
    """Token ids under some names, those of the first holder first."""
    for holder in holders:
        for name in names:
            token = getattr(holder, name, None)
            if isinstance(token, int) and not isinstance(token, bool):
                yield token


def _forced_ids(holders: list[Any]) -> tuple[int, ...]:
    """What generation forces right behind the start token."""
    for holder in holders:
        pairs = getattr(holder, "forced_decoder_ids", None)
        try:
            by_place = dict(pairs or ())
        except (TypeError, ValueError):
            continue
        ids: list[int] = []
        while isinstance(by_place.get(len(ids) + 1), int):
            ids.append(by_place[len(ids) + 1])
        if ids:
            return tuple(ids)
    return tuple(_configured(holders, "forced_bos_token_id"))[:1]


def _language_id(tokenizer: Any) -> int | None:
    """The token of the target language that a tokenizer is set to; None where it is set to none."""
    language = getattr(tokenizer, "tgt_lang", None)
    return _token_of(tokenizer, language) if isinstance(language, str) else None


def _token_of(tokenizer: Any, language: str) -> int | None:
    """A language's token, however the tokenizer spells it."""
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(codes, Mapping) and isinstance(codes.get(language), int):
        return int(codes[language])
    spellings: Any = getattr(tokenizer, "lang_code_to_token", None)
    spelled = spellings.get(language) if isinstance(spellings, Mapping) else None
    unknown = getattr(tokenizer, "unk_token_id", None)
    for spelling in (spelled, language, f"__{language}__"):
        token = None if spelling is None else tokenizer.convert_tokens_to_ids(spelling)
        if isinstance(token, int) and token not in (unknown, None):
            return token
    return None


def _lacks_language(module: nn.Module, tokenizer: Any, start: int) -> bool:
    """Whether a model writes in the language of a token that nobody named."""
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(codes, Mapping) and start in codes.values():
        return False
    has_languages = bool(codes) or hasattr(tokenizer, "tgt_lang")
    return has_languages or getattr(getattr(module, "config", None), "model_type", None) in _NEEDS_A_LANGUAGE
