"""A finished trace whose place is lost: it goes where it can go, and what is said is the true cause."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import layertracer as lt
from layertracer import load_run
from layertracer.cli import _exit_codes as _boundary
from layertracer.cli._run_folder import reserving, save_trace
from layertracer.runs import REPORT_FILE, claim_folder, write_file
from layertracer.runs._folders.siblings import FILE, claim_of, sibling_of

from tests.cli.conftest import call
from tests.support.records.sample_records import make_record


@pytest.fixture
def trace() -> lt.Trace:
    """A finished trace."""
    return lt.Trace.from_record(make_record(n_prompts=2, n_layers=3))


@pytest.fixture
def lost_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder that was removed."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()


@pytest.mark.usefixtures("lost_folder")
@pytest.mark.parametrize("place", ["temporary", "home"])
@pytest.mark.parametrize("folder", [Path("runs/first"), Path("first")], ids=str)
def test_a_run_outlives_its_working_folder(
    trace: lt.Trace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    folder: Path,
) -> None:
    """Every place is tried: among temporary files, and at home where nothing temporary can be written."""
    temporary, home = tmp_path / "temporary", tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if place == "temporary":
        temporary.mkdir()
    saved = save_trace(trace, folder, overwrite=False, is_asked=False)
    assert saved.run.is_relative_to(tmp_path / place)
    assert not saved.is_as_asked
    assert load_run(saved.run) == trace
    said = capsys.readouterr().err
    assert "the current folder, to which it is relative, is gone" in said
    assert f"The run was saved to {saved.run} instead." in said


def _loop(folder: Path) -> None:
    folder.symlink_to(folder.name)


@pytest.mark.parametrize("make", [_loop, Path.touch], ids=["a circle of links", "a file"])
def test_a_run_outlives_a_folder_above_its_own(
    trace: lt.Trace, in_folder: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    """A folder above that leads nowhere any more costs nothing: the run goes into the current one, as is said."""
    asked = in_folder / "above" / "below" / "run"
    with reserving(asked, model="m", task="t", overwrite=False) as out:
        shutil.rmtree(in_folder / "above")
        make(in_folder / "above")
        saved = save_trace(trace, out, overwrite=False)
    assert saved.run == in_folder / "run-rescued"
    assert load_run(saved.run) == trace
    assert "claim" not in capsys.readouterr().err


@pytest.mark.usefixtures("lost_folder")
def test_a_relative_path_without_a_working_folder_is_an_error_in_words(trace: lt.Trace) -> None:
    """In Python too: saving, loading, verifying and reporting say that the current folder is gone."""
    for action in (trace.save, load_run, lt.verify_run, trace.report):
        with pytest.raises(lt.RunError, match=r"the current folder, to which it is relative, is gone"):
            action("run")


@pytest.mark.usefixtures("in_folder")
def test_a_home_that_nobody_knows_is_an_error_in_words(trace: lt.Trace, tiny: Path, pairs: Path) -> None:
    """~NAME of no user is refused with what to write instead, before anything is computed."""
    result = call("trace", tiny, "--task", pairs, "--out", "~nobody-of-that-name/run")
    assert result.exit_code == 1
    assert "begins with ~nobody-of-that-name, and the system knows no home folder for that" in result.stderr
    for action in (trace.save, load_run, lt.verify_run):
        with pytest.raises(lt.UsageError, match="knows no home folder"):
            action("~nobody-of-that-name/run")


@pytest.mark.parametrize("asked", [".", "..", "../link"])
def test_the_current_folder_is_not_exchanged(
    trace: lt.Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """The current folder and those above it are refused before anything is computed, empty or a run to be replaced."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    if asked == "..":
        here = trace.save(tmp_path / "run") / "below"
        here.mkdir()
    monkeypatch.chdir(here)
    for action in (lambda: claim_folder(Path(asked), overwrite=True), lambda: trace.save(asked, overwrite=True)):
        with pytest.raises(lt.RunError, match=r"is the folder that you are in, or one above it"):
            action()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "circle"])
def test_a_claim_that_cannot_be_locked_keeps_nobody_out(
    trace: lt.Trace, in_folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Whatever lies where the claim should be: nothing waits for it, it stays, the run is saved, and a note is said."""
    mark = claim_of(in_folder / "run")
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: os.symlink("/dev/null", path), "circle": _loop}
    make[kind](mark)
    with reserving(in_folder / "run", model="m", task="t", overwrite=False) as out:
        assert save_trace(trace, out, overwrite=False).is_as_asked
    assert os.path.lexists(mark)
    assert load_run(out) == trace
    assert f"Note: {mark} cannot be locked" in capsys.readouterr().err


def test_a_claim_that_cannot_be_removed_is_left(in_folder: Path) -> None:
    """Letting go never fails: the mark is gone, or its folder is something else by now."""
    for path in (in_folder / "a" / "run", in_folder / "b" / "run"):
        claim = claim_folder(path, overwrite=False)
        assert claim is not None
        shutil.rmtree(path.parent)
        if path.parent.name == "b":
            path.parent.touch()
        claim.release()


def test_a_page_never_takes_the_place_of_a_runs_data(stored_run: Path, in_folder: Path) -> None:
    """Every page, table and figure refuses a run's own names in its folder, through links and in any letters."""
    shutil.copytree(stored_run, "run")
    Path("linked").symlink_to("run")
    Path("page.html").symlink_to("run/run.json")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    run = load_run("run")
    comparison = lt.compare([run, run], labels=["a", "b"])
    for write in (run.report, comparison.report, comparison.to_csv, lambda path: write_file(Path(path), b"")):
        for path in (
            "run/run.json",
            "run/Layers.PARQUET",
            "linked/tokens.parquet",
            "page.html",
            in_folder / "run/run.json",
        ):
            with pytest.raises(lt.UsageError, match=r"is a file of the run in .*run, which would be lost"):
                write(path)
    for command in (
        ("report", "run", "--out", "run/run.json"),
        ("compare", "run", "run", "--csv", "run/layers.parquet"),
    ):
        result = call(*command)
        assert result.exit_code == 1
        assert "which would be lost" in result.stderr
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    run.report("run/index.html")
    run.report("run.json")  # no run lies here


def test_what_a_killed_report_left_is_removed(trace: lt.Trace, in_folder: Path) -> None:
    """By the next report, and by the next run that is saved there."""
    path = trace.save("run")
    for action in (lambda: trace.report(path / REPORT_FILE), lambda: trace.save(path, overwrite=True)):
        sibling_of(in_folder / path / REPORT_FILE, FILE).write_bytes(b"half a page")
        action()
        assert not [entry.name for entry in path.iterdir() if entry.name.startswith(".")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_called_so(stored_run: Path) -> None:
    """No path is blamed where it is standard output that has no room."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "layertracer", "verify", stored_run, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Standard output: No space left on device. Check where it leads to")


def test_where_a_run_lies_is_said_where_nobody_reads_the_numbers(in_folder: Path) -> None:
    """A pipe without a reader ends the command silently, except that a run that was saved is named."""

    @click.pass_context
    def fail(context: click.Context) -> None:
        _boundary.explain_kept(context, f"The run is saved in {in_folder / 'run'}")
        raise BrokenPipeError(32, "Broken pipe")

    group = _boundary.CommandLine("group", commands={"fail": click.Command("fail", callback=fail)})
    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (1, f"The run is saved in {in_folder / 'run'}\n")
