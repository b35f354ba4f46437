"""Design advice for people: the page, the terminal, JSON and CSV, all of one record."""

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

from layertracer import UsageError
from layertracer._types import Interval
from layertracer.advice import AdviceRecord, read_advice, save_advice
from layertracer.reports import (
    advice_json,
    render_advice_page,
    render_advice_text,
    write_advice_csv,
    write_advice_report,
)

from tests.support.records.advice_records import (
    ADVICE_RECORDS,
    HOSTILE,
    bare_advice,
    hostile_advice,
    large_advice,
    make_advice,
    rich_advice,
)

FIGURES = ("placements", "random", "singles", "pairs", "ratio", "divisions", "gates")


@pytest.fixture(scope="module")
def rich() -> AdviceRecord:
    """Advice with every field in use."""
    return rich_advice()


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def _verdict(record: AdviceRecord, n_kept: int, **changes: Any) -> AdviceRecord:
    placement = dataclasses.replace(record.placements[n_kept], **changes)
    return dataclasses.replace(record, placements={**record.placements, n_kept: placement})


# ---------------------------------------------------------------- the answer


def test_the_answer_stands_first(rich: AdviceRecord) -> None:
    """The headline names the layers of each number kept, what they cost, and whether that beats chance."""
    sentence = advice_json(rich)["sentence"]
    assert sentence == (
        "In mini/attention, with a window of 16 tokens and the first 4 in the layers that are not kept: to keep 2, "
        "take layers 4–5 (0.103 nats from the full model, better than chance); to keep 3, layers 0, 4–5 (0.0686 nats "
        "from the full model, undecided); to keep 4, layers 0, 4–5, 7 (0.0438 nats from the full model, better than "
        "chance)."
    )
    page = render_advice_page(rich)
    assert page.index("<h1>") < page.index('id="use"') < page.index('id="placements"') < page.index('id="reproduce"')


def test_one_number_reads_as_a_sentence() -> None:
    """Advice of one size says which layers to keep of how many, and the cost."""
    sentence = advice_json(large_advice())["sentence"]
    assert sentence.startswith("Keep layers 0, 2, 5–6, 9, 13, 17, 24 of the 30 layers of smollm2, with a window of 16")
    assert sentence.endswith(": 0.408 nats from the full model, better than chance.")


def test_tasks_answer_where_there_is_no_text() -> None:
    """Without text the cost is that at the tasks' answers, and is said to be."""
    answer = advice_json(bare_advice())
    assert "0.0131 nats from the full model at the tasks' answers, nothing to compare with" in answer["sentence"]
    assert answer["placements"]["1"]["judgement"]["kl_nats"] is None


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("undecided", "random placements of that size may do as well"), ("worse", "Do not take this one")],
)
def test_what_is_not_better_than_chance_is_said_before_the_numbers(verdict: str, said: str, rich: AdviceRecord) -> None:
    """A placement that is undecided, or worse than chance, has a warning above the headline, and on the terminal."""
    record = _verdict(rich, 2, verdict=verdict)
    page = render_advice_page(record)
    assert page.index(said) < page.index("<h1>")
    assert said in " ".join(render_advice_text(record, color=False).split())
    better = make_advice(8, (2,))
    assert said not in render_advice_page(better)


def test_how_sure_has_its_interval_and_the_best_random_one(rich: AdviceRecord) -> None:
    """The standing says the share that costs less with its interval, and how far the best of them is, on its side."""
    below = _verdict(rich, 2, percentile=0.0, below_best_nats=0.05, below_best_interval=Interval(low=0.01, high=0.09))
    assert (
        "0 % (0–6) of 60 random placements of this size cost less; 0.05 nats below the best of them (0.01 to 0.09)"
        in (advice_json(below)["placements"]["2"]["standing"])
    )
    above = _verdict(rich, 2, below_best_nats=-0.05, below_best_interval=Interval(low=-0.09, high=-0.01))
    assert "0.05 nats above the best of them (0.01 to 0.09)" in advice_json(above)["placements"]["2"]["standing"]


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("name", ADVICE_RECORDS)
def test_the_same_record_has_the_same_page(name: str, tmp_path: Path) -> None:
    """The page of a record is the same twice, and that of the record that was saved and read."""
    record = ADVICE_RECORDS[name]()
    page = render_advice_page(record)
    again = read_advice(save_advice(record, tmp_path / "a"))
    assert page == render_advice_page(again)
    assert write_advice_report(record, tmp_path / "page.html").read_text("utf-8") == page


def test_no_text_of_a_model_or_a_file_is_markup() -> None:
    """Hostile names appear as they are read, never as elements, scripts, or templates."""
    page = render_advice_page(hostile_advice())
    assert "<img" not in page
    assert "alert(1)</" not in page.split('id="report-data"')[0].replace("&lt;", "")
    assert page.count("</script>") == 4  # the theme's, the data, Plotly's, the page's own
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "49" not in re.findall(r"Design advice on [^<]*", page)[0]


