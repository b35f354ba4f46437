"""Causal traces for people: the page, the terminal, JSON and CSV, all of one record."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from layertracer import UsageError
from layertracer.evidence import CausalRecord, read_causal, save_causal
from layertracer.reports import (
    causal_json,
    render_causal_page,
    render_causal_text,
    write_causal_csv,
    write_causal_report,
)
from layertracer.reports._causal.prompt_maps import cells_data, held_prompts

from tests.support.records.causal_records import CAUSAL_RECORDS, hostile_causal, make_causal, rich_causal


@pytest.fixture(scope="module")
def rich() -> CausalRecord:
    """A causal trace with every field in use."""
    return rich_causal()


@pytest.fixture(scope="module")
def many() -> CausalRecord:
    """Of twelve prompts ten were used, so that there are intervals."""
    return make_causal(12, 12)


def _sentence(record: CausalRecord) -> str:
    sentence: str = causal_json(record)["sentence"]
    return sentence


def _with_ends(record: CausalRecord, half: float) -> CausalRecord:
    """The record with intervals of one width."""
    mean = record.by_role.mean
    return dataclasses.replace(
        record, by_role=dataclasses.replace(record.by_role, low=mean - half, high=np.minimum(mean + half, 1.0))
    )


def test_the_answer_stands_first(many: CausalRecord) -> None:
    """The headline says where the effect peaks before the last token, its value with its interval, and of how many."""
    record = _with_ends(many, 0.01)
    row = record.by_role.roles.index("last_subject")
    layer = int(record.by_role.mean[row].argmax())
    assert _sentence(record).startswith(f"Patching the last subject token at layer {layer} restores 0.")
    assert "the largest mean effect before the last token, over 10 prompts" in _sentence(record)
    page = render_causal_page(record)
    assert page.index("<h1>") < page.index('id="effects"') < page.index('id="reproduce"')


def test_a_peak_that_overlaps_others_is_undecided(many: CausalRecord) -> None:
    """Where other intervals reach into the peak's, the headline says so and names them; where none does, that."""
    wide = _with_ends(many, 0.3)
    assert "Which layer is the largest is undecided: layers " in _sentence(wide)
    answer = causal_json(wide)["peak"]
    assert not answer["is_clear"]
    assert len(answer["contenders"]) > 1
    sharp = _with_ends(many, 1e-6)
    assert "No other layer's or token's interval reaches into its own." in _sentence(sharp)
    assert causal_json(sharp)["peak"]["is_clear"]


def test_without_intervals_nothing_is_called_sure(many: CausalRecord) -> None:
    """Too few prompts for an interval: the peak is named, and that it cannot be told."""
    none = np.full_like(many.by_role.mean, np.nan)
    record = dataclasses.replace(many, by_role=dataclasses.replace(many.by_role, low=none, high=none))
    assert "Where it peaks cannot be told" in _sentence(record)
    near = _with_ends(many, 2.0)
    assert "It cannot be told from no effect at all." in _sentence(near)


def test_disruption_takes_away(many: CausalRecord) -> None:
    """With corrupted values into the clean run the words are of what is lost."""
    assert " takes away " in _sentence(make_causal(12, 12, direction="noise"))
    assert " restores " in _sentence(many)


@pytest.mark.parametrize("name", CAUSAL_RECORDS)
def test_the_same_record_has_the_same_page(name: str, tmp_path: Path) -> None:
    """The page of a record is the same twice, and that of the record that was saved and read."""
    record = CAUSAL_RECORDS[name]()
    page = render_causal_page(record)
    assert page == render_causal_page(read_causal(save_causal(record, tmp_path / "a")))
    assert write_causal_report(record, tmp_path / "page.html").read_text("utf-8") == page


def test_no_text_of_a_model_or_a_file_is_markup() -> None:
    """Hostile names, tokens and reasons appear as they are read, never as elements, scripts, or templates."""
    page = render_causal_page(hostile_causal())
    assert "<img" not in page
    assert page.count("</script>") == 4  # the theme's, the data, Plotly's, the page's own
    assert "\x1b" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize("name", CAUSAL_RECORDS)
def test_json_holds_no_nan_and_counts_what_was_left_out(name: str) -> None:
    """The document is strict JSON, with every prompt and every reason."""
    record = CAUSAL_RECORDS[name]()
    found: dict[str, Any] = json.loads(json.dumps(causal_json(record), allow_nan=False))
    assert len(found["prompts"]) == found["n_prompts"] == len(record.lengths)
    assert [one["prompt"] for one in found["excluded"]] == [one.prompt for one in record.excluded]
    assert found["n_used"] == len(record.lengths) - len(record.excluded)


