"""`lt.compare`: traces, paths, settings."""

from __future__ import annotations

from pathlib import Path

import pytest

import layertracer as lt
from layertracer.runs import save_run

from tests.support.records.model_records import make_model


def test_traces_and_paths_are_compared_alike(tmp_path: Path) -> None:
    """A trace, its folder, and the run.json in it give the same comparison; folders tell models of one name apart."""
    a, b = make_model("a"), make_model("b", seed=1)
    folder = save_run(b, tmp_path / "run-b")
    here = lt.compare([lt.Trace.from_record(a), b], n_resamples=300)
    there = lt.compare([save_run(a, tmp_path / "run-a"), folder / "run.json"], n_resamples=300)
    assert isinstance(here, lt.Comparison)
    assert here.to_dict() == there.to_dict()
    twins = lt.compare([str(folder), folder, a], n_resamples=300)
    assert [model.label for model in twins.models] == ["b (run-b) #1", "b (run-b) #2", "a"]


def test_one_path_is_not_a_list_of_runs() -> None:
    """A path alone is refused, and not taken for a list of letters."""
    with pytest.raises(lt.UsageError, match="needs a list of runs, got the one path 'runs/a'"):
        lt.compare("runs/a")


def test_settings_are_given_by_name_or_as_a_whole() -> None:
    """Single settings change those given as a whole; unknown ones get near matches."""
    records = [make_model("a"), make_model("b", seed=1)]
    settings = lt.ComparisonSettings(n_resamples=300, deep_depth=0.7)
    comparison = lt.compare(records, settings=settings, level=0.9)
    assert comparison.settings == lt.ComparisonSettings(n_resamples=300, deep_depth=0.7, level=0.9)
    assert "<Comparison of a, b on 'antonym'>" in repr(comparison)
    with pytest.raises(lt.UnknownNameError, match="Did you mean 'deep_depth'"):
        lt.compare(records, deep_dept=0.7)


def test_a_comparison_writes_its_report(tmp_path: Path) -> None:
    """`report` writes one HTML file."""
    comparison = lt.compare([make_model("a"), make_model("b", seed=1)], n_resamples=300)
    page = comparison.report(tmp_path / "x.html")
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
