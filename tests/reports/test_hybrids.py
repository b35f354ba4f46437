"""Reports on hybrids: layers without the perturbed site are gaps that say why, and kinds of mixer have a table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer._types import Mask
from layertracer.reports import render_page, render_text, summarize, write_figures, write_report
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record

MISSING = (1, 4, 5, 9)
MASK_OF_MLP = Mask(site="mlp_output").to_dict()


def make_hybrid() -> TraceRecord:
    """A record of twelve layers of two kinds, four of them without an MLP."""
    return make_record(8, 12, missing=MISSING, perturbation=MASK_OF_MLP)


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_terminal_leaves_blanks_and_says_why() -> None:
    """A strip has a blank at every missing layer, a legend for it, and a note names the layers."""
    text = render_text(make_hybrid(), width=120, color=False)
    assert "NOTE: Layers 1, 4–5, 9 have no MLP: there is nothing to perturb" in text
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("JS divergence at the MLP output"))
    assert lines[start].endswith("blank: no MLP here")
    cells = lines[start + 1].ljust(48)
    blank = [layer for layer in range(12) if not cells[4 * layer : 4 * layer + 4].strip()]
    assert blank == list(MISSING)
    assert "?" not in cells


def test_the_terminal_has_a_table_of_kinds() -> None:
    """Where it fits, kinds stand under column heads; where it does not, one paragraph a kind."""
    record = make_hybrid()
    text = render_text(record, width=120, color=False)
    head = next(line for line in text.splitlines() if line.startswith("Mixer "))
    assert head.split("  ")[0] == "Mixer"
    (row,) = (line for line in text.splitlines() if line.startswith("gated_deltanet  "))
    group = record.by_mixer[0]
    assert "5 of 9" in row
    assert f"layer {group.vulnerable_layer}" in row
    assert "Kinds sit at different depths" in text
    narrow = render_text(record, width=60, color=False)
    assert "gated_deltanet layers 5 of 9 · mean depth 0.50" in narrow
    assert "gain per layer" in narrow.replace("\n", " ")


@pytest.mark.parametrize("width", [20, 60, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Tables and notes of hybrids wrap too, and ASCII has its own forms."""
    for ascii_only in (False, True):
        text = render_text(make_hybrid(), width=width, color=False, ascii_only=ascii_only)
        assert all(len(line) <= width for line in text.splitlines())
        assert text.isascii() or not ascii_only


def test_one_kind_of_mixer_has_no_table() -> None:
    """A model of one kind has no section and no table of kinds, and one entry in its summary."""
    record = make_record(4, 8, mixers=("attention",))
    assert "different depths" not in render_text(record, width=120, color=False)
    assert 'id="mixers"' not in render_page(record)
    (group,) = summarize(record)["by_mixer"]
    assert (group["mixer"], group["n_layers"]) == ("attention", 8)


def test_the_summary_has_null_for_missing_layers() -> None:
    """JSON holds null where a layer has not the site, its index in a list, and one entry for each kind."""
    record = make_hybrid()
    summary = json.loads(json.dumps(summarize(record), allow_nan=False))
    assert [layer for layer, value in enumerate(summary["curves"]["js_bits"]) if value is None] == list(MISSING)
    assert summary["layers_without_site"] == list(MISSING)
    assert [group["mixer"] for group in summary["by_mixer"]] == ["gated_deltanet", "attention"]
    assert [group["n_perturbed"] for group in summary["by_mixer"]] == [5, 3]
    assert summary["by_mixer"][0]["mean_js_bits"] == pytest.approx(record.by_mixer[0].mean_js_bits, rel=1e-3)
    assert summary["solved_only"]["by_mixer"][0]["n_layers"] == 9


def test_a_kind_without_the_site_says_so() -> None:
    """A kind none of whose layers has the site has a gain and the reason for the rest."""
    record = make_record(4, 8, missing=(3, 7), perturbation=MASK_OF_MLP)
    (row,) = (
        line for line in render_text(record, width=120, color=False).splitlines() if line.startswith("attention  ")
    )
    assert row.split()[3:5] == ["no", "MLP"]
    assert summarize(record)["by_mixer"][1]["mean_js_bits"] is None


def test_the_page_draws_gaps() -> None:
    """Curves break at missing layers, their cells are framed and empty, and tables say what is not there."""
    page = render_page(make_hybrid())
    figures = _data(page)["figures"]
    (js,) = (trace for trace in figures["curves"]["data"] if trace.get("name") == "JS divergence")
    assert [layer for layer, value in enumerate(js["y"]) if value is None] == list(MISSING)
    strip = figures["strips"]["data"][1]
    assert [layer for layer, value in enumerate(strip["z"][0]) if value is None] == list(MISSING)
    assert [strip["customdata"][0][layer] for layer in MISSING] == ["no MLP here"] * 4
    dotted = [shape for shape in figures["strips"]["layout"]["shapes"] if shape["line"].get("dash") == "dot"]
    assert [round((shape["x0"] + shape["x1"]) / 2) for shape in dotted] == list(MISSING)
    names = next(trace for trace in figures["curves"]["data"] if trace.get("hovertemplate", "").startswith("%{custom"))
    assert names["customdata"][1] == "gated_deltanet · no MLP here"
    assert names["customdata"][0] == "gated_deltanet"
    assert page.count(">no MLP</td>") == len(MISSING)
    assert "A gap in the lower curve is a layer with no MLP." in page
    assert "NaN" not in json.dumps(figures)


def test_bands_are_closed_shapes_between_the_gaps() -> None:
    """Every stretch of layers has a shape of its own; a lone layer's has a width."""
    figures = _data(render_page(make_hybrid()))["figures"]
    bands = [trace for trace in figures["curves"]["data"] if trace.get("fill") == "toself"]
    target, js = (" ".join("|" if x is None else f"{x:g}" for x in trace["x"]) for trace in bands)
    there, back = " ".join(map(str, range(12))), " ".join(map(str, range(11, -1, -1)))
    assert target == f"{there} {back} |"
    assert js == "-0.18 0.18 0.18 -0.18 | 2 3 3 2 | 6 7 8 8 7 6 | 10 11 11 10 |"


def test_figures_for_papers_are_written(tmp_path: Path) -> None:
    """Gaps stop no figure, and the strip says what its hatching means."""
    for format_ in ("svg", "png"):
        paths = write_figures(make_hybrid(), tmp_path, format=format_)
        assert all(path.stat().st_size > 2000 for path in paths)


@pytest.mark.browser
def test_an_empty_cell_says_why(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """In a browser, the label over an empty cell says what the layer lacks; the page complains of nothing."""
    opened = open_page(write_report(make_hybrid(), tmp_path / "report.html"))
    across = (1.5 + MISSING[0]) / 13
    below = 2.3  # in heights of the upper strip: the lower one
    assert "no MLP here" in " ".join(opened.hover_texts("strips", across=across, down=below))
    opened.page.mouse.move(0, 0)
    assert any("no MLP here" in text for text in opened.hover_texts("curves", across=across, down=0.5))
    assert opened.page.locator("#mixers tbody tr").count() == 2
    assert opened.page.locator('nav a[href="#mixers"]').count() == 1
    assert opened.complaints == []


def test_same_record_same_bytes() -> None:
    """Two pages on equal hybrids are equal."""
    assert np.isnan(make_hybrid().js_bits).any()
    assert render_page(make_hybrid()) == render_page(make_hybrid())