@pytest.mark.parametrize("name", CAUSAL_RECORDS)
@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_terminal_is_never_overrun(name: str, width: int) -> None:
    """No line is wider than the terminal, and without colour there is no control character."""
    record = CAUSAL_RECORDS[name]()
    text = render_causal_text(record, width=width, color=False)
    assert max(map(cell_len, text.splitlines())) <= width
    assert render_causal_text(record, width=width, color=False, ascii_only=True).isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_the_terminal_says_what_the_page_says(rich: CausalRecord) -> None:
    """Headline, prompts used, what was left out, and what that does not say stand in both."""
    text = " ".join(render_causal_text(rich, color=False).split())
    page = render_causal_page(rich)
    assert _sentence(rich) in text
    for words in ("Prompts used", "not solved", "where a fact is stored"):
        assert words in text
        assert words in page


def test_the_table_has_a_row_for_every_cell(rich: CausalRecord, tmp_path: Path) -> None:
    """CSV: as many rows as cells that were patched, with their roles, tokens and effects at full precision."""
    path = write_causal_csv(rich, tmp_path / "cells.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == int(np.isfinite(rich.restored_prob).sum())
    row = rows[len(rows) // 2]
    prompt, layer, position = (int(row[name]) for name in ("prompt", "layer", "position"))
    assert float(row["indirect_effect"]) == rich.indirect_effect[prompt, layer, position]
    assert row["token"] == rich.token_texts[prompt][position]
    with pytest.raises(UsageError, match="it is a folder"):
        write_causal_csv(rich, tmp_path)


def test_the_page_holds_every_map_that_it_says_it_holds(rich: CausalRecord) -> None:
    """Prompts that were used, in order, with every cell; where there is no room, fewer, and at least one."""
    held = held_prompts(rich)
    out = {one.prompt for one in rich.excluded}
    assert held == [index for index in range(len(rich.lengths)) if index not in out]
    data = cells_data(rich, held)
    for index, prompt in zip(held, data["prompts"], strict=True):
        first, length = int(rich.subject_spans[index, 0]), int(rich.lengths[index])
        wanted = rich.indirect_effect[index][:, first:length].T
        np.testing.assert_allclose(np.array(prompt["effect"], float), wanted, rtol=1e-2, atol=1e-6)
        assert len(prompt["tokens"]) == len(prompt["roles"]) == length - first
    assert held_prompts(rich, most_cells=1) == held[:1]
    assert "the maps of all prompts" in render_causal_page(rich)


def test_what_the_command_was_is_quoted() -> None:
    """The page repeats the command that was given, or one of what was asked, with names as single words."""
    record = make_causal(4, 3, name="a b;rm -rf /", provenance={})
    page = render_causal_page(record)
    assert "layertracer causal &#39;a b;rm -rf /&#39; --task FILE --corrupt swap" in page


@pytest.mark.parametrize("width", [1280, 800, 390])
@pytest.mark.parametrize("name", ["rich", "hostile", "empty"])
def test_the_page_is_drawn_in_a_browser(name: str, width: int, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """Maps are drawn, nothing complains, nothing is asked for elsewhere, and the page is no wider than the window."""
    path = write_causal_report(CAUSAL_RECORDS[name](), tmp_path / "page.html")
    opened = open_page(path, width=width)
    assert opened.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in opened.requests)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_any_prompt_is_drawn_on_request(rich: CausalRecord, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """Choosing a prompt shows its text and draws its own cells."""
    opened = open_page(write_causal_report(rich, tmp_path / "page.html"))
    page = opened.page
    labels = page.locator("#cells-prompt option").all_text_contents()
    assert len(labels) == 4
    before = page.evaluate("JSON.stringify(document.getElementById('plot-cells').data[0].z)")
    page.select_option("#cells-prompt", "2")
    opened.wait_until(f"JSON.stringify(document.getElementById('plot-cells').data[0].z) !== {json.dumps(before)}")
    shown = json.loads(page.evaluate("JSON.stringify(document.getElementById('plot-cells').data[0].z)"))
    first, length = int(rich.subject_spans[2, 0]), int(rich.lengths[2])
    wanted = rich.indirect_effect[2][:, first:length].T
    np.testing.assert_allclose(np.array(shown, float), wanted, rtol=1e-2, atol=1e-6)
    page.click("#cells-next")
    opened.wait_until("document.getElementById('cells-prompt').value === '3'")
    page.locator("details[data-table=cells] summary").click()
    n_rows = int(rich.lengths[3] - rich.subject_spans[3, 0])
    opened.wait_until(f"document.querySelectorAll('details[data-table=cells] tbody tr').length === {n_rows}")
    assert opened.complaints == []
