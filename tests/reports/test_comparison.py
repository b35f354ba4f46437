"""The report of a comparison: on a terminal, as a file, and in a browser."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.text import Text

from layertracer import UsageError
from layertracer.comparisons import ComparisonSettings, ModelComparison, compare_records
from layertracer.reports import render_comparison_page, render_comparison_text, write_comparison_report
from layertracer.reports._comparison.overview import build_comparison_overview
from layertracer.runs import TraceRecord

from tests.support.records.model_records import ATTENTION, HYBRID, MAMBA, make_model, make_sizes
from tests.support.records.sample_records import HOSTILE_TEXTS

FIGURES = ("curves", "places", "differences", "scaling")
FAST = ComparisonSettings(n_resamples=300)


def _compare(records: list[TraceRecord]) -> ModelComparison:
    return compare_records(records, settings=FAST)


def _hostile() -> ModelComparison:
    """Models, mixers and a task whose every name is an attack."""
    records = []
    for number, text in enumerate(HOSTILE_TEXTS):
        record = make_model(text, 10**6 * (1 + number), seed=number, mixers=(text, "attention"), n_layers=8)
        task = dict(record.spec.task) | {"name": HOSTILE_TEXTS[0]}
        records.append(dataclasses.replace(record, spec=dataclasses.replace(record.spec, task=task)))
    return _compare(records)


@pytest.fixture(scope="module")
def ten() -> ModelComparison:
    """Ten models of three families, with names that are long or differ at their end."""
    kinds = {"attention-of-a-rather-long-name": ATTENTION, "state": MAMBA, "hybrid": HYBRID}
    records = [one for name, m in kinds.items() for one in make_sizes(-0.4, n_sizes=3, mixers=m, family=name)]
    return _compare([*records, make_model("other", 10**8, n_layers=20, js_scale=0.05)])


@pytest.fixture(scope="module")
def page(ten: ModelComparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page on them."""
    return write_comparison_report(ten, tmp_path_factory.mktemp("comparison") / "compare.html")


def test_the_terminal_says_what_a_comparison_found(ten: ModelComparison) -> None:
    """Models, differences, trends, kinds and both verdicts with their reasons are there."""
    text = render_comparison_text(ten, width=140, color=False)
    for part in (
        "10 models on antonym",
        "Models, on relative depth",
        "Differences (* excludes 0)",
        "Trends over the number of parameters",
        "Kinds of mixers at equal depth",
        "SUPPORTED Task particles lie deep, whatever the size and the mixer.",
        "SUPPORTED Larger models are more robust.",
        "… and 25 more: see --csv, --json or --out",
    ):
        assert part in text, part
    for verdict in ten.verdicts:
        if verdict.is_headline:
            assert verdict.reason in text.replace("\n", " ")


@pytest.mark.parametrize("width", [20, 60, 100])
@pytest.mark.parametrize("color", [False, True])
def test_no_line_is_wider_than_the_terminal(ten: ModelComparison, width: int, color: bool) -> None:
    """Tables become paragraphs where they do not fit."""
    for line in render_comparison_text(ten, width=width, color=color).splitlines():
        assert cell_len(Text.from_ansi(line).plain) <= width, line


def test_hostile_names_cannot_reach_the_terminal() -> None:
    """No name of a model, a mixer or a task prints a control character; ASCII alone can be asked for."""
    comparison = _hostile()
    text = render_comparison_text(comparison, width=100, color=False)
    assert all(char.isprintable() or char in "\n\xa0" for char in text)  # no-break spaces are text
    assert render_comparison_text(comparison, width=100, color=False, ascii_only=True).isascii()


def test_same_comparison_same_bytes(ten: ModelComparison, tmp_path: Path) -> None:
    """Two pages on one comparison are equal, below 6 MB, and nothing is left beside them."""
    first = write_comparison_report(ten, tmp_path / "new" / "a.html").read_bytes()
    second = write_comparison_report(ten, tmp_path / "new" / "b.html").read_bytes()
    assert first == second
    assert len(first) < 6_000_000
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.html", "b.html"]
    with pytest.raises(UsageError, match="it is a folder, and a file is needed"):
        write_comparison_report(ten, tmp_path)


