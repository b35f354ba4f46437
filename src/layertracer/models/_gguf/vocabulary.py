"""Vocabulary of a .gguf file, as it says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SLOTS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_SENTENCEPIECE_IDS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}
"""Where a SentencePiece vocabulary has them if its file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufVocabulary:
    """What a .gguf file says about its tokenizer.

    Attributes:
        kind: Kind of vocabulary: "gpt2" (merges of bytes), "llama" (SentencePiece), "t5" and others; None where there
            is no tokenizer.
        pre: Name of the pre-tokenizer; None where it is not said.
        tokens: The tokens by their ids.
        types: Type of each token.
        merges: Pairs of tokens, best first, with a space between.
        special: Special tokens by their slot in a tokenizer.
        add_bos: Whether prompts begin with the beginning-of-text token; None where it is not said.
        add_eos: Whether prompts end with the end-of-text token; None where it is not said.
        add_space_prefix: Whether a space is put in front; None where it is not said.
        charsmap: SentencePiece's compiled rules of normalisation.
        chat_template: How a chat is written.
    """

    kind: str | None
    pre: str | None
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, str]
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None
    charsmap: bytes | None
    chat_template: str | None


def read_vocabulary(reader: Any, scalars: Mapping[str, Any]) -> GgufVocabulary:
    """What the tokenizer's part of a file says.

    Args:
        reader: A `gguf.GGUFReader`.
        scalars: Its numbers and words by name.
    """
    prefix = "tokenizer.ggml."
    kind = scalars.get(f"{prefix}model")
    tokens = tuple(_strings(reader, f"{prefix}tokens"))
    defaults = _SENTENCEPIECE_IDS if kind == "llama" else {}
    ids = {slot: scalars.get(f"{prefix}{name}_token_id", defaults.get(slot)) for slot, name in _SLOTS.items()}
    charsmap = _numbers(reader, f"{prefix}precompiled_charsmap")
    return GgufVocabulary(
        kind=kind if tokens else None,
        pre=scalars.get(f"{prefix}pre"),
        tokens=tokens,
        types=tuple(_numbers(reader, f"{prefix}token_type")),
        merges=tuple(_strings(reader, f"{prefix}merges")),
        special={slot: tokens[i] for slot, i in ids.items() if isinstance(i, int) and 0 <= i < len(tokens)},
        add_bos=scalars.get(f"{prefix}add_bos_token"),
        add_eos=scalars.get(f"{prefix}add_eos_token"),
        add_space_prefix=scalars.get(f"{prefix}add_space_prefix"),
        charsmap=bytes(value & 0xFF for value in charsmap) if charsmap else None,
        chat_template=scalars.get("tokenizer.chat_template"),
    )


def _strings(reader: Any, name: str) -> list[str]:
    field = reader.fields.get(name)
    return [] if field is None else [bytes(field.parts[index]).decode("utf-8") for index in field.data]


def _numbers(reader: Any, name: str) -> list[int]:
    field = reader.fields.get(name)
    return [] if field is None else [int(field.parts[index][0]) for index in field.data]
