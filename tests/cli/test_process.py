"""The command as a process: pipes, terminals, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layertracer import load_run

COMMAND = (sys.executable, "-m", "layertracer")
LONG = ("--shots", "2", "--limit", "all", "--draws", "20", "--scheme", "random", "--memory", "60MB")


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "60"}


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_keeps_what_is_finished(tiny: Path, tmp_path: Path) -> None:
    """After Ctrl-C the finished prompts are saved and reported, standard output is whole JSON, and the code is 130."""
    task = tmp_path / "many.jsonl"
    task.write_text(
        "".join(json.dumps({"prompt": f"hot cold {'big ' * (i % 40)}", "answer": " small"}) + "\n" for i in range(900))
    )
    process = subprocess.Popen(
        [*COMMAND, "trace", tiny, "--task", task, *LONG, "--out", tmp_path / "run", "--json"],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if " of 900 prompts" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, "".join(heard) + stderr
    run = load_run(tmp_path / "run")
    assert run.status == "interrupted"
    assert 0 < run.n_prompts < run.n_requested == 900
    ending = f"Interrupted: {run.n_prompts} of 900 prompts were finished, and are saved in {tmp_path / 'run'}"
    assert stderr.rstrip().endswith(ending)
    assert json.loads(stdout)["status"] == "interrupted"
    assert (tmp_path / "run" / "report.html").exists()


def test_a_terminal_shows_a_bar_and_the_pipe_stays_clean(tiny: Path, pairs: Path, tmp_path: Path) -> None:
    """On a terminal progress moves on standard error, while standard output in a pipe has no control character."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "trace", tiny, "--task", pairs, "--shots", "1", "--limit", "3", "--no-report"],
        cwd=tmp_path,
        env=_environment() | {"TERM": "xterm-256color"},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux: the other end was closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 0, shown.decode()
    assert b"\x1b[" in shown
    assert b"Tracing tiny-llama on pairs" in shown
    assert "Vulnerable layer" in stdout
    assert all(char.isprintable() or char == "\n" for char in stdout)
    assert max(len(line) for line in stdout.splitlines()[:-1]) <= 60


def test_a_reader_that_leaves_early_is_no_bug() -> None:
    """`layertracer tasks | head -1` prints no traceback and no report of a bug."""
    process = subprocess.Popen(
        [*COMMAND, "tasks", "--show", "antonym", "--limit", "all"],
        env=_environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait(timeout=60)
    assert process.returncode in {0, 1}


def test_a_terminal_without_unicode(stored_run: Path, tmp_path: Path) -> None:
    """Where the terminal knows only ASCII, the summary is ASCII."""
    done = subprocess.run(
        [*COMMAND, "report", stored_run, "--out", tmp_path / "x.html"],
        env=_environment() | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii()
    assert b"Task particle" in done.stdout
