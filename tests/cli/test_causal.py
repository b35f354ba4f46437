"""`layertracer causal`: traced, printed, stored, drawn; contradictions refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import Result

import layertracer as lt
from layertracer.cli._choices import CAUSAL_SITES, CORRUPTIONS, DIRECTIONS
from layertracer.validation._causal import options

from tests.cli.conftest import call

SMALL = ("--task", "antonym", "--limit", "4", "--shots", "2", "--corrupt", "swap")


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A causal trace of a miniature, with everything written."""
    folder = tmp_path_factory.mktemp("causal")
    result = call("causal", "mini/attention", *SMALL, "--out", folder / "c", "--csv", folder / "cells.csv")
    return result, folder


def test_a_causal_trace_is_printed_stored_and_drawn(traced: tuple[Result, Path]) -> None:
    """The answer, where it lies, and a report and a table where they were asked for."""
    result, folder = traced
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Causal trace of mini/attention")
    assert "Patching the last subject token at layer" in " ".join(result.stdout.split())
    for line in (
        f"Causal  {folder / 'c'}",
        f"Report  {folder / 'c' / 'report.html'}",
        f"Table   {folder / 'cells.csv'}",
    ):
        assert line in result.stdout
    found = lt.load_causal(folder / "c")
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found.to_pandas())
    assert list(found.provenance["command"][:3]) == ["layertracer", "causal", "mini/attention"]


def test_json_is_one_document(traced: tuple[Result, Path], tmp_path: Path) -> None:
    """With --json standard output is one document, and what was measured is the same."""
    _, folder = traced
    result = call("causal", "mini/attention", *SMALL, "--out", tmp_path / "c", "--json", "--no-report", "--no-audit")
    document = json.loads(result.stdout)
    assert document["causal"] == str(tmp_path / "c")
    assert document["report"] is None
    assert document["n_used"] == 4
    assert document["audit"]["share"] == 0
    assert lt.load_causal(tmp_path / "c").by_role.mean.tolist() == lt.load_causal(folder / "c").by_role.mean.tolist()


def test_facts_of_a_file_are_traced(tmp_path: Path) -> None:
    """A file of contrast pairs is what is traced; what was read is said."""
    pairs = [
        {"clean_prefix": f"hot -> cold\n{a} ->", "patch_prefix": f"hot -> cold\n{b} ->",
         "clean_answer": f" {x}", "patch_answer": f" {y}"}
        for a, x, b, y in (("wide", "narrow", "big", "small"), ("up", "down", "wide", "narrow"))
    ]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs)))
    result = call(
        "causal",
        "mini/attention",
        "--task",
        path,
        "--corrupt",
        "swap",
        "--min-total-effect",
        "0",
        "--out",
        tmp_path / "c",
    )
    assert result.exit_code == 0, result.stderr
    assert "contrast from field 'patch_prefix'" in " ".join(result.stderr.split())


def test_a_stored_causal_trace_is_reported_and_verified(traced: tuple[Result, Path], tmp_path: Path) -> None:
    """Without a model: the same page and the same words, and that it is as it was written."""
    result, folder = traced
    again = call("report", folder / "c", "--out", tmp_path / "page.html")
    assert again.exit_code == 0, again.stderr
    assert again.stdout.partition("\nReport")[0] in result.stdout
    assert (tmp_path / "page.html").read_text("utf-8") == (folder / "c" / "report.html").read_text("utf-8")
    assert call("verify", folder / "c").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--corrupt", "swap", "--draws", "3"), "--draws has no meaning with --corrupt swap"),
        (("--corrupt", "swap", "--noise-scale", "3"), "--noise-scale has no meaning with --corrupt swap"),
        (("--report", "a.html", "--no-report"), "--report and --no-report contradict one another"),
        (("--audit", "0.5", "--no-audit"), "--audit and --no-audit contradict one another"),
        (("--overwrite",), "--overwrite needs --out"),
        (("--system", "x"), "--system has no meaning without --chat"),
        (("--site", "state"), "Invalid value for '--site'"),
        (("--window", "0"), "Invalid value for '--window'"),
    ],
)
def test_contradictions_are_refused_before_a_model_is_loaded(words: tuple[str, ...], message: str) -> None:
    """Exit code 2, one message."""
    result = call("causal", "no-such-model", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_place_that_is_taken_is_refused_first(traced: tuple[Result, Path]) -> None:
    """Without --overwrite what lies at --out stays, and nothing is run."""
    _, folder = traced
    result = call("causal", "mini/attention", *SMALL, "--out", folder / "c")
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr


def test_where_nothing_can_be_traced_the_reasons_are_said(tmp_path: Path) -> None:
    """Prompts without subjects: exit code 1, the reasons with their counts, no folder left."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "hot -> cold\nwide ->", "answer": " narrow"}))
    result = call("causal", "mini/attention", "--task", path, "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert "1 no_subject" in result.stderr
    assert not (tmp_path / "c").exists()


def test_choices_are_those_of_the_library() -> None:
    """The names that options choose from are those that causal tracing knows."""
    assert CAUSAL_SITES == options.CAUSAL_SITES
    assert CORRUPTIONS == options.CORRUPTIONS
    assert DIRECTIONS == options.DIRECTIONS
