"""`layertracer validate`: evidence printed, stored, drawn, and gone on with."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import layertracer as lt
from layertracer.api import _lenses
from layertracer.cli import main
from layertracer.cli._choices import LENS_KINDS
from layertracer.runs import has_parts

from tests.cli.conftest import call
from tests.support.records.evidence_records import rich_evidence

SMALL = ("--quick", "--limit", "3", "--shots", "1", "--no-text", "--no-causal", "--audit", "0")
MODEL = "mini/attention"


@pytest.fixture(scope="session")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A validation of a miniature, with everything written."""
    folder = tmp_path_factory.mktemp("validation")
    result = call(
        "validate", MODEL, *SMALL, "--out", folder / "evidence", "--csv", folder / "table.csv",
        "--report", folder / "page.html",
    )  # fmt: skip
    return result, folder


def test_a_validation_is_printed_and_stored(validated: tuple[Result, Path]) -> None:
    """The answers stand on standard output, the evidence in its folder, report and table where they were asked for."""
    result, folder = validated
    assert result.exit_code == 0, result.stderr
    evidence = lt.load_evidence(folder / "evidence")
    assert result.stdout.startswith("Evidence on mini/attention, task antonym")
    said = " ".join(result.stdout.split())
    for verdict in evidence.verdicts:
        assert f"{verdict.answer.upper()} {verdict.asked}" in said
    for line in (f"Evidence  {folder / 'evidence'}", f"Report    {folder / 'page.html'}"):
        assert line in result.stdout
    assert (folder / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert not (folder / "evidence" / "report.html").exists()
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        assert {"particle", "effect", "agreement"} <= {row["part"] for row in csv.DictReader(file)}
    assert evidence.provenance["command"][:2] == ["layertracer", "validate"]
    assert (evidence.quick, evidence.n_prompts, evidence.causal) == (True, 3, None)
    assert not has_parts(folder / "evidence")


def test_progress_says_the_plan_and_the_stages(validated: tuple[Result, Path]) -> None:
    """Standard error has the plan before anything is measured, then the stages."""
    said = validated[0].stderr
    assert said.index("Loading ") < said.index("Validating ") < said.index("Plan: ") < said.index("Trace at every site")


def test_python_finds_the_same(validated: tuple[Result, Path]) -> None:
    """`lt.validate` with the same settings gives the same numbers as the command."""
    stored = lt.load_evidence(validated[1] / "evidence")
    task = lt.load_task("antonym", n_shot=1, limit=3, seed=0)
    evidence = lt.validate(MODEL, task, quick=True, text=False, causal=False, audit=0)
    assert [one.sentence for one in evidence.verdicts] == [one.sentence for one in stored.verdicts]
    assert [one.per_prompt for one in evidence.particles] == [one.per_prompt for one in stored.particles]


def test_what_was_interrupted_goes_on(tmp_path: Path, validated: tuple[Result, Path]) -> None:
    """What an interrupted validation left is taken with --resume, and the end is that of one not interrupted."""
    out = tmp_path / "evidence"

    def stop(progress: Any) -> None:
        if progress.stage.startswith("logit"):
            raise KeyboardInterrupt

    task = lt.load_task("antonym", n_shot=1, limit=3, seed=0)
    with pytest.raises(KeyboardInterrupt, match="interrupted after 1 stages"):
        lt.validate(MODEL, task, quick=True, text=False, causal=False, audit=0, out=out, progress=stop)
    assert has_parts(out)
    result = call("validate", MODEL, *SMALL, "--out", out, "--resume", "--no-report")
    assert result.exit_code == 0, result.stderr
    again, whole = lt.load_evidence(out), lt.load_evidence(validated[1] / "evidence")
    assert [one.answer for one in again.verdicts] == [one.answer for one in whole.verdicts]
    assert [one.per_prompt for one in again.particles] == [one.per_prompt for one in whole.particles]
    effects = {one.site: one.js_bits.tolist() for one in whole.effects}
    assert {one.site: one.js_bits.tolist() for one in again.effects} == effects
    assert not (out / "report.html").exists()


def test_there_must_be_something_to_go_on_with(tmp_path: Path) -> None:
    """--resume is refused where no validation was interrupted, before the model is loaded."""
    result = call("validate", MODEL, "--out", tmp_path / "nothing", "--resume")
    assert result.exit_code == 1
    assert "no validation was interrupted there" in result.stderr
    assert "Loading" not in result.stderr


def test_evidence_is_not_replaced_unasked(validated: tuple[Result, Path], stored_run: Path) -> None:
    """A folder that holds evidence, or a run, is refused before the model is loaded."""
    cases = ((validated[1] / "evidence", "There is evidence at"), (stored_run, "holds a run and no evidence"))
    for folder, said in cases:
        result = call("validate", MODEL, "--out", folder)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "Loading" not in result.stderr


def test_a_plan_measures_nothing(in_folder: Path) -> None:
    """--plan prints stages and costs, as lines or as JSON, and makes no folder."""
    result = call("validate", MODEL, *SMALL, "--plan")
    assert result.exit_code == 0, result.stderr
    assert "together: " in result.stdout
    plan = json.loads(call("validate", MODEL, *SMALL, "--plan", "--json").stdout)
    assert plan["n_prompts"] == 3
    assert not list(in_folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quick", "--lens", "tuned"), "--quick reads the logit lens alone"),
        (("--lens", "tarot"), "--lens tarot is neither one of linear, tuned, jacobian nor a folder"),
        (("--no-causal", "--causal", "noise"), "--causal and --no-causal contradict"),
        (("--causal", "prayer"), "'prayer' is not one of"),
        (("--resume",), "--resume needs --out"),
        (("--report", "a.html", "--no-report"), "--report and --no-report contradict"),
        (("--plan", "--csv", "a.csv"), "--plan measures nothing"),
        (("--text", "nowhere.txt"), "'nowhere.txt' does not exist"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...], said: str, in_folder: Path) -> None:
    """Contradictions and values of the wrong kind end with 2, before a model is loaded."""
    result = call("validate", MODEL, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not list(in_folder.iterdir())


def test_text_and_no_text_contradict(in_folder: Path) -> None:
    """A text to measure on, and none, cannot both be asked for."""
    (in_folder / "text.txt").write_text("words")
    result = call("validate", MODEL, "--text", "text.txt", "--no-text")
    assert result.exit_code == 2
    assert "--text and --no-text contradict" in result.stderr


def test_help_is_in_groups() -> None:
    """The help has a heading for each group, and every option stands under one."""
    text = call("validate", "--help").stdout
    places = [text.index(f"{heading}:") for heading in ("What is asked", "Task", "Effort", "Model", "Output", "Other")]
    assert places == sorted(places)
    other = text[places[-1] :]
    assert sorted(word for word in other.split() if word.startswith("--")) == ["--debug", "--help"]


def test_names_and_defaults_are_those_of_the_library() -> None:
    """Choices and defaults of the options are those of `lt.validate`, which they repeat; its flags are off there."""
    asked = inspect.signature(lt.validate).parameters
    options = {option.name: option for option in main.commands["validate"].params}
    assert LENS_KINDS == _lenses.LENS_KINDS
    for name in ("seed", "audit", "causal", "memory"):
        assert options[name].default == asked[name].default, name
    assert asked["quick"].default is False


# ---------------------------------------------------------------- stored evidence


@pytest.fixture(scope="module")
def stored_evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evidence folder with everything in it."""
    return lt.Evidence.from_record(rich_evidence()).save(tmp_path_factory.mktemp("evidence") / "e")


def test_report_draws_evidence_too(stored_evidence: Path) -> None:
    """`layertracer report` of an evidence folder writes its page beside it and prints it; --json is one document."""
    result = call("report", stored_evidence)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Evidence on mini/attention")
    assert (stored_evidence / "report.html").is_file()
    document = json.loads(call("report", stored_evidence, "--json").stdout)
    assert document["verdicts"][0]["answer"] == "no"
    refused = call("report", stored_evidence, "--figures", stored_evidence.parent / "figures")
    assert refused.exit_code == 2
    assert "--figures draws traces" in refused.stderr


def test_verify_knows_evidence(stored_evidence: Path, tmp_path: Path) -> None:
    """`layertracer verify` finds evidence whole, or says what is wrong; its digest can be expected."""
    found = json.loads(call("verify", stored_evidence, "--json").stdout)[0]
    assert found["is_intact"]
    assert found["holds"] == "evidence"
    assert call("verify", stored_evidence / "evidence.json", "--expect", found["digest"]).exit_code == 0
    assert call("verify", stored_evidence, "--expect", "0" * 64).exit_code == 1
    copy = lt.Evidence.from_record(rich_evidence()).save(tmp_path / "e")
    content = bytearray((copy / "js.parquet").read_bytes())
    content[40] ^= 1
    (copy / "js.parquet").write_bytes(bytes(content))
    result = call("verify", copy)
    assert result.exit_code == 1
    assert "js.parquet: its checksum does not fit" in " ".join(result.stdout.split())
