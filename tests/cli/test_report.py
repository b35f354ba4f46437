"""`layertracer report`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from layertracer.runs import HEADER_FILE, save_run

from tests.cli.conftest import call
from tests.support.records.sample_records import make_record


def test_report_is_written_into_the_run(stored_run: Path, tmp_path: Path) -> None:
    """Without options the report lies in the run folder, and the summary is printed."""
    run = Path(shutil.copytree(stored_run, tmp_path / "run"))
    result = call("report", run)
    assert result.exit_code == 0, result.stderr
    assert (run / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert "Task particle" in result.stdout
    assert f"Report   {run / 'report.html'}" in result.stdout


def test_report_can_be_written_elsewhere(stored_run: Path, tmp_path: Path) -> None:
    """--out says where the report goes, and the run folder is left alone."""
    result = call("report", stored_run, "--out", tmp_path / "new" / "x.html")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "new" / "x.html").exists()
    assert not (stored_run / "report.html").exists()


@pytest.mark.parametrize(("format_name", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_for_a_paper(stored_run: Path, tmp_path: Path, format_name: str, magic: bytes) -> None:
    """--figures writes files of the format asked for, and no report unless --out asks for one too."""
    result = call("report", stored_run, "--figures", tmp_path / "figures", "--format", format_name)
    assert result.exit_code == 0, result.stderr
    files = list((tmp_path / "figures").iterdir())
    assert files
    for file in files:
        assert file.suffix == f".{format_name}"
        assert file.read_bytes().startswith(magic)
        assert str(file) in result.stdout
    assert not (stored_run / "report.html").exists()


def test_report_as_json(stored_run: Path, tmp_path: Path) -> None:
    """--json prints one document with the answers and the files written."""
    result = call("report", stored_run, "--json", "--out", tmp_path / "x.html")
    document = json.loads(result.stdout)
    assert document["report"] == str(tmp_path / "x.html")
    assert document["figures"] == []
    assert document["vulnerable_layer"]["layer"] == 0


def test_report_of_a_failed_run(tmp_path: Path) -> None:
    """A run that failed before its first prompt has a report and a summary that say so."""
    run = save_run(make_record(n_prompts=0, status="failed", n_requested=8), tmp_path / "run")
    result = call("report", run)
    assert result.exit_code == 0, result.stderr
    assert "NaN after layer 3" in " ".join(result.stdout.split())


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_run_is_one_message(stored_run: Path, tmp_path: Path, damage: str) -> None:
    """A damaged run ends with 1 and the name of the file; nothing is written."""
    run = Path(shutil.copytree(stored_run, tmp_path / "run"))
    table = run / "layers.parquet"
    table.unlink() if damage == "missing" else table.write_bytes(b"PAR1")
    result = call("report", run)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "layers.parquet cannot be used" in result.stderr
    assert not (run / "report.html").exists()


def test_no_run_is_one_message(tmp_path: Path) -> None:
    """A path at which no run lies ends with 1."""
    result = call("report", tmp_path / "absent")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no run at ")


def test_out_that_is_a_folder_is_one_message(stored_run: Path, tmp_path: Path) -> None:
    """--out must be a file."""
    result = call("report", stored_run, "--out", tmp_path)
    assert result.exit_code == 1
    assert "it is a folder" in result.stderr


def test_hostile_text_cannot_reach_the_terminal(tmp_path: Path) -> None:
    """Texts of a model and a task print no control character."""
    run = save_run(make_record(hostile=True), tmp_path / "run")
    result = call("report", run)
    assert result.exit_code == 0, result.stderr
    assert all(char.isprintable() or char == "\n" for char in result.stdout)
    assert (run / HEADER_FILE).exists()
