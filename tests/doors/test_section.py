"""A section that nobody knew: registered, it appears in its place on the page, on the terminal and in the paper."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layertracer import UsageError
from layertracer.reports import render_page, render_text, write_figures
from layertracer.reports._sections.protocol import SECTIONS, Subject, register_section
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record

RECORD = make_record(6, 12)


def _figure(record: TraceRecord, overview: Overview, budget: Any) -> dict[str, Any]:
    del overview, budget
    return {"data": [{"type": "bar", "y": [record.n_prompts]}], "layout": {"height": 99}}


def _text(record: TraceRecord, overview: Overview) -> Iterator[Table | str]:
    del overview
    yield f"<b>{record.n_layers}</b> layers were counted."


def _paper(figure: Any, record: TraceRecord, overview: Overview) -> None:
    del overview
    figure.subplots().plot(range(record.n_layers))


TOY = Subject(
    id="counts",
    short="Counts",
    title="How many there are",
    lead=lambda record, _overview: f"<script>{record.n_prompts} prompts",
    alt=lambda _record, _overview: "One bar.",
    figure=_figure,
    text=_text,
    paper=_paper,
    after="strips",
)


def test_it_stands_in_its_place(tmp_path: Path) -> None:
    """The page has it behind the section that it names, with its figure; terminal and paper have it too."""
    with register_section(TOY):
        page, text = render_page(RECORD), render_text(RECORD, color=False)
        drawn = write_figures(RECORD, tmp_path)
    ids = re.findall(r'<section id="(\w+)"', page)
    assert ids.index("counts") == ids.index("strips") + 1
    assert "&lt;script&gt;6 prompts" in page
    assert "<script>6 prompts" not in page
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, flags=re.S)[1])  # type: ignore[index]
    assert data["figures"]["counts"]["layout"] == {"height": 99}
    assert "<b>12</b> layers were counted." in text
    assert tmp_path / "counts.svg" in drawn


def test_it_is_gone_when_it_is_undone() -> None:
    """After its block nothing of it is left, and a second one of that name is refused while it is there."""
    before = render_page(RECORD)
    with register_section(TOY), pytest.raises(UsageError, match="'counts' is registered already"):
        register_section(TOY)
    assert "counts" not in SECTIONS
    assert render_page(RECORD) == before


@pytest.mark.parametrize("after", [None, "nowhere"])
def test_without_a_place_it_is_the_last(after: str | None) -> None:
    """A section that names none to stand behind, or one that is not there, comes last."""
    last = Subject(
        id="last", short="Last", title="Last", lead=lambda _record, _overview: "x", figure=_figure, after=after
    )
    with register_section(last):
        ids = re.findall(r'<section id="(\w+)"', render_page(RECORD))
    assert ids[ids.index("prompts") - 1] == "last"


def _raise(*_: Any) -> Any:
    raise ValueError("<b>no\u202e</b>")


@pytest.mark.parametrize("part", ["applies", "lead", "alt", "figure", "table", "numbers", "data"])
def test_a_section_that_fails_leaves_the_rest_of_the_page(part: str) -> None:
    """One line with its id and the error, as text, stands in its place; every other section and figure is there."""
    with register_section(dataclasses.replace(TOY, **{part: _raise})):
        page = render_page(RECORD)
    sections = r'<section id="(\w+)"'
    expected = re.findall(sections, render_page(RECORD))
    expected.insert(expected.index("strips") + 1, "counts")
    assert re.findall(sections, page) == expected
    assert "The section &#39;counts&#39; could not be made: its code raised ValueError: &lt;b&gt;no⟨U+202E⟩" in page
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, flags=re.S)[1])  # type: ignore[index]
    assert "counts" not in data["figures"]
    assert "curves" in data["figures"]


def test_a_figure_that_is_no_json_is_a_failure() -> None:
    """What cannot be written into the page is told like an error of the section's own."""
    with register_section(dataclasses.replace(TOY, figure=lambda *_: {"data": [{1, 2}]})):
        assert "The section &#39;counts&#39; could not be made: its code raised TypeError" in render_page(RECORD)


@pytest.mark.parametrize("part", ["applies", "strips", "text"])
def test_a_section_that_fails_leaves_the_rest_of_the_terminal(part: str) -> None:
    """The terminal has one line in its place, and all else as without it."""
    with register_section(dataclasses.replace(TOY, **{part: _raise})):
        text = render_text(RECORD, width=200, color=False)
    line = "The section 'counts' could not be made: its code raised ValueError: <b>no⟨U+202E⟩</b>\n\n"
    assert text.count(line) == 1
    assert text.replace(line, "") == render_text(RECORD, width=200, color=False)
