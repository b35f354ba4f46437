"""Text of files in messages, log lines and warnings: its control characters are escapes."""

from __future__ import annotations

import logging
import traceback
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._errors import ModelLoadError, UnknownNameError, UsageError, printable, printable_cause, printable_name
from layertracer.cli._library_messages import escape_library_messages
from layertracer.reports._values.visible import visible_line, visible_text

from tests.support.checkpoints.hostile import ESCAPE

FLOOD = "e" + "\u0301" * 500
HOSTILE = f"{ESCAPE}\x07\x08\x85\u200b\u2066\ud800{FLOOD}"


@given(st.text(st.characters(codec=None)))
def test_printable_is_harmless_and_final(text: str) -> None:
    """No control, format or surrogate character but line feed is left, and a second call changes nothing."""
    shown = printable(text)
    harmless = shown.replace("\n", "").replace("\u200c", "").replace("\u200d", "")
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in harmless)
    assert printable(shown) == shown
    assert "\n" not in printable_name(text)


def test_languages_stay_readable() -> None:
    """Letters, accents and scripts of languages are shown as they are; accents without end are not."""
    text = "naïve e\u0301 क्षि שלום 中文 🙂"
    assert printable(text) == text
    assert printable(FLOOD).count("\u0301") == 16


@pytest.mark.parametrize(
    "text",
    [
        "လျှော့ မျှော်",
        "བསྒྲུབས་ ཨོཾ་མ་ཎི་པདྨེ་ཧཱུྃ",
        "می\u200cخواهم",
        "ශ්\u200dරී",
        "क\u094d\u200dष र\u094d\u200d",
        "東京\u3000大阪",
        "Quoi\u00a0? 10\u202f%",
        "👨\u200d👩\u200d👧 👩🏽\u200d💻 🏳\ufe0f\u200d🌈 ❤\ufe0f",
        "สวัสดี ที่นี่",
        "e\u0323\u0302\u0301",
    ],
)
def test_scripts_and_emoji_are_shown_as_they_are(text: str) -> None:
    """Syllables of any script, joiners where they join, spaces of any width and emoji are shown as they are."""
    assert printable(text) == text
    assert printable_name(text) == text
    assert visible_text(text) == visible_line(text) == text


@pytest.mark.parametrize(
    "text", ["a\u200db", "\u200d", "क\u200d\u200dष", "x\u200c", "\u200bक", "क\u2060ष", "क\u200d\u202e"]
)
def test_joiners_that_join_nothing_are_escaped(text: str) -> None:
    """Joiners between letters that are never joined, and other characters without width, are escaped."""
    shown = printable(text)
    assert shown != text
    assert printable(shown) == shown
    assert "\\u20" in shown


def test_marks_without_end_are_escaped_beside_joiners() -> None:
    """Joiners between marks do not begin a new letter."""
    shown = printable("क" + "\u0301\u200d" * 100)
    assert shown.count("\u0301") < 17
    assert printable(shown) == shown


def test_causes_of_errors_are_harmless() -> None:
    """A traceback shows what another library raised, and what was behind that, with escapes and their own names."""

    class OddError(ValueError):
        pass

    def fail() -> None:
        try:
            try:
                raise KeyError(HOSTILE)
            except KeyError as error:
                raise OddError(f"odd {HOSTILE}") from error
        except OddError as error:
            raise ModelLoadError("x") from printable_cause(error)

    with pytest.raises(ModelLoadError, match="x") as caught:
        fail()
    lines = "".join(traceback.format_exception(caught.value))
    assert printable(lines) == lines
    assert "OddError: odd \\x1b]52" in lines
    assert "KeyError" in lines
    assert "in fail" in lines


def test_a_harmless_cause_stays_itself() -> None:
    """An error whose text is harmless is the cause itself, with its type; one whose text fails is none of a problem."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = ValueError("plain")
    assert printable_cause(error) is error
    assert isinstance(printable_cause(MuteError()), MuteError)


def test_messages_of_errors_are_harmless() -> None:
    """An error that quotes a hostile name says it with escapes, whatever kind it is."""
    for kind in (ModelLoadError, UsageError):
        assert printable(str(kind(f"x {HOSTILE} y"))) == str(kind(f"x {HOSTILE} y"))
        assert "\x1b" not in str(kind(HOSTILE))
    near = UnknownNameError.among("model", "evil", [f"evil{HOSTILE}"])
    assert str(near).isprintable()


def test_log_lines_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """LayerTracer's log writes control characters as escapes, in the message and in its arguments."""
    logging.getLogger("layertracer").warning("%s: %s", HOSTILE, 5)
    assert printable(caplog.text) == caplog.text
    assert "\\x1b]52" in caplog.text


def test_libraries_write_escapes_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Log lines and warnings of libraries that quote hostile names hold no control characters."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    previous = logging.getLogRecordFactory()
    try:
        escape_library_messages()
        logging.getLogger("some.library").warning("%s is evil", HOSTILE)
        shown = warnings.formatwarning(HOSTILE, UserWarning, f"{ESCAPE}.py", 3)
    finally:
        logging.setLogRecordFactory(previous)
    assert printable(caplog.text) == caplog.text
    assert printable(shown) == shown
