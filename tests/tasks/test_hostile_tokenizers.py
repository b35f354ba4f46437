"""Tokenizers of strangers: what panics or never ends is an error that names the tokenizer, and loses no trace."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from layertracer._errors import LayerTracerError, TaskError
from layertracer._types import LibraryPanicError, Sample, panics_as_errors
from layertracer.models._tokenizers import text_growth as _text_growth
from layertracer.models._tokenizers.steps import is_whole_charsmap, refuse_unbounded_steps
from layertracer.models._tokenizers.text_growth import find_growth
from layertracer.tasks import encode_samples, show_tokens
from layertracer.tracing import token_texts

from tests.support.checkpoints.hostile import ESCAPE, PANIC_REGEX, SLOW_REGEX
from tests.support.tokenizers import byte_fallback, digits_apart, word_pieces


def _make(**parts: Any) -> PreTrainedTokenizerFast:
    words = {"[UNK]": 0, "a": 1, f"b{ESCAPE}": 2, "\x00\u0301" * 50: 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", name_or_path=f"them/evil{ESCAPE}")


def test_a_panic_while_reading_is_an_error_with_the_tokenizer() -> None:
    """A panic of the library written in Rust, which no `except Exception` sees, is a task error with its reason."""
    tokenizer = _make(pre_tokenizer=pre_tokenizers.Split(Regex(PANIC_REGEX), "isolated"))
    with pytest.raises(TaskError, match=r"of them/evil\\x1b.*cannot read 1 text.*retry-limit-in-match over") as caught:
        encode_samples([Sample(prompt="a" * 40 + "!", answer="a")], tokenizer)
    assert str(caught.value).isprintable()


def test_a_regex_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading that does not come to an end is given up, since it leaves Python's lock."""
    from layertracer.tasks._tokens import tokenizer as _tokenizer

    monkeypatch.setattr(_tokenizer, "_READING_S", 0.3)
    monkeypatch.setattr(_tokenizer, "_CHARACTERS_PER_S", 1e9)
    tokenizer = _make(pre_tokenizer=pre_tokenizers.Split(Regex(SLOW_REGEX), "isolated"))
    began_s = time.monotonic()
    with pytest.raises(TaskError, match="did not come to an end"):
        encode_samples([Sample(prompt="a" * 1000 + "\n\x00", answer="a")], tokenizer)
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"decoder": decoders.Replace(Regex(SLOW_REGEX), "")}, "regular expression with repetitions in its decoder"),
        ({"decoder": decoders.Sequence([decoders.Replace("a", "a" * 40)] * 3)}, "64,000|6.4e.04 times as long"),
        ({"normalizer": normalizers.Sequence([normalizers.Replace("a", "aa")] * 40)}, "1.1e.12 times as long"),
        ({"normalizer": normalizers.Replace(Regex(""), "a" * 5000)}, "5e.03 times as long"),
        ({"normalizer": normalizers.Prepend("a" * 5000)}, "5e.03 times as long"),
    ],
)
def test_steps_without_bounds_are_refused(parts: dict[str, Any], message: str) -> None:
    """Steps that could run for ever or fill the memory, where nothing would stop them, are refused at load."""
    with pytest.raises(LayerTracerError, match=message):
        refuse_unbounded_steps(_make(**parts), "them/evil")


def test_tokenizers_of_real_models_pass() -> None:
    """Steps that real tokenizers have are no reason to refuse them."""
    for tokenizer in (digits_apart(), byte_fallback(), word_pieces()):
        refuse_unbounded_steps(tokenizer, "real")
    cleaning = normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), "\u2581"), normalizers.Replace("``", '"')])
    refuse_unbounded_steps(_make(normalizer=cleaning, decoder=decoders.Metaspace()), "real")
    refuse_unbounded_steps(object(), "a tokenizer in Python")


ONE_FOR_ONE = (
    *(("[\u201c\u201d«»]", '"'), ("[\u2018\u2019]", "'"), ("[\u2013\u2014]", "-"), ("\u00a0", " "), ("\t", " ")),
    *(("\u2022", "-"), ("\u00d7", "x"), ("\u2212", "-"), ("\u2044", "/"), ("\u2026", "."), ("[«]", "<"), ("\\n", " ")),
)
GERMAN = (
    *(("\u2026", "..."), ("\u2014", "--"), ("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe")),
    *(("Ü", "Ue"), ("ß", "ss"), ("ﬁ", "fi"), ("ﬂ", "fl"), ("½", " 1/2 "), ("€", "Euro"), ("%", " percent ")),
)
SPACED = tuple((mark, f" {mark} ") for mark in ".,;:!?()[]")


