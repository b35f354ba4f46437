"""The page as a file: its size, its policy, its texts. What it does in a browser stands in test_browser.py."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._errors import UsageError
from layertracer._types import Mask, Noise, Skip
from layertracer.reports import render_page, write_report
from layertracer.reports._assets import to_script_json
from layertracer.reports._values.reproduce import command_line, python_code
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import HOSTILE_TEXTS, make_record


class _Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.in_script = True
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.in_script = self.in_script and tag != "script"


def _parse(page: str) -> _Elements:
    parser = _Elements()
    parser.feed(page)
    return parser


def _with_name(record: TraceRecord, name: str) -> TraceRecord:
    return dataclasses.replace(record, model=dataclasses.replace(record.model, name=name))


def test_same_record_same_bytes(tmp_path: Path) -> None:
    """Two reports on equal records are equal, and nothing is left beside them."""
    first = write_report(make_record(4, 8), tmp_path / "new" / "a.html")
    second = write_report(make_record(4, 8), tmp_path / "new" / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.html", "b.html"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder instead of a file gets a message that says what to give."""
    with pytest.raises(UsageError, match="it is a folder, and a file is needed"):
        write_report(make_record(2, 4), tmp_path)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(make_record(300, 500, 2), id="500 layers"),
        pytest.param(make_record(2000, 30, 2), id="2000 prompts"),
        pytest.param(
            dataclasses.replace(
                make_record(60, 60),
                tokens=dict.fromkeys(make_record(60, 60).tokens, "\u202e" * 40),
                prompts=tuple(
                    dataclasses.replace(prompt, prompt_text="世\u200f" * 30_000)
                    for prompt in make_record(60, 60).prompts
                ),
                warnings=("\u202e世" * 5000,) * 500,
            ),
            id="long hidden texts",
        ),
    ],
)
def test_a_page_stays_below_six_megabytes_and_says_what_it_left_out(record: TraceRecord) -> None:
    """However large the record, the page has room for Plotly once and for a stated part of the prompts."""
    page = render_page(record)
    assert len(page.encode("utf-8")) < 6_000_000
    assert re.search(rf"The first \d+ of {record.n_prompts:,} prompts", page)


def test_plotly_is_embedded_once() -> None:
    """The script that draws is in the page exactly once, and only where there is something to draw."""
    marker = "Licensed under the MIT license"
    assert render_page(make_record(2, 4)).count("plotly.js v") == 1
    assert marker in render_page(make_record(2, 4))
    failed = render_page(make_record(0, 4, status="failed", n_requested=3))
    assert marker not in failed
    assert len(failed) < 100_000