def test_every_figure_has_its_words(rich: AdviceRecord) -> None:
    """Each figure has an alternative text and buttons that save it, and its numbers stand in the page's data."""
    page = render_advice_page(rich)
    assert sorted(_data(page)["figures"]) == sorted(FIGURES)
    for name in FIGURES:
        plot = re.search(rf'id="plot-{name}" role="img" aria-label="([^"]+)"', page)
        assert plot is not None, name
        assert len(plot.group(1)) > 30


def test_strips_show_what_is_kept(rich: AdviceRecord) -> None:
    """In the strips a cell is full where the placement keeps the layer, and dotted where it cannot be substituted."""
    [trace] = _data(render_advice_page(rich))["figures"]["placements"]["data"]
    kept = {n_kept: rich.placements[n_kept].layers for n_kept in (2, 3, 4)}
    full = [tuple(layer for layer, cell in enumerate(row) if cell == 3) for row in trace["z"]]
    assert [row for row in full if row] == list(kept.values())
    bare = _data(render_advice_page(bare_advice()))["figures"]["placements"]
    assert [layer for layer, cell in enumerate(bare["data"][0]["z"][0]) if cell == 0] == [0, 2, 4, 6, 7]
    assert len(bare["layout"]["shapes"]) == 5 * len(bare["data"][0]["z"])


def test_every_random_placement_is_a_dot(rich: AdviceRecord) -> None:
    """The panel of each number kept has all its random placements at their objectives, with the advised one."""
    data = _data(render_advice_page(rich))["figures"]["random"]["data"]
    for number, n_kept in (("", 2), ("2", 3), ("3", 4)):
        panel = {trace["name"]: trace for trace in data if trace["xaxis"] == f"x{number}"}
        assert panel["random"]["x"] == pytest.approx(rich.baselines[n_kept]["random"].objective, rel=1e-3)
        assert panel["advised"]["x"] == pytest.approx([rich.placements[n_kept].objective], rel=1e-3)
    assert sum(trace["showlegend"] for trace in data) == 5


def test_what_was_not_measured_has_no_section() -> None:
    """Sections without anything to show are not there; why there is no configuration to paste is."""
    page = render_advice_page(bare_advice())
    assert sorted(_data(page)["figures"]) == ["placements", "singles"]
    for name in ("pairs", "ratio", "divisions", "gates", "published"):
        assert f'id="{name}"' not in page
    assert "There is no configuration to paste: No configuration has the mean of a mixer." in page
    assert "No random placements were measured beside these" in page


def test_configurations_can_be_copied_as_json(rich: AdviceRecord) -> None:
    """What stands to be copied is JSON, and equals the record's own."""
    from html import unescape

    page = render_advice_page(rich)
    for n_kept in (2, 3, 4):
        found = re.search(rf'<code id="snippet-{n_kept}">(.*?)</code>', page, re.DOTALL)
        assert found is not None
        assert json.loads(unescape(found.group(1))) == rich.snippets[n_kept]


def test_limits_are_said(rich: AdviceRecord) -> None:
    """The page says what advice is not: positions, training, heads, rows."""
    page = render_advice_page(rich)
    for words in ("Only positions from 20 on", "A substitute stands in for a trained mixer", "may be single heads"):
        assert words in page
    assert "Only positions from" not in render_advice_page(bare_advice())


def test_no_placement_at_all() -> None:
    """A record without placements is drawn, and says that none was advised."""
    record = make_advice(8, ())
    assert advice_json(record)["sentence"] == "No placement was advised."
    assert "plot-singles" in render_advice_page(record)
    assert "No placement was advised." in render_advice_text(record, color=False)


def test_unjudged_and_unknown_numbers_are_dashes(rich: AdviceRecord) -> None:
    """A placement that was not judged has dashes, and no number that nobody measured."""
    record = _verdict(
        rich, 2, judgement=None, percentile=None, percentile_interval=None, n_random=0, verdict="undecided",
        objective=float("nan"),
        compared_kl_nats=float("nan"), below_best_nats=None, below_best_interval=None, kv_cache_share=None,
    )  # fmt: skip
    assert "to keep 2, take layers 4–5 (not judged, not judged)" in advice_json(record)["sentence"]
    assert "plot-placements" in render_advice_page(record)
    assert "nan" not in render_advice_text(record, color=False)


