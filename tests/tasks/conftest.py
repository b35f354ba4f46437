"""Small real tokenizers, trained on the spot."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "hot -> cold\nwide -> narrow\nbig -> little\nthe cat sat on the mat",
    "the opposite of wide is narrow, and the opposite of hot is cold",
    "narrow narrow narrow cold cold cold little little",
] * 4

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _frame(tokenizer: Tokenizer, single: str) -> None:
    """Let the tokenizer put special tokens around every text, e.g. "<s> $A </s>"."""
    specials = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=specials)


def make_bpe(single: str = "$A", *, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    _frame(tokenizer, single)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = chat_template
    return wrapped


@pytest.fixture(scope="session")
def bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE that adds no token of its own, as GPT-2's."""
    return make_bpe()


@pytest.fixture(scope="session")
def framing_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts a start token before and an end token behind every text."""
    return make_bpe("<s> $A </s>")


@pytest.fixture(scope="session")
def chat_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a start token of its own and a chat template that writes it."""
    return make_bpe("<s> $A", chat_template=CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def char_bpe() -> PreTrainedTokenizerFast:
    """BPE over whole lines, in which tokens span spaces: a prompt's end merges with its answer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["wide -> narrow"] * 8 + ["wide ->", "cold"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """One token a word, with an unknown token."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="session")
def partial() -> PreTrainedTokenizerFast:
    """BPE with a start token and without an unknown one: letters that it never saw give no token at all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    _frame(tokenizer, "<s> $A")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
