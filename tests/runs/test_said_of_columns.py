"""What a header says of its columns: held where it is a measure, noted where this version knows better, documented."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer import verify_run
from layertracer._types import MOST_MEANING, MOST_UNIT, LayerMeasure, MeasureInfo
from layertracer.runs import describe_format, read_run, save_run

from tests.runs.alterations import Files, contents, with_column, with_header, write_files
from tests.support.records.logit_records import named_record

RECORD = named_record()
PAGE = describe_format()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a run with several of everything."""
    return contents(save_run(RECORD, tmp_path_factory.mktemp("said") / "run"))


def said(files: Files, table: str, name: str, **changes: Any) -> Files:
    """A run whose header says something else of a column."""

    def change(header: dict[str, Any]) -> None:
        next(one for one in header["files"][table]["columns"] if one["name"] == name).update(changes)

    return with_header(files, change)


@pytest.mark.parametrize(
    ("table", "name", "changes"),
    [
        ("perturbations.parquet", "js_bits", {"low": 5.0, "high": 6.0, "meaning": "share of cheese"}),
        ("perturbations.parquet", "target_log_prob", {"high": 3.0}),
        ("layers.parquet", "linear.target_rank", {"high": "d_model - 1"}),
        ("layers.parquet", "entropy_bits", {"low": None}),
    ],
)
def test_other_words_are_noted(table: str, name: str, changes: dict[str, Any], files: Files, tmp_path: Path) -> None:
    """A column of every run of which the header says something else is read by what this version knows, with a note."""
    path = write_files(said(files, table, name, **changes), tmp_path / "run")
    found = verify_run(path)
    assert found.is_intact
    (note,) = [one for one in found.notes if f"says of {name} in {table}" in one]
    assert all(word in note for word in changes)
    assert read_run(path) == RECORD


def test_wider_bounds_let_nothing_in(files: Files, tmp_path: Path) -> None:
    """A column of every run is held to this version's bounds, whatever bounds its header says."""
    altered = said(files, "perturbations.parquet", "js_bits", high=9.0)
    altered = with_column(altered, "perturbations.parquet", "js_bits", lambda values: values.__setitem__(1, 7.0))
    assert any("js_bits is 7 at" in one.reason for one in verify_run(write_files(altered, tmp_path / "run")).faults)


def test_a_run_as_it_was_written_has_no_such_note(files: Files, tmp_path: Path) -> None:
    """What this version writes, it says itself."""
    assert not [one for one in verify_run(write_files(files, tmp_path / "run")).notes if "says of" in one]


def page_limit(place: str) -> int:
    """How many characters the page allows at a place."""
    found = re.search(rf"^\| `{re.escape(place)}` \| one line of 1 to (\d+) printable", PAGE, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_longest_texts_of_the_page_are_read(tmp_path: Path) -> None:
    """Texts as long as the page allows are read, and no longer ones are allowed; bounds are any finite numbers."""
    columns = "files.layers.parquet.columns[]"
    n_unit, n_meaning, n_lens = map(page_limit, (f"{columns}.unit", f"{columns}.meaning", "lenses[].meaning"))
    assert (n_unit, n_meaning) == (MOST_UNIT, MOST_MEANING)
    info = MeasureInfo(name="n" * 64, unit="u" * n_unit, meaning="m" * n_meaning, low=-1e300, high=1e300)
    record = dataclasses.replace(
        RECORD,
        measures={info.name: LayerMeasure(info=info, values=np.ones((6, 4)))},
        lenses={"linear": dataclasses.replace(RECORD.lenses["linear"], meaning="m" * n_lens)},
    )
    assert read_run(save_run(record, tmp_path / "run")) == record


def test_the_page_says_what_may_be() -> None:
    """Bounds in words, and objects that may hold nothing else."""
    assert "-inf |" not in PAGE
    assert "at least -inf" not in PAGE
    assert '`files.layers.parquet.columns[].low` | a finite number, or "d_vocab"' in PAGE
    for place in ("spec", "model", "lenses", "audit", "self_check"):
        assert re.search(rf"^\| `{place}` \| .*an object of the fields below alone", PAGE, re.MULTILINE), place
    assert "| `audit` | an object of the fields below alone, or null |" in PAGE
    assert "| `shape` | an object |" in PAGE
