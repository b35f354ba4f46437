"""Text of files in messages, log lines and warnings: its control characters are escapes."""

from __future__ import annotations

import logging
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._errors import ModelLoadError, UnknownNameError, UsageError, printable, printable_name
from layertracer.cli._library_messages import escape_library_messages

from tests.hostile_checkpoints import ESCAPE

FLOOD = "e" + "\u0301" * 500
HOSTILE = f"{ESCAPE}\x07\x08\x85\u200b\u2066\ud800{FLOOD}"


@given(st.text(st.characters(codec=None)))
def test_printable_is_harmless_and_final(text: str) -> None:
    """No control, format or surrogate character but line feed is left, and a second call changes nothing."""
    shown = printable(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown.replace("\n", ""))
    assert printable(shown) == shown
    assert "\n" not in printable_name(text)


def test_languages_stay_readable() -> None:
    """Letters, accents and scripts of languages are shown as they are; accents without end are not."""
    text = "naïve e\u0301 क्षि שלום 中文 🙂"
    assert printable(text) == text
    assert printable(FLOOD).count("\u0301") == 16


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
