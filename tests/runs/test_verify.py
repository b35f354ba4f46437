"""Whether a stored run is as it was written: all that speaks against it, and what nothing can say."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from layertracer import RunError, RunFormatError, UsageError, verify_run
from layertracer.cli import main
from layertracer.runs import HEADER_FILE, RUN_FORMAT_VERSION, package_version, read_run, save_run

from tests.runs.alterations import contents, with_column, with_header, write_files
from tests.support.records.sample_records import make_record

STORED = Path(__file__).parents[1] / "stored_runs" / "v1"
RECORD = dataclasses.replace(
    make_record(n_prompts=8, n_layers=4, n_draws=2, missing=(1,)),
    provenance={"layertracer": package_version("layertracer"), "packages": {"numpy": package_version("numpy")}},
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that this version wrote."""
    return save_run(RECORD, tmp_path / "run")


def test_a_run_as_it_was_written(run: Path) -> None:
    """An untouched run has no faults, and its digest is the checksum that `run.json` states."""
    found = verify_run(run)
    assert (found.is_intact, found.faults, found.differences, found.summary_agrees) == (True, (), (), True)
    assert found.digest == json.loads((run / HEADER_FILE).read_text())["sha256"]
    assert (found.format_version, found.status, found.n_prompts, found.n_requested) == (
        RUN_FORMAT_VERSION,
        "complete",
        8,
        8,
    )
    assert found.written_by == package_version("layertracer")
    assert verify_run(run / HEADER_FILE).digest == found.digest


def test_the_digest_stands_for_every_byte(run: Path) -> None:
    """The digest is SHA-256 of `run.json` with zeros in its place, which holds SHA-256 of every table."""
    found = verify_run(run)
    blank = (run / HEADER_FILE).read_bytes().replace(str(found.digest).encode(), b"0" * 64)
    assert found.digest == hashlib.sha256(blank).hexdigest()
    for name, entry in json.loads(blank)["files"].items():
        assert entry["sha256"] == hashlib.sha256((run / name).read_bytes()).hexdigest()


def test_all_faults_are_found(run: Path) -> None:
    """Every damaged file is named, not the first alone, and what is out of range in the others beside it."""
    files = with_column(contents(run), "perturbations.parquet", "js_bits", lambda values: values.__setitem__(0, 7.5))
    write_files(files, run)
    (run / "tokens.parquet").unlink()
    (run / "layers.parquet").write_bytes(b"PAR1")
    found = verify_run(run)
    assert [fault.file for fault in found.faults] == ["layers.parquet", "tokens.parquet", "perturbations.parquet"]
    reasons = [fault.reason for fault in found.faults]
    assert reasons[0].startswith("its checksum does not fit its content (4 bytes, ")
    assert reasons[1] == "it is missing"
    assert reasons[2].startswith("js_bits is 7.5 at prompt 0, draw 0, layer 0")
    assert (found.is_intact, found.summary_agrees) == (False, None)


def test_new_checksums_over_other_numbers_are_seen_in_the_answers(run: Path) -> None:
    """Where numbers were altered within their range, all checksums anew, the answers that are kept do not follow."""
    before = verify_run(run).digest
    files = with_column(contents(run), "perturbations.parquet", "js_bits", lambda values: values.__setitem__(3, 0.99))
    found = verify_run(write_files(files, run))
    assert {fault.file for fault in found.faults} == {HEADER_FILE}
    assert "summary.all." in found.faults[0].reason
    assert read_run(run).js_bits[0, 0, 3] > 0.9  # it can be read: only its kept answers and its digest give it away
    expected = verify_run(run, expect=before)
    assert f"its digest is {found.digest}, and {before} was expected" in [one.reason for one in expected.faults]


def test_the_expected_digest_is_compared(run: Path) -> None:
    """A digest that was kept elsewhere is a condition; what is none is refused."""
    digest = str(verify_run(run).digest)
    assert verify_run(run, expect=f" sha256:{digest.upper()}\n").is_intact
    assert not verify_run(run, expect="0" * 64).is_intact
    with pytest.raises(UsageError, match="64 hexadecimal digits, got 'abc'"):
        verify_run(run, expect="abc")


def _with_layer(header: dict[str, Any]) -> None:
    header["summary"]["all"]["task_particle"]["layer"] = 0
    header["summary"]["solved_share"] = 0.99