def test_policy_allows_the_scripts_of_the_page_and_nothing_else() -> None:
    """The policy begins with nothing, and names the hash of every script that runs."""
    page = _parse(render_page(make_record(2, 4)))
    policy = next(values["content"] for tag, values in page.elements if values.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    kinds = [values.get("type") for tag, values in page.elements if tag == "script"]
    for kind, script in zip(kinds, page.scripts, strict=True):
        digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
        assert (f"'sha256-{digest}'" in policy) == (kind != "application/json")


def test_hostile_texts_add_no_element() -> None:
    """A record full of attacks gives the same elements as a harmless one of the same shape."""
    harmless = _parse(render_page(make_record(8, 8)))
    hostile = _parse(render_page(make_record(8, 8, hostile=True)))
    extra = [tag for tag, _ in hostile.elements]
    for tag, _ in harmless.elements:
        extra.remove(tag)
    assert sorted(extra) == ["div", "strong"]  # the second warning
    addresses = {values[name] for _, values in hostile.elements for name in ("src", "href") if values.get(name)}
    assert all(address is not None and address.startswith(("#", "data:,")) for address in addresses)


@given(st.recursive(st.text(), lambda values: st.lists(values, max_size=3)))
def test_script_json_holds_no_markup_and_comes_back(value: object) -> None:
    """JSON in the page has no character that ends a script, and reads back as it was."""
    text = to_script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


@given(st.sampled_from(HOSTILE_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_python_code_holds_names_as_literals(name: str) -> None:
    """The code parses whatever the names are, and calls nothing but LayerTracer."""
    record = _with_name(make_record(2, 4), name)
    spec = dataclasses.replace(record.spec, task={"name": name, "n_shot": 2, "template": name})
    code = python_code(dataclasses.replace(record, spec=spec))
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    literals = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert {ast.unparse(call.func).split(".")[0] for call in calls} == {"lt", "trace"}
    assert literals.count(name) >= 3


@pytest.mark.parametrize("name", ["my model; rm -rf ~", "$(touch x)", "it's", "a\nb", "--help"])
def test_command_is_quoted_for_a_shell(name: str) -> None:
    """A shell reads the model's name as one word."""
    command = command_line(_with_name(make_record(2, 4), name))
    assert command is not None
    if name.isprintable():
        assert shlex.split(command)[2] == name
    else:
        assert "$'a\\x0ab'" in command


def test_command_repeats_what_was_asked() -> None:
    """Task, shots, site, fraction, draws, scheme, fill, criterion and threshold are options of the command."""
    assert command_line(make_record(6, 8)) == (
        "layertracer trace planted-135m --task antonym --limit 6 --shots 2 --seed 0 --target answer "
        "--site mixer_output --draws 5 --mask-fraction 0.2 --scheme partition --fill zero --onset rise --delta 0.05 "
        "--device cpu --dtype float32"
    )


@pytest.mark.parametrize(
    ("perturbation", "options"),
    [
        (Skip().to_dict(), "--perturbation skip --onset"),
        (
            Noise(scale=0.2, site="mlp_output").to_dict(),
            "--perturbation noise --site mlp_output --draws 5 --noise-scale 0.2 --onset",
        ),
    ],
)
def test_noise_and_skipped_layers_have_a_command(perturbation: dict[str, object], options: str) -> None:
    """Every perturbation that the command line knows is repeated with its options."""
    assert options in str(command_line(make_record(2, 4, perturbation=perturbation)))


def test_a_hash_of_a_file_is_no_revision() -> None:
    """A commit on the hub is asked for again; what identifies a file is not."""
    record = _with_name(make_record(2, 4), "org/name")
    for revision, is_asked in (("a" * 40, True), ("b" * 64, False)):
        again = dataclasses.replace(record, model=dataclasses.replace(record.model, revision=revision))
        assert (f"--revision {revision}" in str(command_line(again))) is is_asked
        assert (revision in python_code(again)) is is_asked


@pytest.mark.parametrize(
    ("perturbation", "code"),
    [
        (Skip(positions="last").to_dict(), "lt.Skip(positions='last')"),
        (
            Noise(scale=0.2, site="block_output", positions="last").to_dict(),
            "lt.Noise(scale=0.2, site='block_output', draws=5, positions='last', seed=0)",
        ),
        (Mask.explicit(np.ones((4, 2, 8))).to_dict(), "lt.Mask.explicit(keep, site='block_output', fill='zero')"),
    ],
)
def test_what_the_command_line_cannot_say_is_said_in_python(perturbation: dict[str, object], code: str) -> None:
    """Single positions and given masks have no command; the page shows Python alone."""
    record = make_record(2, 4, perturbation=perturbation)
    assert command_line(record) is None
    assert code in python_code(record)
    assert "has no options for this perturbation" in render_page(record)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (make_record(0, 8, status="failed", n_requested=4), "This run failed after 0 of 4 prompts."),
        (make_record(3, 8, status="failed", n_requested=4), "NonFiniteError: NaN after layer 3"),
        (make_record(3, 8, status="interrupted", n_requested=9), "This run was interrupted after 3 of 9 prompts."),
    ],
)
def test_a_run_that_ended_early_says_so_before_the_answer(record: TraceRecord, said: str) -> None:
    """The notice stands above the sentence."""
    page = render_page(record)
    assert page.index(said) < page.index("<h1>")


def test_a_failed_self_check_is_loud() -> None:
    """A check outside its tolerance is named above the answer and in the table."""
    record = make_record(2, 4)
    checks = (dataclasses.replace(record.self_check.checks[0], error=0.5, passed=False), *record.self_check.checks[1:])
    page = render_page(dataclasses.replace(record, self_check=dataclasses.replace(record.self_check, checks=checks)))
    assert page.index("Self-check failed: readout.") < page.index("<h1>")
    assert "FAILED" in page


def test_chats_are_asked_for_again() -> None:
    """Command and code of a run in a chat template have its system prompt and the template's arguments."""
    record = make_record(2, 4)
    task = {**record.spec.task, "chat": True, "system": "Be brief.", "template_arguments": {"think": False, "n": 3}}
    record = dataclasses.replace(record, spec=dataclasses.replace(record.spec, task=task))
    words = "--chat --system 'Be brief.' --template-argument think=false --template-argument n=3"
    assert words in str(command_line(record))
    code = python_code(record)
    assert "    chat=True,\n    system='Be brief.',\n    template_arguments={'think': False, 'n': 3}," in code
    ast.parse(code)