def _figure_data(html: str) -> dict[str, Any]:
    start = html.index('id="report-data">') + len('id="report-data">')
    data: dict[str, Any] = json.loads(html[start : html.index("</script>", start)])["figures"]
    return data


def test_figures_hold_the_numbers_of_the_comparison(ten: ModelComparison) -> None:
    """The drawn curves, places, differences and sizes are those of the comparison, one for each model or pair."""
    figures = _figure_data(render_comparison_page(ten))
    assert set(figures) == set(FIGURES)
    lines = [
        trace for trace in figures["curves"]["data"] if trace["mode"] == "lines+markers" and trace["yaxis"] == "y2"
    ]
    for line, model in zip(lines, ten.models, strict=True):
        assert model.js_curve is not None
        np.testing.assert_allclose(line["y"], model.js_curve.mean, rtol=1e-3)
        np.testing.assert_allclose(line["x"], model.js_curve.depth, rtol=1e-3)
    particles = figures["places"]["data"][0]
    np.testing.assert_allclose(particles["x"], [model.particles[0].depth for model in ten.models], rtol=1e-3)
    differences = figures["differences"]["data"][0]
    np.testing.assert_allclose(differences["x"], [pair.differences[0].value for pair in ten.pairs[:40]], rtol=1e-3)
    ends = np.add(differences["x"], differences["error_x"]["array"])
    highs = [one.interval.high for pair in ten.pairs[:40] if (one := pair.differences[0]).interval is not None]
    np.testing.assert_allclose(ends, highs, atol=1e-4)


def test_no_two_models_are_drawn_alike(ten: ModelComparison) -> None:
    """Every model has a colour, or a dash and a symbol with it, of its own."""
    figures = _figure_data(render_comparison_page(ten))
    lines = [trace for trace in figures["curves"]["data"] if trace["mode"] == "lines+markers" and trace["yaxis"] == "y"]
    looks = [(line["line"]["color"], line["line"]["dash"], line["marker"]["symbol"]) for line in lines]
    assert len(set(looks)) == len(looks) == 10
    assert len({line["name"] for line in lines}) == 10


def test_parts_that_are_missing_are_not_drawn() -> None:
    """Without divergences, sizes or hybrids, their figures and sections are left out and the rest stands."""
    records = [make_model("a"), make_model("b", seed=1)]
    silent = [dataclasses.replace(one, js_bits=np.full_like(one.js_bits, np.nan)) for one in records]
    html = render_comparison_page(_compare(silent))
    assert set(_figure_data(html)) == {"curves", "places"}
    assert "Kinds of mixers at equal depth" not in html
    assert "has the perturbed site in no layer" in html


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 700, 390])
def test_page_draws_every_figure_at_any_width(page: Path, open_page: Callable[..., Any], width: int) -> None:
    """Every figure is drawn without a complaint or a request, the page does not scroll sideways, legends are apart."""
    opened = open_page(page, width=width)
    assert opened.complaints == []
    assert opened.requests == [page.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for figure in FIGURES:
        plot = opened.page.locator(f"#plot-{figure}")
        assert plot.locator("svg.main-svg").count() > 0, figure
        if figure == "differences":
            continue
        legend, title = (plot.locator(one).first.bounding_box() for one in (".legend", ".xtitle"))
        assert legend["y"] >= title["y"] + title["height"], f"{figure}: the legend covers the axis title"
        box = plot.bounding_box()
        assert legend["y"] + legend["height"] <= box["y"] + box["height"] + 1, f"{figure}: the legend is cut off"


@pytest.mark.browser
def test_hovering_names_the_model(ten: ModelComparison, page: Path, open_page: Callable[..., Any]) -> None:
    """The label over a curve names its model, in the form in which all of the page names it."""
    names = build_comparison_overview(ten).labels
    (text,) = open_page(page).hover_texts("curves", across=0.97, down=0.05)
    assert text.startswith(names)
    assert "depth 1: " in text


@pytest.mark.browser
def test_hostile_names_stay_texts(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """No name becomes an element or a script, on the page or in the figures."""
    path = write_comparison_report(_hostile(), tmp_path / "hostile.html")
    opened = open_page(path)
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.locator("main script, main img, main b, main i").count() == 0
    assert opened.page.locator("svg a").count() == 0
    assert opened.page.title() == f"8 models on {HOSTILE_TEXTS[0]} · LayerTracer"
