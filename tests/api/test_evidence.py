"""Evidence in a user's program: saved, read, drawn, and as a data frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layertracer as lt
from layertracer import UnknownNameError, UsageError

from tests.support.records.evidence_records import bare_evidence, hostile_evidence, rich_evidence


@pytest.fixture(scope="module")
def evidence() -> lt.Evidence:
    """Evidence with every field in use."""
    return lt.Evidence.from_record(rich_evidence())


def test_it_is_saved_and_loaded(evidence: lt.Evidence, tmp_path: Path) -> None:
    """`lt.load_evidence(evidence.save(path))` is the evidence, by its folder or by its header."""
    folder = evidence.save(tmp_path / "e")
    for path in (folder, str(folder), folder / "evidence.json"):
        again = lt.load_evidence(path)
        assert again == evidence
        assert isinstance(again, lt.Evidence)
    assert lt.Evidence.from_record(bare_evidence()) != evidence
    assert evidence != "evidence"
    with pytest.raises(lt.RunError, match="There is evidence at"):
        evidence.save(folder)
    assert evidence.save(folder, overwrite=True) == folder
    found = lt.verify_run(folder / "evidence.json")
    assert found.is_intact
    assert found.holds == "evidence"


def test_its_report_is_written(evidence: lt.Evidence, tmp_path: Path) -> None:
    """`evidence.report(path)` writes a page; a folder is refused."""
    assert evidence.report(tmp_path / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(UsageError, match="it is a folder"):
        evidence.report(tmp_path)


def test_it_says_its_answers(evidence: lt.Evidence) -> None:
    """Its representation has a line for each question, the answer first."""
    first, *lines = repr(evidence).splitlines()
    assert first == "Evidence on mini/attention, 16 prompts of antonym:"
    assert lines[0].startswith("  no: Is the task particle a product of the threshold? 4 of 6")
    assert len(lines) == len(evidence.verdicts)
    assert len(repr(lt.Evidence.from_record(hostile_evidence())).splitlines()) == 13


def test_agreements_are_a_matrix(evidence: lt.Evidence) -> None:
    """`to_pandas` has one row for each thing and method, one column for each other thing, and NaN where none is."""
    frame = evidence.to_pandas()
    for one in evidence.agreements:
        found = frame.loc[(one.family, one.method, one.one), one.other]
        assert np.isnan(found) if one.value is None else found == one.value
        low = evidence.to_pandas("low").loc[(one.family, one.method, one.one), one.other]
        assert np.isnan(low) if one.interval is None else low == one.interval.low
    assert int(frame.notna().to_numpy().sum()) == sum(one.value is not None for one in evidence.agreements)
    assert evidence.to_pandas("n_units").max(axis=None) == 14
    assert lt.Evidence.from_record(bare_evidence()).to_pandas().empty
    with pytest.raises(UnknownNameError, match="value"):
        evidence.to_pandas("rho")


def test_stored_evidence_needs_no_torch(evidence: lt.Evidence, tmp_path: Path) -> None:
    """Loading, drawing and verifying stored evidence imports no torch."""
    folder = evidence.save(tmp_path / "e")
    page = tmp_path / "page.html"
    code = (
        f"import sys, layertracer as lt; e = lt.load_evidence({str(folder)!r}); e.report({str(page)!r}); "
        f"e.to_pandas(); lt.verify_run({str(folder)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
