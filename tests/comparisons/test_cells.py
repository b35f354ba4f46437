"""Cells of a table that leaves as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import layertracer as lt
from layertracer.comparisons._cells import without_formula
from layertracer.runs import save_run

from tests.support.records.sample_records import make_record


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "-", "=-5"])
def test_formulas_get_an_apostrophe(cell: str) -> None:
    """A text that a spreadsheet would run begins with an apostrophe, once."""
    assert without_formula(cell) == f"'{cell}"
    assert without_formula(without_formula(cell)) == f"'{cell}"


@pytest.mark.parametrize("cell", [-1, -0.5, 3, None, True, "-1", "+1", "-1e-5", "smollm2", "a=b", "", "'=1"])
def test_other_cells_stay(cell: object) -> None:
    """Numbers, also those written as text, and ordinary names are not changed."""
    assert without_formula(cell) is cell


def test_a_hostile_label_is_no_formula_in_the_table(tmp_path: Path) -> None:
    """No cell of a comparison's table begins a formula, and its numbers are those of the frame."""
    runs = [save_run(make_record(n_prompts=9, n_layers=4), tmp_path / name) for name in ("a", "b")]
    labels = ["=cmd|'/C calc'!A1", "@b"]
    comparison = lt.compare(runs, labels=labels)
    with comparison.to_csv(tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [cell for row in rows for cell in row.values()]
    assert not any(cell[:1] in "=+@" and cell for cell in cells)
    assert all(float(cell) <= 0 for cell in cells if cell.startswith("-"))
    assert f"'{labels[0]}" in cells
    frame = comparison.to_frame()
    values = [float(row["value"]) for row in rows if row["value"]]
    assert values == pytest.approx(frame["value"].dropna().tolist())
