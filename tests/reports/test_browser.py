"""Reports in a real browser: what people see, press and save."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer.reports import write_report
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record

pytestmark = pytest.mark.browser

FIGURES = ("curves", "strips", "map", "lens", "sensitivity", "dominant")

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    '<a href="javascript:alert(1)">press</a>',
    "<b>bold</b><br>&lt;i&gt;",
    "\u202egnitirw\u200f\u2066",
    "\x00\x1b[31m\x7f\n\t",
    "var(--loss)",
    "%{x}%{customdata[0]}",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of an ordinary record."""
    return write_report(make_record(8, 12), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a record whose every text is an attack."""
    record = make_record(8, 6, hostile=True)
    texts = {token: ATTACKS[index % len(ATTACKS)] for index, token in enumerate(record.tokens)}
    prompts = tuple(
        dataclasses.replace(prompt, prompt_text=ATTACKS[row % len(ATTACKS)] + "\nlast " + ATTACKS[row % len(ATTACKS)])
        for row, prompt in enumerate(record.prompts)
    )
    model = dataclasses.replace(
        record.model,
        name=ATTACKS[1],
        layers=tuple(dataclasses.replace(layer, mixer=ATTACKS[2]) for layer in record.model.layers),
    )
    spec = dataclasses.replace(record.spec, task=dict(record.spec.task) | {"name": ATTACKS[0], ATTACKS[3]: ATTACKS[2]})
    hostile = dataclasses.replace(record, tokens=texts, prompts=prompts, model=model, spec=spec, warnings=ATTACKS)
    return write_report(hostile, tmp_path_factory.mktemp("hostile") / "report.html")


def test_page_draws_every_figure_without_a_complaint_or_a_request(report: Path, open_page: Callable[..., Any]) -> None:
    """All six figures are drawn, nothing is written to the console, and the file is the only request."""
    opened = open_page(report)
    for figure in FIGURES:
        assert opened.page.locator(f"#plot-{figure} svg.main-svg").count() > 0, figure
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]


def test_policy_stops_a_script_that_is_not_the_reports_own(report: Path, open_page: Callable[..., Any]) -> None:
    """A script that got into the page would not run, and no address can be loaded."""
    opened = open_page(report)
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'hacked'";
            document.body.append(script);
            const image = document.createElement("img");
            image.src = "https://example.invalid/x.png";
            document.body.append(image);
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.title() == "planted-135m on antonym · LayerTracer"
    assert all("Content Security Policy" in complaint for complaint in opened.complaints)
    assert len(opened.complaints) == 2


def test_hovering_shows_both_curves_and_the_mixer(report: Path, open_page: Callable[..., Any]) -> None:
    """The label over the curves names the layer, its mixer, and both values with their intervals."""
    texts = open_page(report).hover_texts("curves", across=0.81, down=0.5)
    assert texts[0] == "layer 9"
    assert "gated_deltanet" in texts
    assert any(text.startswith("target probability 0.") for text in texts)
    assert any(text.startswith("JS divergence 0.") for text in texts)


def test_choosing_a_prompt_redraws_its_grid(report: Path, open_page: Callable[..., Any]) -> None:
    """The select, the arrows and a press on the map all change prompt, target and grid."""
    opened = open_page(report)
    page = opened.page
    grid = page.locator("#plot-lens")
    before = grid.text_content()
    page.select_option("#prompt", "2")
    assert page.text_content("#lens-target") == "␣cold"
    opened.wait_until(f"document.getElementById('plot-lens').textContent !== {json.dumps(before)}")
    assert "␣cold" in grid.text_content()
    page.click("#next")
    assert page.input_value("#prompt") == "3"
    page.click("#previous")
    page.click("#previous")
    assert page.text_content("#lens-target") == "␣late"


def test_pressing_a_row_of_the_map_opens_its_prompt(report: Path, open_page: Callable[..., Any]) -> None:
    """The prompt in the last row of the map, the one that finds no layer, is chosen when it is pressed."""
    opened = open_page(report)
    opened.hover_texts("map", across=0.5, down=0.95)
    opened.page.mouse.down()
    opened.page.mouse.up()
    opened.wait_until("document.getElementById('prompt').value === '4'")
    assert opened.page.text_content("#lens-target") == "␣old"


@pytest.mark.parametrize("system", ["light", "dark"])
def test_theme_follows_the_system_and_the_button(report: Path, open_page: Callable[..., Any], system: str) -> None:
    """Page and figures take the system's theme, and the button changes both."""
    opened = open_page(report, color_scheme=system)
    page = opened.page
    ground = "document.getElementById('plot-curves')._fullLayout?.paper_bgcolor"
    shown = {"light": "#ffffff", "dark": "#181b20"}
    other = "light" if system == "dark" else "dark"
    assert page.evaluate(ground).lower() == shown[system]
    page.click("#theme")
    opened.wait_until(f"{ground}?.toLowerCase() === '{shown[other]}'")
    assert page.get_attribute("html", "data-theme") == other


def test_print_is_light_and_opens_what_is_folded(report: Path, open_page: Callable[..., Any]) -> None:
    """On paper a dark page is light, its figures fit, its details are open and its buttons are gone."""
    opened = open_page(report, color_scheme="dark")
    page = opened.page
    page.emulate_media(media="print")
    opened.wait_until("document.getElementById('plot-dominant')._fullLayout?.width === 690")
    assert page.evaluate("document.getElementById('plot-curves')._fullLayout.paper_bgcolor").lower() == "#ffffff"
    assert page.locator("details.print-open:not([open])").count() == 0
    assert page.locator("#plot-curves svg.main-svg").first.is_visible()
    assert not page.locator("#theme").is_visible()
    assert len(page.pdf(format="A4")) > 20_000


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_is_saved_as_png_and_svg(
    report: Path, open_page: Callable[..., Any], tmp_path: Path, figure: str
) -> None:
    """A figure's buttons give a PNG and an SVG file named after it.

    Each figure has a page of its own: Chromium holds some back when a page saves many files in quick succession.
    """
    page = open_page(report).page
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<svg")):
        with page.expect_download() as download:
            page.click(f"button[data-save={suffix}][data-figure={figure}]")
        assert download.value.suggested_filename == f"layertracer-{figure}.{suffix}"
        download.value.save_as(tmp_path / "saved")
        assert (tmp_path / "saved").read_bytes().startswith(start)


def test_hostile_texts_stay_texts(hostile_report: Path, open_page: Callable[..., Any]) -> None:
    """No text becomes an element, a link, a colour or a template: not in the page, not in the figures."""
    opened = open_page(hostile_report)
    page = opened.page
    for details in page.locator("details").all():
        details.evaluate("details => { details.open = true; }")
    for row in range(8):
        page.select_option("#prompt", str(row))
        page.wait_for_timeout(50)
    assert opened.complaints == []
    assert opened.requests == [hostile_report.as_uri()]
    assert page.locator("main script, main img, main b, main i, main br + img").count() == 0
    assert page.locator("a:not(nav a):not(.skip)").count() == 0
    assert page.locator("svg a").count() == 0
    assert page.locator("h1").text_content().startswith('"><img src=x onerror=alert(1)> starts executing <script>')
    assert "<a␣href=" in page.locator("#plot-lens").text_content()
    assert "var(--loss)" in page.locator("#plot-lens").text_content()


def test_hostile_texts_stay_texts_under_the_pointer(hostile_report: Path, open_page: Callable[..., Any]) -> None:
    """A hover label shows an attack letter by letter."""
    opened = open_page(hostile_report)
    for down in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95):
        texts = opened.hover_texts("map", across=0.5, down=down)
        assert any("last" in text for text in texts)
    mixers = opened.hover_texts("curves", across=0.9, down=0.5)
    assert '<a href="javascript:alert(1)">press</a>' in mixers
    assert opened.page.locator(".hoverlayer a, .hoverlayer img, .hoverlayer script").count() == 0
    assert opened.complaints == []


