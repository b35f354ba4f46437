"""Evidence for people: the page, the terminal, JSON and CSV, all of one record."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer import UsageError
from layertracer._types import Interval
from layertracer.evidence import Agreement, EvidenceRecord, RoleEffects, Verdict, read_evidence, save_evidence
from layertracer.reports import (
    evidence_json,
    next_evidence_steps,
    render_evidence_page,
    render_evidence_text,
    write_evidence_csv,
    write_evidence_report,
)
from layertracer.reports._drawing.role_map import draw_role_map

from tests.support.records.advice_records import HOSTILE
from tests.support.records.causal_records import empty_causal, make_causal
from tests.support.records.evidence_records import (
    EVIDENCE_RECORDS,
    LENSES,
    SITES,
    bare_evidence,
    hostile_evidence,
    large_evidence,
    make_evidence,
    quick_evidence,
    rich_evidence,
)

FIGURES = (
    *("threshold", "lens", "false-positives", "causal", "prompt-by-prompt", "mask", "importance", "measures"),
    *("agreement-1", "agreement-2"),
    *("dose", "dominant", "running-text", "prompts", "templates", "probes"),
)
PAGES = {**EVIDENCE_RECORDS, "large": large_evidence, "one": lambda: make_evidence(2, 1)}


@pytest.fixture(scope="module")
def rich() -> EvidenceRecord:
    """Evidence with every field in use."""
    return rich_evidence()


@pytest.fixture(scope="module")
def page(rich: EvidenceRecord) -> str:
    """Its page."""
    return render_evidence_page(rich)


def _figures(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    figures: dict[str, Any] = json.loads(found.group(1))["figures"]
    return figures


def _words(page: str) -> str:
    """What stands on a page to be read, without elements, scripts and styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ").split())


# ---------------------------------------------------------------- the answers


def test_the_headline_counts_and_does_not_judge(rich: EvidenceRecord) -> None:
    """The headline says how many questions were answered how; there is no answer of all of them together."""
    assert evidence_json(rich)["sentence"] == (
        "Of 11 questions about mini/attention on antonym: 4 answered yes, 4 answered no, 2 undecided, 1 not measured."
    )
    none = dataclasses.replace(rich, verdicts=())
    assert evidence_json(none)["sentence"] == "No question was asked."


def test_every_question_has_its_answer_twice(rich: EvidenceRecord, page: str) -> None:
    """Each question stands in the list, with a link to its section, and there again, answer before figure."""
    for verdict in rich.verdicts:
        section = verdict.question.replace("_", "-")
        assert f'<a href="#{section}">{verdict.asked}</a>' in unescape(page)
        after = unescape(page[page.index(f'<section id="{section}">') :]).replace("\u00a0", " ")
        assert after.index(verdict.asked) < after.index(verdict.answer) < after.index(verdict.sentence)
        if f"plot-{section}" in after:
            assert after.index(verdict.sentence) < after.index(f"plot-{section}")
        if verdict.caveat:
            assert after.index(verdict.sentence) < after.index(verdict.caveat)
    assert _words(page).count("Mind.") == sum(bool(one.caveat) for one in rich.verdicts)


def test_an_answer_is_told_by_word_and_shape(page: str) -> None:
    """Each of the four answers has a word and a shape of its own: nobody needs colours."""
    marks = set(re.findall(r'<span class="given [a-z-]+"><span aria-hidden="true">(.)</span> ([a-z ]+)</span>', page))
    assert {word for _, word in marks} == {"yes", "no", "undecided", "not measured"}
    assert len({sign for sign, _ in marks}) == 4


def test_a_question_of_later_versions_is_shown(rich: EvidenceRecord) -> None:
    """A question that this version has no figure for has its answer all the same."""
    later = Verdict(question="heads", asked="Is it single heads?", answer="undecided", sentence="Perhaps 3 of 32.")
    shown = render_evidence_page(dataclasses.replace(rich, verdicts=(later,)))
    section = shown[shown.index('<section id="question-0">') :]
    assert section.index("Is it single heads?") < section.index("Perhaps 3 of 32.")


def test_what_was_not_asked_but_measured_is_shown(rich: EvidenceRecord) -> None:
    """Figures do not need a question: their sections have plain titles then."""
    shown = render_evidence_page(dataclasses.replace(rich, verdicts=()))
    assert sorted(_figures(shown)) == sorted(FIGURES)
    assert "How much is masked" in shown


