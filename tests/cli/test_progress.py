"""Progress, paths and tables."""

from __future__ import annotations

import errno
import io
import re
import shutil
import signal
import sys
import tempfile
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import RunError
from layertracer._types import keeping_interrupts_back
from layertracer.api import Trace, load_run
from layertracer.api._progress import telling_progress
from layertracer.cli._console import printable, say_table
from layertracer.cli._progress import PlainProgress, estimate_remaining_s, format_duration, showing_progress
from layertracer.cli._run_folder import default_run_folders, reserving, save_trace
from layertracer.cli._streams import forgiving_stderr
from layertracer.tracing import Progress

from tests.support.records.sample_records import make_record


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
    folder = next(default_run_folders(model, task, now=datetime(2026, 1, 2, 3, 4, 5)))  # noqa: DTZ001 - the wall clock
    assert folder.parent == Path("runs")
    assert re.fullmatch(r"[\w+][\w.+-]*-20260102-030405", folder.name, flags=re.ASCII)


def test_default_folder_is_new(in_folder: Path) -> None:
    """Two traces within one second go into two folders, also where the first one has not saved anything yet."""
    place = {"model": "m", "task": "t", "overwrite": False}
    with reserving(None, **place) as first, reserving(None, **place) as second:
        assert first.parent == second.parent == Path("runs")
        assert first != second
        assert not first.exists()
    assert list(in_folder.iterdir()) == []


def test_the_same_folder_is_not_promised_twice(in_folder: Path) -> None:
    """While one trace is going to save to a folder, another one that asks for it is refused."""
    place = {"model": "m", "task": "t", "overwrite": True}
    with (
        reserving(in_folder / "run", **place),
        pytest.raises(RunError, match=r"Another trace that is running is going to save its run to .*run\. Wait"),
        reserving(in_folder / "run", **place),
    ):
        pass


def test_default_folders_of_long_names_are_short_and_differ() -> None:
    """Names that make no file name together are cut, and stay apart; the time stays whole."""
    now = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the wall clock
    names = [next(default_run_folders("m" * 300 + end, "t", now=now)).name for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(name) <= 255 - len("-9999") and name.endswith("-20260102-030405") for name in names)


@pytest.mark.parametrize("blocked", [0, 1, 2])
def test_a_run_that_cannot_be_saved_is_rescued(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], blocked: int
) -> None:
    """Where a run cannot be saved, it goes beside its folder, else here, else among temporary files."""
    (in_folder / "temporary").mkdir()
    (in_folder / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(in_folder / "temporary"))
    monkeypatch.chdir(in_folder / "here")
    out = in_folder / "there" / "run"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("x")
    if blocked > 0:  # a file where the folder should be: whoever runs this, nothing can be made below it
        shutil.rmtree(out.parent)
        out.parent.write_text("x")
    trace = Trace.from_record(make_record())
    if blocked > 1:
        (in_folder / "here").rmdir()
    saved = save_trace(trace, out, overwrite=False)
    assert load_run(saved.run) == trace
    assert not saved.is_as_asked
    assert f"The run was saved to {saved.run} instead." in capsys.readouterr().err
    expected = (in_folder / "there", in_folder / "here", in_folder / "temporary")[blocked]
    assert expected in {saved.run.parent, saved.run.parent.parent}


def test_a_default_folder_that_was_taken_is_no_fault(in_folder: Path) -> None:
    """Where no very folder was asked for, one beside it is as good, and the command does not fail."""
    out = Path("runs") / "run"
    (in_folder / out).mkdir(parents=True)
    (in_folder / out / "notes.txt").write_text("x")
    trace = Trace.from_record(make_record())
    assert save_trace(trace, out, overwrite=False, is_asked=False).is_as_asked


@pytest.mark.usefixtures("interruptible")
def test_interrupts_wait_where_something_could_be_lost() -> None:
    """Ctrl-C passes before anything has begun and within the work, waits after it, and counts at the end."""

    def work() -> None:
        signal.raise_signal(signal.SIGINT)

    with keeping_interrupts_back(work) as gate:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        gate.has_begun = True
        gate.kept_back.clear()
    reached = []
    with pytest.raises(KeyboardInterrupt), keeping_interrupts_back(work) as gate:  # noqa: PT012 - what comes after, too
        gate.has_begun = True
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("after two in a row")
    assert reached == ["after two in a row"]
    with pytest.raises(KeyboardInterrupt), keeping_interrupts_back(work) as gate:  # noqa: PT012 - likewise
        gate.has_begun = True
        work()
        reached.append("never")
    assert len(reached) == 1
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


class _Lost(io.StringIO):
    """A terminal that is gone."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        """It was one."""
        return True

    def write(self, text: str) -> int:
        """Fail."""
        del text
        raise self.error

    def flush(self) -> None:
        """Fail."""
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("I/O operation on closed file."),
        UnicodeEncodeError("ascii", "─", 0, 1, "ordinal not in range(128)"),
    ],
    ids=["pipe", "terminal", "disk", "closed", "encoding"],
)
@pytest.mark.parametrize("term", ["dumb", "xterm"], ids=["lines", "bar"])
def test_a_lost_display_costs_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception, term: str) -> None:
    """Whatever standard error raises, progress goes on without a display, in the command and in Python."""
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", _Lost(error))
    with showing_progress() as display:
        display.begin("Tracing", "4 layers")
        display.note("Plan: one pass")
        display.advance(1, 2)
        display.advance(2, 2)
    with telling_progress(True, "Tracing") as advance:
        assert advance is not None
        advance(Progress(done=1, total=2))
        advance(Progress(done=2, total=2))
    with forgiving_stderr():
        sys.stderr.write("said by a model's own code")
        sys.stderr.flush()


@given(st.text())
def test_printable_has_no_control_character(text: str) -> None:
    """What is printed of a file's text holds no character that acts on a terminal."""
    harmless = {"\n", "\u200c", "\u200d"}
    shown = printable(text)
    assert all(char.isprintable() or char in harmless or unicodedata.category(char) == "Zs" for char in shown)


def test_tables_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns begin at one place, and numbers end at one."""
    say_table(("name", "n"), [("a", 5), ("long", 1234)])
    assert capsys.readouterr().out == "name     n\na        5\nlong  1234\n"
