"""The first token that says something of an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from layertracer import TracedModel
from layertracer._types import EncodedSample, Sample
from layertracer.tasks import encode_samples

from tests.support.tokenizers import WithoutDecode, byte_fallback, characters, digits_apart, word_pieces

Make = Callable[[], PreTrainedTokenizerFast]


def read_and_followed(tokenizer: Any, sample: Sample) -> tuple[list[str], str]:
    """The tokens of the answer that are read as the end of the prompt, and the one that is followed, as spelled."""
    encoded = encode_samples([sample], tokenizer).samples[0]
    spelled = list(tokenizer.convert_ids_to_tokens(list(encoded.answer_ids)))
    return spelled[: encoded.n_lead], spelled[encoded.n_lead]


@pytest.mark.parametrize(
    ("make", "answer", "lead", "followed"),
    [
        (digits_apart, " 5", ["Ġ"], "5"),
        (digits_apart, " 52", ["Ġ"], "5"),
        (digits_apart, " cold", [], "Ġcold"),
        (digits_apart, "5", [], "5"),
        (digits_apart, "\n\n5", ["Ċ", "Ċ"], "5"),
        (digits_apart, " 好", ["Ġ", "å", "¥"], "½"),
        (digits_apart, "😀 cold", ["ð", "Ł", "ĺ"], "Ģ"),
        (digits_apart, " שלום", ["Ġ", "×"], "©"),
        (digits_apart, "\u0301", ["Ì"], "ģ"),
        (digits_apart, "e\u0301", [], "e"),
        (digits_apart, "\u200f 5", ["â", "Ģ", "ı", "Ġ"], "5"),
        (digits_apart, "5 \n", [], "5"),
        (byte_fallback, " cold", [], "▁cold"),
        (byte_fallback, " 好", ["▁", "<0xE5>", "<0xA5>"], "<0xBD>"),
        (byte_fallback, " 5", ["▁"], "5"),
        (byte_fallback, " א", ["▁"], "א"),
        (byte_fallback, " 😀", ["▁", "<0xF0>", "<0x9F>", "<0x98>"], "<0x80>"),
        (word_pieces, " cold", [], "cold"),
        (word_pieces, " narrow", [], "nar"),
        (characters, " cold", [" "], "c"),
        (characters, "\n cold", ["\n", " "], "c"),
        (characters, "cold ", [], "c"),
    ],
)
def test_tokens_that_say_nothing_are_read(make: Make, answer: str, lead: list[str], followed: str) -> None:
    """White space and incomplete characters are read as the end of the prompt; the token after them is followed."""
    assert read_and_followed(make(), Sample(prompt="2 + 3 ->", answer=answer)) == (lead, followed)


@pytest.mark.parametrize("make", [digits_apart, byte_fallback, characters])
def test_without_a_decoder_the_vocabulary_is_read(make: Make) -> None:
    """Where a tokenizer cannot decode, its spelling of white space is understood."""
    lead, followed = read_and_followed(WithoutDecode(make()), Sample(prompt="2 + 3 ->", answer=" 5"))
    assert (len(lead), followed) == (1, "5")


@pytest.mark.parametrize("prompt", ["2 + 3 -> ", "2 + 3 ->  "])
@pytest.mark.parametrize("make", [digits_apart, byte_fallback, characters])
@pytest.mark.parametrize("answer", ["5", " 5"])
def test_prompts_that_end_in_a_space(make: Make, prompt: str, answer: str) -> None:
    """Wherever the space stands, the followed token is the digit, behind the tokens of all that comes before it."""
    tokenizer = make()
    encoded = encode_samples([Sample(prompt=prompt, answer=answer)], tokenizer).samples[0]
    read = (*encoded.prompt_ids, *encoded.answer_ids[: encoded.n_lead])
    followed = tokenizer.convert_ids_to_tokens([encoded.answer_ids[encoded.n_lead]])
    assert [*read, *encoded.answer_ids[encoded.n_lead :]] == tokenizer([prompt + answer])["input_ids"][0]
    assert followed == ["5"]


@pytest.mark.parametrize("answer", ["\n", "\n\n", " ", "\t"])
@pytest.mark.parametrize("make", [digits_apart, characters])
def test_white_space_alone_is_an_answer(make: Make, answer: str) -> None:
    """Where white space is all that an answer says, its first token is followed."""
    tokenizer = make()
    encoded = encode_samples([Sample(prompt="2 + 3 ->", answer=answer)], tokenizer).samples[0]
    assert encoded.n_lead == 0
    assert list(encoded.answer_ids) == tokenizer([answer])["input_ids"][0]


def test_ids_with_a_text_answer() -> None:
    """A prompt of ids with an answer of text is read on to the token that says something, too."""
    tokenizer = digits_apart()
    encoded = encode_samples([Sample(prompt_ids=(3, 4), answer=" 5")], tokenizer).samples[0]
    assert (encoded.prompt_ids, encoded.n_lead, encoded.n_blank) == ((3, 4), 1, 1)


def test_pieces_of_a_character_are_no_white_space() -> None:
    """Of the leading tokens those of white space are counted apart: pieces of a character belong to the answer."""
    encoded = encode_samples([Sample(prompt="2 ->", answer=" 好")], byte_fallback()).samples[0]
    assert (encoded.n_lead, encoded.n_blank) == (3, 1)


@given(answer=st.text(st.sampled_from(list(" \n\t\u00a0\u200b\ufeffa5好😀ש\u0301\ufffd")), min_size=1, max_size=6))
@pytest.mark.parametrize("make", [digits_apart, byte_fallback])
def test_the_followed_token_is_the_first_that_completes_a_character(make: Make, answer: str) -> None:
    """The tokens read hold no character that is seen, and with the followed one there is one, wherever there is any."""
    tokenizer = make()
    encoded = encode_samples([Sample(prompt="cold ->", answer=answer)], tokenizer).samples[0]
    assert [*encoded.prompt_ids, *encoded.answer_ids] == tokenizer(["cold ->" + answer])["input_ids"][0]
    seen = "a5好😀ש\u0301"
    n_lead = encoded.n_lead
    if not set(answer) & set(seen):
        assert n_lead == 0
        return
    assert not set(tokenizer.decode(list(encoded.answer_ids[:n_lead]))) & set(seen)
    assert set(tokenizer.decode(list(encoded.answer_ids[: n_lead + 1]))) & set(seen)


def test_answers_that_share_their_first_token() -> None:
    """Most answers begin alike and go on differently: the warning says so with numbers, unless all tokens count."""
    answers = [" coldab", " coldcd", " coldef", " wide"]
    samples = [Sample(prompt=f"2 + {i} ->", answer=answer) for i, answer in enumerate(answers)]
    warnings = encode_samples(samples, byte_fallback()).warnings
    assert sum(text.startswith("3 of 4 answers share their first token and differ behind it") for text in warnings) == 1
    for followed in ("all", None):
        quiet = encode_samples(samples, byte_fallback(), followed=followed).warnings  # type: ignore[arg-type]  # either
        assert not any("share" in text for text in quiet)
    same = [Sample(prompt=f"2 + {i} ->", answer=" coldab") for i in range(4)]
    assert not any("share" in text for text in encode_samples(same, byte_fallback()).warnings)


def test_encoded_answers_come_together() -> None:
    """An encoded sample lists its answers, the first one as well, and none where it has none."""
    assert EncodedSample(prompt_ids=(1,)).answers == ()
    answers = EncodedSample(prompt_ids=(1,), answer_ids=(2, 3), n_lead=1, n_blank=1).answers
    assert [(answer.ids, answer.n_lead, answer.n_blank) for answer in answers] == [((2, 3), 1, 1)]


def test_digits_of_the_embedded_default(smollm2: TracedModel) -> None:
    """SmolLM2's tokenizer parts a digit from its space: the digit is followed."""
    lead, followed = read_and_followed(smollm2.tokenizer, Sample(prompt="2 + 3 ->", answer=" 57"))
    assert (lead, followed) == (["Ġ"], "5")