def test_failed_controls_are_said_before_the_answers(page: str, rich: EvidenceRecord) -> None:
    """A control that did not come out as expected has a warning above the headline; else there is none."""
    assert page.index("Not as expected: arbitrary labels") < page.index("<h1>")
    fine = tuple(dataclasses.replace(one, passed=True) for one in rich.controls)
    assert "Not as expected" not in render_evidence_page(dataclasses.replace(rich, controls=fine))


def test_no_layer_is_named_that_does_not_stand_out(rich: EvidenceRecord) -> None:
    """The tile of the most vulnerable layer names one only where it is clear."""
    assert not rich.effects[0].is_clear
    assert "none stands out largest at 1" in _words(render_evidence_page(rich))
    clear = dataclasses.replace(rich.effects[0], is_clear=True, contenders=(rich.effects[0].layer,))
    shown = _words(render_evidence_page(dataclasses.replace(rich, effects=(clear, *rich.effects[1:]))))
    assert "Most vulnerable layer, block_output 1 of 8 layers stands out" in shown


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("name", EVIDENCE_RECORDS)
def test_the_same_record_has_the_same_page(name: str, tmp_path: Path) -> None:
    """The page of a record is the same twice, and that of the record that was saved and read."""
    record = EVIDENCE_RECORDS[name]()
    page = render_evidence_page(record)
    again = read_evidence(save_evidence(record, tmp_path / "e"))
    assert page == render_evidence_page(again)
    assert write_evidence_report(record, tmp_path / "page.html").read_text("utf-8") == page


def test_no_text_of_a_model_or_a_file_is_markup() -> None:
    """Hostile names appear as they are read, never as elements, scripts, or templates of text or of figures."""
    page = render_evidence_page(hostile_evidence())
    assert "<img" not in page
    assert page.count("</script>") == 4  # the theme's, the data, Plotly's, the page's own
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "49" not in re.findall(r"Evidence on [^<]*", page)[0]
    templates = json.dumps([trace.get("hovertemplate") for one in _figures(page).values() for trace in one["data"]])
    assert "onerror" not in templates


def test_every_figure_has_its_words(page: str) -> None:
    """Each figure has an alternative text and buttons that save it, and its numbers stand in the page's data."""
    assert sorted(_figures(page)) == sorted(FIGURES)
    for name in FIGURES:
        plot = re.search(rf'id="plot-{name}" role="img" aria-label="([^"]+)"', page)
        assert plot is not None, name
        assert len(plot.group(1)) > 30


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_small_and_whole(name: str) -> None:
    """Whatever the size of the record, the page is below 6 MB and no figure has NaN."""
    page = render_evidence_page(PAGES[name]())
    assert len(page.encode()) < 6_000_000
    assert "NaN" not in json.dumps(_figures(page))


def test_what_was_not_measured_has_no_figure() -> None:
    """Of bare evidence there is what was measured; why there is no causal tracing is said."""
    page = render_evidence_page(bare_evidence())
    assert sorted(_figures(page)) == ["false-positives", "mask", "threshold"]
    assert "Causal tracing was not measured: The task says no subjects" in page
    short = render_evidence_page(quick_evidence())
    assert "This is the short form" in short
    assert "plot-causal" not in short
    assert '<section id="causal">' in short  # the question was asked, and has its answer


def test_figures_hold_the_records_numbers(rich: EvidenceRecord, page: str) -> None:
    """Curves, particles, rates, cells and strips are those of the record."""
    figures = _figures(page)
    curves = {trace["name"]: trace for trace in figures["threshold"]["data"] if trace["mode"] == "lines+markers"}
    assert curves["tuned lens"]["y"] == pytest.approx(rich.target_prob["tuned"], rel=1e-3)
    assert curves["tuned lens"]["x"] == list(range(-1, 8))
    points = [trace for trace in figures["threshold"]["data"] if trace["mode"] == "markers"]
    for trace, lens in zip(points, LENSES, strict=True):
        found = [one for one in rich.particles if one.lens == lens and one.layer is not None]
        assert trace["x"] == [one.layer for one in found]
        assert trace["error_x"]["array"] == [one.interval.high - one.layer for one in found if one.interval]
    [bars] = figures["false-positives"]["data"]
    assert bars["x"] == [one.false_positive_rate for one in rich.particles if one.n_random]
    strips = figures["mask"]["data"]
    for trace, effect in zip(strips, rich.effects, strict=False):
        known = [value for value in trace["z"][0] if value is not None]
        mean = effect.mean_js_bits
        assert known == pytest.approx(mean[np.isfinite(mean)], rel=1e-3)
    assert len(figures["running-text"]["data"]) == 2 * len(SITES) + len(rich.text_importance)
    kl = [trace for trace in figures["lens"]["data"] if trace["yaxis"] == "y"]
    assert kl[0]["y"] == pytest.approx(rich.lenses[0].kl_nats, rel=1e-3)


