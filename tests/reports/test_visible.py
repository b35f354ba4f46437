"""Text of models and files, made visible."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer.reports._values.visible import (
    isolate,
    shorten,
    shorten_middle,
    visible_line,
    visible_text,
    visible_token,
)

ANY_TEXT = st.text(st.characters(), max_size=60)
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(ANY_TEXT)
def test_no_hidden_character_is_left(text: str) -> None:
    """No control, format, surrogate or separator character remains, except line feed and tab in running text."""
    shown = _without_joiners(visible_text(text))
    assert not {unicodedata.category(char) for char in shown} & HIDDEN - {"Cc"}
    assert all(char in "\n\t" for char in shown if unicodedata.category(char) == "Cc")
    for shown in (visible_line(text), visible_token(text)):
        assert not {unicodedata.category(char) for char in _without_joiners(shown)} & HIDDEN


def _without_joiners(text: str) -> str:
    """The text without the characters that may stand between letters, which are checked by `printable`'s tests."""
    return text.replace("\u200c", "").replace("\u200d", "")


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=60))
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Letters, digits, punctuation and symbols come back as they were."""
    assert visible_text(text) == visible_line(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" cold", "␣cold"),
        ("\n\n", "⏎⏎"),
        ("\t", "⇥"),
        ("", "∅"),
        ("\x00\x1b", "␀␛"),
        ("\x7f\x85", "␡⟨U+0085⟩"),
        ("\u202eabc\u200f", "⟨U+202E⟩abc⟨U+200F⟩"),
        ("\u0301", "◌\u0301"),
        ("\u00a0\ufeff", "⟨U+00A0⟩⟨U+FEFF⟩"),
        ("\u3000", "⟨U+3000⟩"),
        ("\u200d", "⟨U+200D⟩"),
        ("a\ufe0f", "a⟨U+FE0F⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\ufffd", "\ufffd"),
    ],
)
def test_a_token_shows_what_it_holds(text: str, shown: str) -> None:
    """White space, control characters, direction marks and lone accents have a visible form."""
    assert visible_token(text) == shown


def test_right_to_left_letters_are_fenced() -> None:
    """A label with Hebrew or Arabic letters cannot reorder its neighbours; others stay as they are."""
    assert isolate("שלום") == "\u2068שלום\u2069"
    assert isolate("cold") == "cold"


@given(ANY_TEXT, st.integers(2, 80))
def test_shortened_text_keeps_to_its_limit(text: str, limit: int) -> None:
    """A shortened text is no longer than asked, and unchanged where it fits."""
    assert len(shorten(text, limit)) <= limit
    assert shorten(text, max(len(text), 2)) == text


def test_a_long_prompt_keeps_both_ends_and_says_what_is_missing() -> None:
    """The middle of a long text is replaced by the number of characters left out."""
    shown = shorten_middle("a" * 600 + "b" * 600, 100)
    assert shown == f"{'a' * 50} … 1,100 characters left out … {'b' * 50}"
