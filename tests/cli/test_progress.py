"""Progress, paths and tables."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import RunError
from layertracer.api import Trace, load_run
from layertracer.cli._console import printable, say_table
from layertracer.cli._destination import default_run_folder, ignoring_interrupts, save_trace
from layertracer.cli._progress import PlainProgress, estimate_remaining_s, format_duration

from tests.sample_records import make_record


@given(done=st.integers(1, 1000), total=st.integers(1, 1000), elapsed_s=st.floats(0, 1e5))
def test_estimate_is_proportional(done: int, total: int, elapsed_s: float) -> None:
    """Time passed and time left stand to each other as work done and work left."""
    total = max(done, total)
    remaining_s = estimate_remaining_s(done, total, elapsed_s=elapsed_s)
    assert remaining_s is not None
    assert remaining_s * done == pytest.approx(elapsed_s * (total - done))


def test_no_estimate_before_anything_is_done() -> None:
    """Nothing done says nothing of the time left."""
    assert estimate_remaining_s(0, 10, elapsed_s=5.0) is None


@given(st.floats(0, 1e6))
def test_durations_add_up(seconds: float) -> None:
    """A duration for people is the duration, to the second below an hour and to the minute above."""
    units = {"h": 3600, "min": 60, "s": 1}
    text = format_duration(seconds)
    total = sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (h|min|s)", text))
    assert abs(total - seconds) <= (60 if "h" in text else 0.5)


def test_plain_progress_is_not_chatty(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand quick steps are three lines: the stage, the first step, the last one."""
    display = PlainProgress()
    display.begin("Tracing")
    for done in range(1, 1001):
        display.advance(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Tracing ..."
    assert lines[1].startswith("1 of 1000 prompts, 0 s, about ")
    assert lines[2] == "1000 of 1000 prompts, 0 s"
    assert len(lines) == 3


@given(st.text(max_size=30), st.text(max_size=30))
def test_default_folder_is_one_plain_name(model: str, task: str) -> None:
    """Whatever model and task are called, the run folder is one folder below `runs` with a plain name."""
    folder = default_run_folder(model, task, now=datetime(2026, 1, 2, 3, 4, 5))  # noqa: DTZ001 - the wall clock
    assert folder.parent == Path("runs")
    assert re.fullmatch(r"[\w+][\w.+-]*-20260102-030405", folder.name, flags=re.ASCII)


def test_default_folder_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two traces within one second go into two folders."""
    monkeypatch.chdir(tmp_path)
    now = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the wall clock
    first = default_run_folder("m", "t", now=now)
    first.mkdir(parents=True)
    assert default_run_folder("m", "t", now=now).name == f"{first.name}-2"


def test_a_run_that_cannot_be_saved_is_rescued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the folder was taken while the model ran, the run is saved elsewhere, and that is said."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("x")
    trace = Trace.from_record(make_record())
    saved = save_trace(trace, tmp_path / "run", overwrite=False)
    assert load_run(saved) == trace
    assert f"The run was saved to {saved} instead." in capsys.readouterr().err
    with pytest.raises(RunError, match="holds other things"):
        trace.save(tmp_path / "run")


@pytest.mark.usefixtures("interruptible")
def test_interrupts_are_ignored_for_a_moment() -> None:
    """A Ctrl-C while a run is saved does not stop it; afterwards Ctrl-C works again."""
    with ignoring_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@given(st.text())
def test_printable_has_no_control_character(text: str) -> None:
    """What is printed of a file's text holds no character that acts on a terminal."""
    assert all(char.isprintable() or char == "\n" for char in printable(text))


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns begin at one place, and numbers end at one."""
    say_table(("name", "n"), [("a", 5), ("long", 1234)])
    assert capsys.readouterr().out == "name     n\na        5\nlong  1234\n"