def test_a_folder_is_refused(rich: AdviceRecord, tmp_path: Path) -> None:
    """A folder is no file to write a page or a table to."""
    for write in (write_advice_report, write_advice_csv):
        with pytest.raises(UsageError, match="it is a folder, and a file is needed"):
            write(rich, tmp_path)


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize("name", ["rich", *(pytest.param(name, marks=pytest.mark.slow) for name in ("large", "bare"))])
def test_every_page_is_drawn_in_silence(name: str, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """All figures are drawn, at a desk and on a phone, without complaint, dialog, request or sideways scroll."""
    path = write_advice_report(ADVICE_RECORDS[name](), tmp_path / "page.html")
    for width in (1280, 390):
        opened = open_page(path, width=width)
        for figure in _data(path.read_text("utf-8"))["figures"]:
            assert opened.page.locator(f"#plot-{figure} svg.main-svg").count() > 0, figure
        assert opened.complaints == []
        assert opened.requests == [path.as_uri()]
        assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.browser
def test_hostile_names_do_nothing_in_a_browser(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """With hostile names nothing runs and nothing is asked for; the label over a cell says its layer and state."""
    path = write_advice_report(hostile_advice(), tmp_path / "page.html")
    opened = open_page(path, width=390)
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    texts = opened.hover_texts("placements", across=5.2 / 8.4, down=0.5 / 4)
    assert "layer 4Keep 2, advised: objective 0.145: kept" in texts[0]


# ---------------------------------------------------------------- the terminal


@pytest.mark.parametrize("name", ADVICE_RECORDS)
@pytest.mark.parametrize("width", [80, 40, 200])
def test_no_line_is_too_wide(name: str, width: int) -> None:
    """At any width no line is wider, and without colour no control character is there."""
    text = render_advice_text(ADVICE_RECORDS[name](), width=width, color=False)
    assert max(map(len, text.splitlines())) <= width
    assert all(char == "\n" or char.isprintable() for char in text)
    assert render_advice_text(ADVICE_RECORDS[name](), width=width, color=False, ascii_only=True).isascii()


def test_the_terminal_says_the_same_numbers(rich: AdviceRecord) -> None:
    """The answer, a row of cells for each number kept, and their costs stand on the terminal."""
    text = render_advice_text(rich, color=False)
    assert " ".join(text.split()).count(advice_json(rich)["sentence"]) == 1
    assert "keep 2  ····██··" in text
    assert "keep 4  █···██·█" in text
    assert "   2  0.103 (0.093–0.116)     1.67 % (0–6)       better than chance  25 %" in text
    assert "x.x#x.xx" in render_advice_text(bare_advice(), color=False, ascii_only=True)


def test_many_layers_are_cut_into_lines() -> None:
    """Rows of cells of 200 layers are cut, and every layer that is kept is drawn once."""
    record = make_advice(200, (20,), n_random=5, pairs=None)
    text = render_advice_text(record, width=80, color=False)
    assert "".join(re.findall(r"^keep 20 +([█·]+)$", text, re.MULTILINE)).count("█") == 20


def test_hostile_names_move_nothing() -> None:
    """Names that hold commands of a terminal are shown, not obeyed."""
    text = render_advice_text(hostile_advice(), color=True)
    assert HOSTILE not in text
    assert "\u202e" not in text
    assert not re.search(r"\x1b\[31m(?!\S)", text)


# ---------------------------------------------------------------- JSON and CSV


@pytest.mark.parametrize("name", ADVICE_RECORDS)
def test_json_is_json(name: str) -> None:
    """The document has no NaN and no infinity, and its numbers are the record's."""
    record = ADVICE_RECORDS[name]()
    document = json.loads(json.dumps(advice_json(record), allow_nan=False))
    for n_kept, placement in record.placements.items():
        found = document["placements"][str(n_kept)]
        assert found["layers"] == list(placement.layers)
        assert (found["percentile"] is None) == (placement.percentile is None)
        assert found["percentile"] in (None, pytest.approx(placement.percentile or 0.0, rel=1e-5))
    assert document["singles"]["layers"] == list(record.singles.layers)
    assert document["substitute"] == record.substitute.to_dict()


@pytest.mark.parametrize("name", ADVICE_RECORDS)
def test_csv_has_every_number_of_placements_and_singles(name: str, tmp_path: Path) -> None:
    """Each random placement and each single layer has its row, to the last bit."""
    record = ADVICE_RECORDS[name]()
    with write_advice_csv(record, tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for n_kept, named in record.baselines.items():
        drawn = [
            float(row["value"])
            for row in rows
            if (row["part"], row["name"], row["n_kept"], row["quantity"])
            == ("placement", "random", str(n_kept), "objective")
        ]
        assert drawn == named["random"].objective.tolist()
    singles = [row for row in rows if row["part"] == "single" and row["quantity"] == "removed_kl_nats"]
    expected = np.concatenate(
        [record.singles.removed_kl_nats[kind] for kind in dict.fromkeys(r["rows"] for r in singles)]
    )
    assert [float(row["value"]) for row in singles] == expected.tolist()
    assert not any(row["value"] == "nan" for row in rows)


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A task whose name a spreadsheet would run is written as text."""
    record = make_advice(8, (2,), tasks=("=HYPERLINK(1)", "recall"), gates=None)
    text = write_advice_csv(record, tmp_path / "a.csv").read_text("utf-8")
    assert ",=HYPERLINK" not in text
    assert "'=HYPERLINK(1)" in text
