"""Which tokens are the subject: against spans written by hand, for tokenizers of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from layertracer._types import Sample
from layertracer.tasks import encode_samples, read_ids

from tests.support.tokenizers import (
    CORPUS,
    WithoutDecode,
    byte_fallback,
    characters,
    digits_apart,
    make_bpe,
    word_pieces,
    word_tokenizer,
)
from tests.tasks.conftest import CHAT_TEMPLATE


class WithoutOffsets:
    """A tokenizer that does not say which characters its tokens stand for, as those written in Python."""

    bos_token_id = eos_token_id = unk_token_id = None
    chat_template = None

    def __init__(self, inner: PreTrainedTokenizerFast) -> None:
        self._inner = inner

    def __call__(self, text: list[str], **settings: Any) -> Any:
        """Token ids of texts."""
        if settings.pop("return_offsets_mapping", False):
            raise NotImplementedError("return_offsets_mapping is not available when using Python tokenizers")
        return self._inner(text, **settings)

    def decode(self, token_ids: Sequence[int]) -> Any:
        """The text of tokens."""
        return self._inner.decode(list(token_ids))

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> Any:
        """The tokens as the vocabulary spells them."""
        return self._inner.convert_ids_to_tokens(list(ids))

    def apply_chat_template(self, conversation: list[dict[str, Any]], **settings: Any) -> Any:
        """Nothing: there is no template."""
        raise NotImplementedError(f"no template for {len(conversation)} turns, {settings}")


def _words() -> PreTrainedTokenizerFast:
    return word_tokenizer(dict.fromkeys(" ".join(CORPUS).split()))


SPANS = [
    # Byte pairs: a space belongs to the word behind it; a letter of two bytes may be two tokens.
    (make_bpe, "wide hot is", "wide", ["wide"]),
    (make_bpe, "big little -> wide hot", "wide hot", ["Ġwide", "Ġhot"]),
    (make_bpe, "narrow cold é wide", "é", ["Ã", "©"]),
    (make_bpe, "narrow cold é", " é ", ["Ã", "©"]),
    # The first place counts, and a word of its own before a part of another.
    (make_bpe, "cold cat on the mat, the cat", "cat", ["Ġcat"]),
    (make_bpe, "scat cat", "cat", ["Ġcat"]),
    # A token that is shared with a neighbour is the subject's.
    (make_bpe, "the narrows", "arrow", ["Ġnarrow"]),
    # Start tokens shift every position.
    (lambda: make_bpe("<s> $A"), "wide hot is", "wide", ["wide"]),
    (lambda: make_bpe("<s> $A </s>"), "big wide hot", "hot", ["Ġhot"]),
    # Metaspace with bytes: a space that stands by itself is none of the subject's.
    (byte_fallback, "a cold wind", "cold", ["▁cold"]),
    (byte_fallback, "wide", "wide", ["w", "i", "d", "e"]),
    (byte_fallback, "a é b", "é", ["<0xC3>", "<0xA9>"]),
    # Digits apart from their space; pieces without spaces; a token a character; a token a word.
    (digits_apart, "2 + 35 -> hot", "35", ["3", "5"]),
    (word_pieces, "a cold wide", "wide", ["w", "##i", "##d", "##e"]),
    (characters, "a cat", "cat", ["c", "a", "t"]),
    (_words, "the cat sat", "cat sat", ["cat", "sat"]),
]


@pytest.mark.parametrize("has_offsets", [True, False])
@pytest.mark.parametrize(("make", "prompt", "subject", "tokens"), SPANS)
def test_spans_written_by_hand(make: Any, prompt: str, subject: str, tokens: list[str], has_offsets: bool) -> None:
    """The subject's tokens, shared ones among them, are found by offsets and by decoding alike."""
    inner = make()
    tokenizer = inner if has_offsets else WithoutOffsets(inner)
    encoded = encode_samples([Sample(prompt=prompt, answer=" cold", subject=subject)], tokenizer, causal=True).samples[
        0
    ]
    assert encoded.subject_span is not None
    first, end = encoded.subject_span
    ids = list(encoded.prompt_ids)
    assert inner.convert_ids_to_tokens(ids[first:end]) == tokens
    if tokens == ["Ġcat"] and prompt.startswith("cold"):
        before = inner(["cold"], add_special_tokens=False)["input_ids"][0]
        assert first == len(before)


