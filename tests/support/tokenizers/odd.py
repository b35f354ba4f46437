"""Tokenizers that part a space from what follows it, or a character into pieces."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = ["2 + 3 -> 5\nhot -> cold\nwide -> narrow, big -> little", "the cat sat on the mat", "narrow cold little"] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@functools.cache
def digits_apart() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which digits stand apart from their space, as in SmolLM2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@functools.cache
def byte_fallback() -> PreTrainedTokenizerFast:
    """Metaspace with bytes for characters that it does not know, as in Llama 2, Mistral and Gemma."""
    pieces = ["<unk>", *BYTES, "▁", *"abcdefghiklmnoprstw235+->:.,", "ld", "co", "cold", "▁cold", "א"]
    merges = [("l", "d"), ("c", "o"), ("co", "ld"), ("▁", "cold")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@functools.cache
def word_pieces() -> PreTrainedTokenizerFast:
    """WordPiece, which knows no spaces."""
    words = ["[UNK]", *"abcdefghiklmnoprstw235+->", *(f"##{char}" for char in "abcdefghiklmnoprstw235"), "cold", "nar"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@functools.cache
def characters() -> PreTrainedTokenizerFast:
    """A token a character, as the text spells it, without a decoder."""
    letters = ["<unk>", " ", "\n", *"abcdefghiklmnoprstw235+->"]
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(letters)}, [], unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


class WithoutDecode:
    """A tokenizer that decodes nothing; its vocabulary still spells its tokens."""

    bos_token_id = eos_token_id = unk_token_id = None
    chat_template = None

    def __init__(self, inner: PreTrainedTokenizerFast) -> None:
        self._inner = inner

    def __call__(self, text: list[str], **settings: Any) -> Any:
        """Token ids of texts."""
        return self._inner(text, **settings)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Nothing: it cannot."""
        raise NotImplementedError(f"no decoder for {len(token_ids)} tokens")

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> Any:
        """The tokens as the vocabulary spells them."""
        return self._inner.convert_ids_to_tokens(list(ids))

    def apply_chat_template(self, conversation: list[dict[str, Any]], **settings: Any) -> Any:
        """Nothing: there is no template."""
        raise NotImplementedError(f"no template for {len(conversation)} turns, {settings}")
