"""How `layertracer trace` ends: whatever comes after the last prompt, the run is stored and called what it is."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import layertracer as lt
from layertracer import load_run
from layertracer._types import InterruptGate
from layertracer.cli._commands import trace as _trace
from layertracer.cli._progress import PlainProgress

from tests.cli.conftest import call
from tests.support.interruptions import interrupting
from tests.support.records.sample_records import make_record

COMMAND = (sys.executable, "-m", "layertracer")
SMALL = ("--shots", "1", "--limit", "4", "--draws", "2", "--mask-fraction", "0.5")
SETTINGS: dict[str, Any] = {"overwrite": False, "out": Path("run"), "no_report": True, "as_json": True}


def _end(trace: lt.Trace, settings: dict[str, Any], *, line: int) -> int:
    """Let a trace end, interrupted at a line after its last prompt; the number of lines there were."""
    context = click.Context(_trace.trace_command)

    def run(*, gate: InterruptGate, display: object) -> lt.Trace:
        del gate, display
        return trace

    gate = InterruptGate(within=None)
    with interrupting(line) as moment:
        _trace._trace_and_finish(context, gate, run, settings["out"], settings)
    return moment.n_seen


def _after(trace: lt.Trace, settings: dict[str, Any]) -> int:
    """Lines until the trace is what `run` returned: before that nothing can be kept."""
    count = 0
    while True:
        count += 1
        with pytest.raises(KeyboardInterrupt):
            _end(trace, settings, line=count)
        if settings["out"].exists():
            return count


def test_ctrl_c_at_any_moment_after_the_last_prompt_keeps_the_run(
    in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Interrupted at lines drawn evenly from the whole end of a command: the run lies where it was asked for, whole."""
    trace = lt.Trace.from_record(make_record(n_prompts=3, n_layers=3))
    n_lines = _end(trace, SETTINGS, line=0)
    assert load_run("run") == trace
    first = _after(trace, SETTINGS | {"out": in_folder / "first"})
    assert first < 60
    for number, line in enumerate(range(first, n_lines, max(1, n_lines // 30))):
        out = in_folder / f"run{number}"
        with contextlib.suppress(KeyboardInterrupt):  # saving takes it for said and goes on
            _end(trace, SETTINGS | {"out": out}, line=line)
        assert load_run(out) == trace, line
    assert not [path.name for path in in_folder.iterdir() if path.name.startswith(".")]
    assert "Warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), SystemExit(1)], ids=repr
)
def test_a_lost_display_leaves_no_trace(
    tiny: Path, pairs: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Where progress cannot be shown any more, the run is complete, without a note, and the command ends well."""

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(PlainProgress, "advance", fail)
    result = call("trace", tiny, "--task", pairs, *SMALL, "--out", "run", "--json", "--no-report")
    assert result.exit_code == 0, result.stderr
    run = load_run(in_folder / "run")
    assert (run.status, run.error, run.n_prompts) == ("complete", None, 4)
    assert not any(type(error).__name__ in warning for warning in run.warnings)


@pytest.mark.usefixtures("in_folder")
def test_a_report_that_fails_keeps_nobody_from_the_numbers(
    tiny: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is saved and called complete, the summary is printed, then the error is said, and the code is 1."""

    def fail(_trace: lt.Trace, path: Path) -> Path:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(lt.Trace, "report", fail)
    result = call("trace", tiny, "--task", pairs, *SMALL, "--out", "run", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["status"], document["run"], document["report"]) == ("complete", "run", None)
    assert load_run("run").status == "complete"
    assert result.stderr.endswith(
        "Error: run/report.html: No space left on device. Check the path, its permissions, and the room on the disk.\n"
        "The run is saved in run\n"
    )


def _start(tiny: Path, pairs: Path, folder: Path, *options: str, **streams: Any) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "trace", tiny, "--task", pairs, *SMALL, "--out", "run", "--no-report", *options]
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"}, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_cannot_be_written_cost_nothing(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    """Standard output on a full device and standard error in a pipe that nobody reads: the run is stored, complete."""
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("w") as full:
        process = _start(tiny, pairs, tmp_path, stdout=full, stderr=write)
    os.close(write)
    assert process.wait(timeout=120) == 1
    run = load_run(tmp_path / "run")
    assert (run.status, run.n_prompts) == ("complete", 4)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_terminal_that_is_closed_is_an_interruption(tiny: Path, tmp_path: Path) -> None:
    """A terminal closed midway sends SIGHUP: what is finished is stored, and the code is 129; nothing else is left."""
    task = tmp_path / "many.jsonl"
    task.write_text(
        "".join(json.dumps({"prompt": f"hot {'big ' * (i % 40)}", "answer": " small"}) + "\n" for i in range(900))
    )
    master, slave = pty.openpty()
    options = ("--limit", "all", "--draws", "80", "--scheme", "random", "--memory", "70MB")
    process = _start(tiny, task, tmp_path, *options, stdin=slave, stdout=slave, stderr=slave, preexec_fn=_take_terminal)
    os.close(slave)
    shown = b""
    try:
        while not re.search(rb"[1-9]\d*/900", shown):
            assert process.poll() is None, shown.decode(errors="replace")
            shown += os.read(master, 65536)
        os.close(master)
        assert process.wait(timeout=120) == 129
    finally:
        process.kill()
        process.wait()
    run = load_run(tmp_path / "run")
    assert run.status == "interrupted"
    assert 0 < run.n_prompts < 900
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def _take_terminal() -> None:
    """Make standard input the controlling terminal, as a login does, whatever the tests themselves ignore (nohup)."""
    import fcntl
    import termios

    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