def test_the_matrix_marks_what_stays_after_holm(rich: EvidenceRecord, page: str) -> None:
    """A cell has its correlation, with a star where Holm's p is below 0.05; what is undefined has a dash."""
    [matrix] = _figures(page)["importance"]["data"]
    over_layers = [one for one in rich.agreements if one.family == "layers"]
    assert np.ravel(matrix["z"]).tolist() == [one.value for one in over_layers]
    stars = [text.endswith("*") for row in matrix["text"] for text in row]
    assert stars == [one.p_holm is not None and one.p_holm < 0.05 for one in over_layers]
    undefined = dataclasses.replace(over_layers[0], value=None, interval=None, p=None, p_holm=None)
    shown = render_evidence_page(dataclasses.replace(rich, agreements=(undefined, over_layers[1])))
    assert _figures(shown)["importance"]["data"][0]["text"][0][0] == "–"


def test_families_are_not_mixed(rich: EvidenceRecord, page: str) -> None:
    """The same two things, compared on the task and on running text, stand in two figures with their own numbers."""
    figures = _figures(page)
    assert figures["agreement-1"]["data"][0]["z"] == [[None] * 8]
    assert figures["importance"]["data"][0]["z"][0] == [one.value for one in rich.agreements[:8]]
    assert "Agreement: layers on running text" in page
    points = figures["agreement-2"]["data"]  # a matrix would have nothing but a diagonal
    assert sum(len(trace["x"]) for trace in points) == len(SITES)


def test_the_forest_has_every_defined_correlation(rich: EvidenceRecord, page: str) -> None:
    """Correlations over prompts are points with their intervals, hollow where they may be chance."""
    traces = _figures(page)["prompt-by-prompt"]["data"]
    defined = [one for one in rich.agreements if one.units == "prompts" and one.value is not None]
    assert sum(len(trace["x"]) for trace in traces) == len(defined)
    assert {symbol for trace in traces for symbol in trace["marker"]["symbol"]} == {"circle-open"}
    assert "−0.4 to 0.6" in traces[0]["customdata"][0] or "−0.4 to +0.6" in traces[0]["customdata"][0]


def test_doses_skip_what_a_logarithm_cannot_show(rich: EvidenceRecord) -> None:
    """A dose that changes nothing at a layer has a gap there, not a line to minus infinity."""
    js = rich.doses[0].js_bits.copy()
    js[0, 3] = 0.0
    record = dataclasses.replace(rich, doses=(dataclasses.replace(rich.doses[0], js_bits=js),))
    first = _figures(render_evidence_page(record))["dose"]["data"][0]
    assert first["y"][3] is None
    assert first["y"][2] is not None


def test_the_map_of_roles_leaves_out_roles_without_prompts() -> None:
    """The map has a row for each role that any prompt has, and says each cell's number, interval and prompts."""
    causal = make_causal(8, 6)
    figure = draw_role_map(causal.by_role, 8, "Effect")
    [trace] = figure["data"]
    assert trace["y"] == ["first subject", "last subject", "one after it", "further", "last token"]
    row = trace["y"].index("last token")
    assert trace["z"][row] == pytest.approx(causal.by_role.mean[-1], rel=1e-3)
    assert trace["customdata"][row][7].endswith("n = 4")
    none = draw_role_map(empty_causal().by_role, 2, "Effect")
    assert none["data"][0]["z"] == []
    gap = RoleEffects(
        roles=("last",),
        mean=np.array([[np.nan, 0.5]]),
        low=np.array([[np.nan, np.nan]]),
        high=np.array([[np.nan, np.nan]]),
        n_prompts=np.array([1]),
    )
    assert draw_role_map(gap, 2, "Effect")["data"][0]["customdata"] == [["nothing to patch here", "+0.5, n = 1"]]


