"""Figures for a paper."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from layertracer._errors import UnknownNameError, UsageError
from layertracer.reports import write_figures
from layertracer.reports._drawing.plotly_layout import reach_axis
from layertracer.reports._values.numbers import LEAST_JS_BITS

from tests.support.records.sample_records import make_record

NAMES = ["curves", "dominant", "map", "strips"]
STARTS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_same_record_same_files(tmp_path: Path, suffix: str) -> None:
    """Four files of the format asked for, the same bytes each time."""
    first = write_figures(make_record(5, 12), tmp_path / "a", format=suffix)
    second = write_figures(make_record(5, 12), tmp_path / "b", format=suffix)
    assert sorted(path.name for path in first) == [f"{name}.{suffix}" for name in NAMES]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.read_bytes().startswith(STARTS[suffix]) for path in first)


@pytest.mark.parametrize(("n_prompts", "n_layers", "n_draws"), [(1, 1, 1), (300, 100, 2)])
def test_small_and_large_records_are_drawn(tmp_path: Path, n_prompts: int, n_layers: int, n_draws: int) -> None:
    """One prompt and one layer, or very many, give figures too."""
    assert len(write_figures(make_record(n_prompts, n_layers, n_draws), tmp_path)) == 4


def test_names_of_mixers_are_plain_text(tmp_path: Path) -> None:
    """A mixer's name from a stored run is neither a formula nor a missing glyph."""
    record = make_record(2, 4)
    layers = tuple(dataclasses.replace(layer, mixer="$\\frac{a\u202e世") for layer in record.model.layers)
    hostile = dataclasses.replace(record, model=dataclasses.replace(record.model, layers=layers))
    assert len(write_figures(hostile, tmp_path)) == 4


def test_pyplot_stays_out(tmp_path: Path) -> None:
    """Drawing leaves the settings of Matplotlib as they were and loads no window system."""
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_figures(make_record(2, 4), tmp_path)
    assert dict(mpl.rcParams) == before
    assert "tkinter" not in sys.modules


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    """An unknown format, a run without prompts and a file in the way get a message."""
    with pytest.raises(UnknownNameError, match=r"Unknown figure format 'pgn'\. Did you mean 'png'"):
        write_figures(make_record(2, 4), tmp_path, format="pgn")
    with pytest.raises(UsageError, match="none of the 3 prompts was finished"):
        write_figures(make_record(0, 4, status="failed", n_requested=3), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="it is a file, and a folder is needed"):
        write_figures(make_record(2, 4), tmp_path / "file")


@pytest.mark.parametrize("step", [0.2, 0.05, 0.005, 0.0002, 0.00005])
def test_ticks_of_small_numbers_can_be_told_apart(step: float) -> None:
    """The ticks of an axis, at most six and a step of 1, 2 or 5 apart, read as what they are, however small."""
    ticks = step * np.arange(7)
    digits = reach_axis(ticks, LEAST_JS_BITS)["tickformat"].removeprefix(".").replace("~", "")
    assert [float(f"{tick:.{digits}}") for tick in ticks] == pytest.approx(ticks, rel=1e-9)
