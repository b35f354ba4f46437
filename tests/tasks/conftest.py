"""The tokenizers of the tests of tasks."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tests.support.tokenizers import CORPUS, lines, make_bpe, split_at_spaces, without_unknown

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


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
    return lines()


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """One token a word, with an unknown token."""
    vocabulary = dict.fromkeys(("<unk>", *" ".join(CORPUS).split()))
    return split_at_spaces(tuple(vocabulary), unk_token="<unk>")


@pytest.fixture(scope="session")
def partial() -> PreTrainedTokenizerFast:
    """BPE with a start token and without an unknown one: letters that it never saw give no token at all."""
    return without_unknown()
