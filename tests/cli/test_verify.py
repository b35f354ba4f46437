"""`layertracer verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import call


@pytest.fixture
def altered(stored_run: Path, tmp_path: Path) -> Path:
    """A run with two damaged files."""
    run = Path(shutil.copytree(stored_run, tmp_path / "altered"))
    (run / "layers.parquet").write_bytes(b"PAR1")
    (run / "tokens.parquet").unlink()
    return run


def test_a_run_as_it_was_written(stored_run: Path) -> None:
    """Verdict, what the run says of itself, and its digest are printed; the command ends with 0."""
    result = call("verify", stored_run)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{stored_run}: as it was written" in result.stdout
    assert "complete, 4 of 4 prompts" in result.stdout
    assert f"  Digest  {json.loads((stored_run / 'run.json').read_text())['sha256']}\n" in result.stdout
    assert "A checksum is no signature" in result.stdout


def test_all_faults_of_all_runs(stored_run: Path, altered: Path, tmp_path: Path) -> None:
    """Every fault of every run is printed, runs behind a bad one too, and the command ends with 1."""
    result = call("verify", altered, tmp_path / "absent", stored_run)
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert f"{altered}: NOT as it was written Fault layers.parquet: its checksum does not fit" in text
    assert "Fault tokens.parquet: it is missing" in text
    assert f"{tmp_path / 'absent'}: not verified Error There is no run at" in text
    assert f"{stored_run}: as it was written" in text


def test_eighty_columns(altered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer than the terminal is wide, but for paths."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = call("verify", altered).stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and str(altered) not in line] == []


def test_findings_as_json(stored_run: Path, altered: Path, tmp_path: Path) -> None:
    """--json prints one document with the findings of every run, errors among them."""
    result = call("verify", "--json", stored_run, altered, tmp_path / "absent")
    assert result.exit_code == 1
    first, second, third = json.loads(result.stdout)
    assert (first["run"], first["is_intact"], first["faults"]) == (str(stored_run), True, [])
    assert [fault["file"] for fault in second["faults"]] == ["layers.parquet", "tokens.parquet"]
    assert third["error"].startswith("There is no run at")


def test_expected_digests(stored_run: Path) -> None:
    """--expect is a condition, once for each run; another number of digests is a command that makes no sense."""
    digest = json.loads(call("verify", "--json", stored_run).stdout)[0]["digest"]
    assert call("verify", stored_run, "--expect", digest).exit_code == 0
    other = call("verify", stored_run, "--expect", "0" * 64)
    assert other.exit_code == 1
    assert "was expected" in " ".join(other.stdout.split())
    assert call("verify", stored_run, stored_run, "--expect", digest).exit_code == 2
    assert "64 hexadecimal digits" in " ".join(call("verify", stored_run, "--expect", "x").stdout.split())


def test_hostile_texts_cannot_reach_the_terminal(stored_run: Path, tmp_path: Path) -> None:
    """Names of files and values of a hostile header are printed with their control characters as escapes."""
    run = Path(shutil.copytree(stored_run, tmp_path / "hostile"))
    (run / "\x1b[2J").write_text("x")
    header = (run / "run.json").read_text().replace('"complete"', r'"\u001b[2J\u202e"')
    (run / "run.json").write_text(header)
    result = call("verify", run)
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert r"\x1b[2J" in result.stdout