def test_a_causal_trace_without_a_usable_prompt(rich: EvidenceRecord) -> None:
    """Where no prompt could be used there is no map, and the reasons are listed."""
    causal = make_causal(8, 2, n_excluded=2)
    page = render_evidence_page(dataclasses.replace(rich, causal=causal))
    assert "causal" not in _figures(page)
    assert "below P(contrast answer)" in page


def test_what_to_do_next(rich: EvidenceRecord) -> None:
    """More prompts where something is undecided, everything where the short form was asked for."""
    assert list(next_evidence_steps(rich)) == ["What is undecided may be settled by more prompts: --limit."]
    steps = list(next_evidence_steps(quick_evidence()))
    assert steps[0] == "Ask for everything: leave out --quick."
    assert any("Causal tracing needs subjects" in step for step in steps)


def test_commands_to_run_it_again(page: str) -> None:
    """The page has the command that was given, and Python that asks the same."""
    assert "layertracer validate mini/attention --task antonym" in page
    assert "evidence = lt.validate(" in unescape(page)
    hostile = unescape(render_evidence_page(hostile_evidence()))
    code = re.search(r'<code id="python">(.*?)</code>', hostile, re.DOTALL)
    assert code is not None
    compile(code.group(1), "python", "exec")


def test_a_folder_is_refused(rich: EvidenceRecord, tmp_path: Path) -> None:
    """A folder is no file to write a page or a table to."""
    for write in (write_evidence_report, write_evidence_csv):
        with pytest.raises(UsageError, match="it is a folder, and a file is needed"):
            write(rich, tmp_path)


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["rich", *(pytest.param(name, marks=pytest.mark.slow) for name in ("large", "bare", "quick", "one"))]
)
def test_every_page_is_drawn_in_silence(name: str, tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """All figures are drawn, at a desk and on a phone, without complaint, dialog, request or sideways scroll."""
    path = write_evidence_report(PAGES[name](), tmp_path / "page.html")
    for width in (1280, 390):
        opened = open_page(path, width=width)
        for figure in _figures(path.read_text("utf-8")):
            assert opened.page.locator(f"#plot-{figure} svg.main-svg").count() > 0, figure
        assert opened.complaints == []
        assert opened.requests == [path.as_uri()]
        assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


@pytest.mark.browser
def test_hostile_names_do_nothing_in_a_browser(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    """With hostile names nothing runs and nothing is asked for; labels show them as they are."""
    path = write_evidence_report(hostile_evidence(), tmp_path / "page.html")
    opened = open_page(path, width=390)
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    texts = " ".join(opened.hover_texts("importance", across=1.94 / 2.08, down=0.75 / 4))
    assert "</script><img src" in texts


# ---------------------------------------------------------------- the terminal


@pytest.mark.parametrize("name", EVIDENCE_RECORDS)
@pytest.mark.parametrize("width", [80, 40, 200])
def test_no_line_is_too_wide(name: str, width: int) -> None:
    """At any width no line is wider, and without colour no control character is there."""
    text = render_evidence_text(EVIDENCE_RECORDS[name](), width=width, color=False)
    assert max(map(len, text.splitlines())) <= width
    assert all(char == "\n" or char.isprintable() for char in text)
    assert render_evidence_text(EVIDENCE_RECORDS[name](), width=width, color=False, ascii_only=True).isascii()


def test_the_terminal_says_every_answer(rich: EvidenceRecord) -> None:
    """Each question has its answer in capitals before it, its sentence and its caveat; then the key tables."""
    text = render_evidence_text(rich, color=False)
    plain = " ".join(text.split())
    for verdict in rich.verdicts:
        assert f"{verdict.answer.upper()} {verdict.asked} {verdict.sentence}" in plain
        assert not verdict.caveat or f"Mind: {verdict.caveat}" in plain
    assert "arbitrary labels, NOT as expected: With arbitrary labels a particle is found in 0.31" in plain
    assert "block_output  1 %                              2          +0.41" in text
    assert "▲ largest 1, not clear" in text


def test_hostile_names_move_nothing() -> None:
    """Names that hold commands of a terminal are shown, not obeyed."""
    text = render_evidence_text(hostile_evidence(), color=True)
    assert HOSTILE not in text
    assert "\u202e" not in text
    assert not re.search(r"\x1b\[31m(?!\S)", text)


# ---------------------------------------------------------------- JSON and CSV


@pytest.mark.parametrize("name", EVIDENCE_RECORDS)
def test_json_is_json(name: str) -> None:
    """The document has no NaN and no infinity, and its numbers are the record's."""
    record = EVIDENCE_RECORDS[name]()
    document = json.loads(json.dumps(evidence_json(record), allow_nan=False))
    assert [one["answer"] for one in document["verdicts"]] == [one.answer for one in record.verdicts]
    for found, effect in zip(document["effects"], record.effects, strict=True):
        expected = [None if np.isnan(one) else pytest.approx(one, rel=1e-5) for one in effect.mean_js_bits]
        assert found["mean_js_bits"] == expected
    for found, one in zip(document["agreements"], record.agreements, strict=True):
        assert found["p_holm"] == (None if one.p_holm is None else pytest.approx(one.p_holm, rel=1e-5))
    assert (document["causal"] is None) == (record.causal is None)


@pytest.mark.parametrize("name", EVIDENCE_RECORDS)
def test_csv_has_every_number(name: str, tmp_path: Path) -> None:
    """Curves, agreements, controls and probes have a row a number, to the last bit."""
    record = EVIDENCE_RECORDS[name]()
    with write_evidence_csv(record, tmp_path / "e.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    def values(part: str, quantity: str) -> list[str]:
        return [row["value"] for row in rows if (row["part"], row["quantity"]) == (part, quantity)]

    means = [value for effect in record.effects for value in effect.mean_js_bits.tolist()]
    assert values("effect", "js_bits") == ["" if np.isnan(one) else repr(one) for one in means]
    found = [row["value"] for row in rows if row["part"] == "agreement"]
    assert found == ["" if one.value is None else repr(one.value) for one in record.agreements]
    assert values("probe", "accuracy") == [repr(one.accuracy) for one in record.probes]
    assert values("target", "target_prob") == [
        repr(float(one)) for lens in sorted(record.target_prob) for one in record.target_prob[lens]
    ]
    n_cells = 0 if record.causal is None else record.causal.by_role.mean.size
    assert len(values("causal", "indirect_effect")) == n_cells
    assert not any(row["value"] in ("nan", "inf") for row in rows)


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A control whose name a spreadsheet would run is written as text."""
    record = rich_evidence()
    control = dataclasses.replace(record.controls[0], name="=HYPERLINK(1)", sentence="+1")
    text = write_evidence_csv(dataclasses.replace(record, controls=(control,)), tmp_path / "e.csv").read_text("utf-8")
    assert ",=HYPERLINK" not in text
    assert "'=HYPERLINK(1)" in text
    assert "'+1" in text


def test_agreements_of_several_methods_are_told_apart(rich: EvidenceRecord) -> None:
    """Columns of a matrix with several methods say which one they are."""
    one = next(one for one in rich.agreements if one.units == "layers")
    both = (one, dataclasses.replace(one, method="pearson", value=0.25, interval=Interval(low=-0.1, high=0.5)))
    figure = _figures(render_evidence_page(dataclasses.replace(rich, agreements=both)))["importance"]
    assert figure["layout"]["xaxis"]["ticktext"] == ["skip_js_bits, spearman", "skip_js_bits, pearson"]
    assert figure["data"][0]["z"] == [[one.value, 0.25]]


def test_many_agreements_are_cut_and_the_table_has_them(rich: EvidenceRecord) -> None:
    """A matrix of more rows and columns than fit is cut; the table behind it has all."""
    base = next(one for one in rich.agreements if one.units == "layers")
    many = tuple(
        Agreement(**{**_fields(base), "one": f"one {row}", "other": f"other {column}"})
        for row in range(40)
        for column in range(20)
    )
    shown = render_evidence_page(dataclasses.replace(rich, agreements=many[:400]))
    [matrix] = _figures(shown)["importance"]["data"]
    assert len(matrix["z"]) <= 30
    assert len(matrix["z"][0]) == 16
    assert "text" not in matrix
    assert "other 19" in shown


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