FORGED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (dict, "summary.all.task_particle.layer is 0 and not"),
    (lambda header: header["summary"].update(x=0), "summary.solved_share is 0.99 and not"),
    (lambda header: header["summary"].update(x=0), "summary.x is nothing that this version writes"),
    (lambda header: header["summary"]["all"].update(by_mixer=[]), "summary.all.by_mixer is a list of 0 and not"),
    (lambda header: header["summary"].update(all=None), "summary.all is null and not an object"),
    (lambda header: header["summary"].clear(), "summary.n_prompts is missing, which every version writes"),
    (lambda header: header["summary"].pop("solved"), "summary.solved is missing, which every version writes"),
    (lambda header: [header["summary"].update(n_prompts=9), _age(header)], "summary.n_prompts is 9 and not 8"),
]


def _age(header: dict[str, Any]) -> None:
    header["provenance"]["layertracer"] = "0.0.1"


@pytest.mark.parametrize(("change", "words"), FORGED, ids=range(len(FORGED)))
def test_forged_answers_are_faults(change: Callable[[dict[str, Any]], object], words: str, run: Path) -> None:
    """Other answers are a fault where the same version computed them, whatever else was done to their form."""
    files = with_header(contents(run), lambda header: [_with_layer(header), change(header)])
    found = verify_run(write_files(files, run))
    assert any(words in fault.reason for fault in found.faults)
    assert (found.is_intact, found.summary_agrees) == (False, False)


OPEN: list[Callable[[dict[str, Any]], object]] = [
    _age,
    lambda header: header.update(provenance={}),
    lambda header: header["provenance"]["packages"].update(numpy="1.0"),
    lambda header: header["summary"].pop("begins_share"),
]


@pytest.mark.parametrize("change", OPEN, ids=["other version", "no version", "other NumPy", "older form"])
def test_answers_of_other_versions_and_forms_are_not_verified(
    change: Callable[[dict[str, Any]], object], run: Path
) -> None:
    """Where another version or an older form keeps other answers, no one can say whether they were altered: it says so.

    The places where both have a value and differ are listed; nothing calls such a run as it was written.
    """
    files = with_header(contents(run), lambda header: [_with_layer(header), change(header)])
    found = verify_run(write_files(files, run))
    assert (found.is_intact, found.summary_agrees) == (True, None)
    assert any(one.startswith("summary.all.task_particle.layer is 0 and not") for one in found.differences)
    assert "nothing says whether they were altered" in found.notes[-1]
    assert found.to_dict()["differences"] == list(found.differences)
    said = CliRunner().invoke(main, ["verify", str(run)])
    assert said.exit_code == 0
    assert "its files are whole; its ANSWERS are NOT VERIFIED" in said.output
    assert "as it was written" not in said.output


def test_layers_said_to_lack_the_site_are_compared(run: Path) -> None:
    """The layers that `run.json` says have no site are those whose column is NaN."""
    files = with_header(contents(run), lambda header: header.update(layers_without_site=[2]))
    assert "layers_without_site is a list of 1" in verify_run(write_files(files, run)).faults[0].reason


def test_files_beside_the_run_are_named(run: Path) -> None:
    """A report and other files are no faults: a note says that no checksum covers them."""
    (run / "report.html").write_text("x")
    (run / "\x1b[31m.txt").write_text("x")
    found = verify_run(run)
    assert found.is_intact
    assert found.notes[:2] == (
        "report.html is drawn from the run and no part of it: no checksum covers it.",
        r"The folder holds other things, which no checksum covers: '\x1b[31m.txt'.",
    )


@pytest.mark.parametrize("name", ["complete", "interrupted", "failed"])
def test_stored_runs_are_intact(name: str) -> None:
    """Runs of every format that was ever written have no faults."""
    assert verify_run(STORED / name).faults == ()


def test_where_there_is_no_run(tmp_path: Path, run: Path) -> None:
    """Nothing there, and a newer format, are errors, as when a run is read."""
    with pytest.raises(RunError, match="There is no run at"):
        verify_run(tmp_path / "absent")
    newer = RUN_FORMAT_VERSION + 1
    write_files(with_header(contents(run), lambda header: header.update(format_version=newer)), run)
    with pytest.raises(RunFormatError, match=f"has format {newer}"):
        verify_run(run)


def test_findings_are_json(run: Path) -> None:
    """What was found has a JSON form."""
    (run / "tokens.parquet").unlink()
    values = json.loads(json.dumps(verify_run(run).to_dict()))
    assert values["faults"] == [{"file": "tokens.parquet", "reason": "it is missing"}]
    assert values["is_intact"] is False