@pytest.mark.parametrize("pairs", [ONE_FOR_ONE, GERMAN, SPACED, SPACED + GERMAN + SPACED])
@pytest.mark.parametrize("kind", [str, Regex])
def test_replacements_that_do_not_compound_pass(pairs: tuple[tuple[str, str], ...], kind: Any) -> None:
    """Many replacements that lengthen a text a few times, or not at all, are no reason to refuse a tokenizer."""
    if kind is Regex:
        pairs = tuple((re.escape(old) if len(old) == 1 else old, new) for old, new in pairs)
    steps = normalizers.Sequence([normalizers.Replace(kind(old), new) for old, new in pairs])
    assert len(steps.normalize_str("\u201chot\u201d \u2013 ä.!% ")) < 100
    refuse_unbounded_steps(_make(normalizer=steps), "real")


def test_what_compounds_is_measured() -> None:
    """Steps whose bound is far off, since what they look for never meets, are measured and pass."""
    words = [(f"{letter}z", f"{letter}{letter}{letter}z"[::-1]) for letter in "abcdefghijklmnopq"]
    steps = [{"type": "Replace", "pattern": {"String": old}, "content": new} for old, new in words]
    assert _text_growth._bound(steps) > 1000
    assert find_growth(steps, "normalizer", at_most=1000) < 10


@pytest.mark.parametrize("pattern", [" {2,}", r"\s+", "^ ", r"\s*([,.])\s*", "(?:ab){2}", "[a-z]+[0-9]?"])
def test_linear_regexes_in_decoders_pass(pattern: str) -> None:
    """A regular expression whose repetitions stand one by one is no reason to refuse a decoder."""
    steps = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(Regex(pattern), " ")])
    refuse_unbounded_steps(_make(decoder=steps), "real")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?:.{1,3}){1,14}x", "(a|b*)*c", ".*.*.*.*x", r"(\w+\s?)*!"])
def test_regexes_that_explode_are_refused_in_decoders(pattern: str) -> None:
    """A regular expression with repetitions in repetitions, or many beside one another, is refused in a decoder."""
    with pytest.raises(LayerTracerError, match="regular expression with repetitions in its decoder"):
        refuse_unbounded_steps(_make(decoder=decoders.Replace(Regex(pattern), "")), "them/evil")


@pytest.mark.parametrize(
    ("rules", "is_whole"),
    [(b"", False), (b"\xff" * 99, False), ((8).to_bytes(4, "little") + bytes(8) + b"h\0", True), (bytes(4), True)],
)
def test_compiled_rules_hold_what_they_say(rules: bytes, is_whole: bool) -> None:
    """Rules whose table is larger than they are would take as much memory as they say."""
    assert is_whole_charsmap(rules) is is_whole


class Panicking:
    """A tokenizer whose every method panics as one in Rust does."""

    def decode(self, ids: list[int], **_: Any) -> str:
        """No text."""
        del ids
        _panic()
        return ""

    batch_decode = decode
    convert_ids_to_tokens = decode


def _panic() -> None:
    tokenizer = _make(pre_tokenizer=pre_tokenizers.Split(Regex(PANIC_REGEX), "isolated"))
    tokenizer.backend_tokenizer.encode("a" * 40 + "!")


def test_a_panic_while_a_record_is_built_costs_its_texts_only() -> None:
    """Where the tokenizer panics on tokens after all is measured, they are shown by their ids."""
    assert token_texts(Panicking(), [5, 9]) == {5: "5", 9: "9"}


def test_a_tokenizer_without_an_end_costs_its_texts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing tokens as text does not come to an end, they are shown by their ids."""
    from layertracer.tracing import _record

    class Endless(Panicking):
        def batch_decode(self, ids: list[list[int]], **_: Any) -> list[str]:
            while True:
                del ids[1:]

    monkeypatch.setattr(_record, "_TEXTS_S", 0.2)
    assert token_texts(Endless(), [5, 9]) == {5: "5", 9: "9"}


def test_too_few_texts_cost_no_trace() -> None:
    """A tokenizer that gives fewer texts than it was asked for is asked for one at a time."""

    class Few(Panicking):
        def batch_decode(self, ids: list[list[int]], **_: Any) -> list[str]:
            return ["x"] * (len(ids) - 1)

        def decode(self, ids: list[int], **_: Any) -> str:
            return f"<{ids[0]}>"

    assert token_texts(Few(), [5, 9]) == {5: "<5>", 9: "<9>"}


def test_tokens_are_shown_without_control_characters() -> None:
    """What a vocabulary spells is shown with its control characters as escapes."""
    tokenizer = _make()
    encoded = encode_samples([Sample(prompt_ids=(1, 2, 3), answer_id=1)], tokenizer).samples[0]
    assert all(text.isprintable() for text in show_tokens(encoded, tokenizer))


def test_interruptions_are_no_panics() -> None:
    """Ctrl-C passes by what turns panics into errors."""
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt
    with pytest.raises(LibraryPanicError, match="retry-limit"), panics_as_errors():
        _panic()