def test_tables_behind_map_and_lens_open(report: Path, open_page: Callable[..., Any]) -> None:
    """The folded tables hold one row per prompt and one per layer."""
    opened = open_page(report)
    for section, rows in (("map", 8), ("lens", 12)):
        opened.page.click(f"#{section} details summary")
        opened.page.locator(f"#{section} details tbody tr").first.wait_for()
        assert opened.page.locator(f"#{section} details tbody tr").count() == rows


def test_prompts_are_sorted_by_column(report: Path, open_page: Callable[..., Any]) -> None:
    """Pressing a column's name sorts by number, pressing it again turns the order around."""
    page = open_page(report).page
    column = page.locator("#prompts thead button", has_text="Final probability")
    cells = "[...document.querySelectorAll('#prompts tbody tr')].map((row) => Number(row.cells[6].textContent))"
    column.click()
    assert page.evaluate(cells) == sorted(page.evaluate(cells))
    column.click()
    assert page.evaluate(cells) == sorted(page.evaluate(cells), reverse=True)
    assert page.locator("#prompts th[aria-sort=descending]").count() == 1


def test_keyboard_reaches_every_control_and_says_what_it_is(report: Path, open_page: Callable[..., Any]) -> None:
    """The first tab stop skips to the answer; every button and select has a name."""
    page = open_page(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    nameless = """[...document.querySelectorAll("button, select, [role=img]")].filter((element) =>
        !element.textContent.trim() && !element.getAttribute("aria-label") && !element.labels?.length)"""
    assert page.evaluate(f"{nameless}.length") == 0
    assert page.locator("label[for=prompt]").count() == 1


def _silent(record: TraceRecord) -> TraceRecord:
    """The same trace with a target that never rises."""
    return dataclasses.replace(record, target_log_prob=np.full_like(record.target_log_prob, -12))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(make_record(1, 1, 1), id="one prompt and one layer"),
        pytest.param(make_record(3, 100), id="100 layers"),
        pytest.param(_silent(make_record(4, 8)), id="no particle"),
        pytest.param(make_record(0, 8, status="failed", n_requested=4), id="failed before the first prompt"),
        pytest.param(make_record(3, 8, status="interrupted", n_requested=32), id="interrupted"),
        pytest.param(make_record(2, 8, with_answers=False), id="no answers"),
    ],
)
def test_unusual_records_render_at_any_width(
    record: TraceRecord, tmp_path: Path, open_page: Callable[..., Any]
) -> None:
    """The page neither complains nor scrolls sideways, whatever the record holds, wide or narrow."""
    opened = open_page(write_report(record, tmp_path / "report.html"))
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    opened.page.set_viewport_size({"width": 390, "height": 900})
    if opened.page.locator("#plot-curves").count():
        opened.wait_until("document.getElementById('plot-curves')._fullLayout?.width < 390")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.complaints == []
