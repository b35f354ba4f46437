"""A layer measure that nobody knew: put into a record, it is saved, read, and shown wherever measures are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from layertracer._types import LayerMeasure, MeasureInfo
from layertracer.api import Trace, load_run
from layertracer.reports import render_page, render_text, summarize, write_figures
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record

INFO = MeasureInfo(name="twist_turns", unit="turns", meaning="how far the layer turns the stream", low=0.0, high=0.5)
BASE = make_record(6, 12)
VALUES = np.random.default_rng(0).uniform(0, 0.5, (6, 12)).astype(np.float32)
VALUES[:, 3] = np.nan


@pytest.fixture(scope="module")
def record() -> TraceRecord:
    """A trace with the measure."""
    return dataclasses.replace(BASE, measures={INFO.name: LayerMeasure(info=INFO, values=VALUES)})


def test_saved_and_loaded(record: TraceRecord, tmp_path: Path) -> None:
    """What is read is what was saved: numbers, name, unit, meaning and bounds."""
    found = load_run(Trace.from_record(record).save(tmp_path / "run")).measures["twist_turns"]
    assert found.info == INFO
    np.testing.assert_array_equal(found.values, VALUES)


def test_in_every_report(record: TraceRecord, tmp_path: Path) -> None:
    """The page has its section, figure and column, the terminal its strip, the paper its drawing."""
    page, text = render_page(record), render_text(record, width=100, color=False)
    for shown in ("Twist turns", "how far the layer turns the stream", 'id="figure-measures"', "Twist turns, turns"):
        assert shown in page
    assert "Twist turns" in text
    assert "blank: no value here" in text
    assert tmp_path / "measures.svg" in write_figures(record, tmp_path)


def test_in_json_and_data_frames(record: TraceRecord) -> None:
    """JSON has its unit, meaning and means, a data frame its numbers."""
    said = summarize(record)["measures"]["twist_turns"]
    assert (said["unit"], said["meaning"]) == ("turns", INFO.meaning)
    assert said["mean"][3] is None
    assert said["mean"][0] == pytest.approx(VALUES[:, 0].mean(), abs=1e-5)
    frame = record.to_pandas()
    np.testing.assert_array_equal(frame["twist_turns"].to_numpy(), VALUES.ravel())


def test_without_it_everything_reads_as_before(record: TraceRecord) -> None:
    """A trace without measures has no section of them; with it, nothing else changes on the terminal."""
    assert 'id="measures"' not in render_page(BASE)
    without, others = render_text(BASE, color=False), render_text(record, color=False)
    assert set(without.splitlines()) <= set(others.splitlines())


def test_what_it_is_called_is_text(tmp_path: Path) -> None:
    """A unit and a meaning that try to be markup, a template or mathematics are shown as text."""
    info = dataclasses.replace(INFO, unit="<b>$x$</b>", meaning="<script>alert(1)</script> {{ 7 * 7 }} $\\frac{1}{2}")
    record = dataclasses.replace(BASE, measures={info.name: LayerMeasure(info=info, values=VALUES)})
    page = render_page(record)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>$x$" not in page
    assert "{{ 7 * 7 }}" in page
    assert tmp_path / "measures.svg" in write_figures(record, tmp_path)
    assert load_run(Trace.from_record(record).save(tmp_path / "run")) == record
