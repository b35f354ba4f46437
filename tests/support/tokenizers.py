"""Every tokenizer of the tests: small real ones, of words or trained on the spot."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<unk>", "<s>", "</s>")
MARKS = ("\n", "->", ":", ".", ",")
CORPUS = [
    "hot -> cold\nwide -> narrow\nbig -> little\nthe cat sat on the mat",
    "the opposite of wide is narrow, and the opposite of hot is cold",
    "narrow narrow narrow cold cold cold little little",
] * 4
TEXTS = ["2 + 3 -> 5\nhot -> cold\nwide -> narrow, big -> little", "the cat sat on the mat", "narrow cold little"] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# ---------------------------------------------------------------- words


def word_tokenizer(words: Iterable[str], *, marks: Iterable[str] = MARKS) -> PreTrainedTokenizerFast:
    """One token a word, line break or mark, behind a start token; whatever else stands there is the unknown token."""
    vocabulary = dict.fromkeys((*SPECIALS, *marks, *words))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(r"\n|->|[^\w\s>-]"), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def split_at_spaces(vocabulary: Sequence[str], **special_tokens: Any) -> PreTrainedTokenizerFast:
    """One token a word, as the vocabulary numbers them; its first word stands for all others."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=vocabulary[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


def numbers() -> PreTrainedTokenizerFast:
    """A tokenizer whose token 7 is the word "t7": one for each token of a tiny model."""
    return split_at_spaces([f"t{token}" for token in range(101)])


# ---------------------------------------------------------------- byte pairs


def trained_bpe(
    texts: Iterable[str],
    *,
    n_tokens: int,
    specials: Sequence[str] = (),
    split: pre_tokenizers.PreTokenizer | None = None,
) -> Tokenizer:
    """Byte-level BPE trained on texts, split as in GPT-2 unless told otherwise."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def framed(tokenizer: Tokenizer, single: str) -> Tokenizer:
    """The tokenizer with special tokens around every text, e.g. "<s> $A </s>"."""
    specials = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=specials)
    return tokenizer


def make_bpe(single: str = "$A", *, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of some words."""
    tokenizer = framed(trained_bpe(CORPUS, n_tokens=400, specials=("<s>", "</s>")), single)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = chat_template
    return wrapped


def lines() -> PreTrainedTokenizerFast:
    """BPE over whole lines, in which tokens span spaces: a prompt's end merges with its answer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["wide -> narrow"] * 8 + ["wide ->", "cold"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def without_unknown() -> PreTrainedTokenizerFast:
    """BPE with a start token and without an unknown one: letters that it never saw give no token at all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=framed(tokenizer, "<s> $A"), bos_token="<s>")


@functools.cache
def digits_apart() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which digits stand apart from their space, as in SmolLM2, Llama 3 and Qwen."""
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=trained_bpe(TEXTS, n_tokens=320, split=split))


# ---------------------------------------------------------------- odd ones


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