@pytest.mark.parametrize("has_offsets", [True, False])
def test_a_subject_that_is_not_there_has_no_span(has_offsets: bool) -> None:
    """What the prompt does not say is not found, and a tokenizer that can do nothing finds nothing."""
    inner = make_bpe()
    tokenizer = inner if has_offsets else WithoutOffsets(inner)
    sample = Sample(prompt="the cat sat", answer=" on", subject="dog")
    assert encode_samples([sample], tokenizer, causal=True).samples[0].subject_span is None
    assert encode_samples([sample], tokenizer).samples[0].subject_span is None  # not asked for


def test_a_tokenizer_that_decodes_nothing_still_has_offsets() -> None:
    """Where there is no decoder, the characters of the tokens are taken at their word."""
    sample = Sample(prompt="the cat sat", answer=" on", subject="cat")
    assert encode_samples([sample], WithoutDecode(make_bpe()), causal=True).samples[0].subject_span == (1, 2)


def test_long_prompts_are_searched_quickly() -> None:
    """A subject behind hundreds of words, without offsets, is found where offsets find it."""
    prompt = "the cat sat on the mat and " * 100 + "narrow is"
    sample = Sample(prompt=prompt, answer=" cold", subject="narrow")
    spans = [
        encode_samples([sample], tokenizer, causal=True).samples[0].subject_span
        for tokenizer in (make_bpe(), WithoutOffsets(make_bpe()))
    ]
    assert spans[0] == spans[1] is not None


def test_a_chat_template_shifts_the_subject() -> None:
    """Behind what a template writes, the user's own words count, not those of the system's turn."""
    tokenizer = make_bpe("<s> $A", chat_template=CHAT_TEMPLATE)
    sample = Sample(prompt=" the hot cat ", answer=" cold", subject="cat")
    encoded = encode_samples([sample], tokenizer, chat=True, system="a cat, a cat", causal=True).samples[0]
    assert encoded.subject_span is not None
    first, end = encoded.subject_span
    assert tokenizer.decode(list(encoded.prompt_ids[first:end])).strip() == "cat"
    assert "cat" not in tokenizer.decode(list(encoded.prompt_ids[end:]))


def test_contrasts_and_their_answers_are_cut_as_the_prompt_is() -> None:
    """A contrast is read up to where the followed token stands, behind white space that stands by itself too."""
    joined, apart = (" cold", " narrow"), (" hot", " wide")
    for make, answers in ((make_bpe, joined), (byte_fallback, apart), (digits_apart, joined)):
        tokenizer = make()
        sample = Sample(prompt="wide is", answer=answers[0], contrast="hot is", contrast_answer=answers[1])
        encoded = encode_samples([sample], tokenizer, causal=True).samples[0]
        read, contrast, other = read_ids(encoded), encoded.contrast_ids, encoded.contrast_answer
        assert contrast is not None
        assert other is not None
        assert tokenizer.decode(list(read)).strip() == "wide is"
        assert tokenizer.decode(list(contrast)).strip() == "hot is"
        assert other.n_lead == encoded.n_lead
        assert other.ids[: other.n_lead] == encoded.answer_ids[: encoded.n_lead]
        assert tokenizer.decode(list(other.ids)).strip() == answers[1].strip()


def test_an_answer_behind_other_tokens_says_so() -> None:
    """Where one answer stands behind a space of its own and the other is joined to it, their leads differ."""
    sample = Sample(prompt="wide is", answer=" 5", contrast_answer=" cold")
    encoded = encode_samples([sample], digits_apart(), causal=True).samples[0]
    assert encoded.contrast_answer is not None
    assert (encoded.n_lead, encoded.contrast_answer.n_lead) == (1, 0)


def test_token_ids_need_no_tokenizer() -> None:
    """Spans, contrasts and their answers of samples of ids come back as they are."""
    sample = Sample(
        prompt_ids=(1, 5, 9), answer_id=7, subject_span=(1, 2), contrast_ids=(1, 6, 9), contrast_answer_id=8
    )
    encoded = encode_samples([sample], None, causal=True).samples[0]
    assert (encoded.subject_span, encoded.contrast_ids) == ((1, 2), (1, 6, 9))
    assert encoded.contrast_answer is not None
    assert encoded.contrast_answer.ids == (8,)
