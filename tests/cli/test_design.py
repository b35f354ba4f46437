"""`layertracer design`: advice printed, stored, drawn, and gone on with."""

from __future__ import annotations

import csv
import inspect
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import layertracer as lt
from layertracer.api import _design_asked
from layertracer.cli import main
from layertracer.cli._choices import SEARCHES, SUBSTITUTES
from layertracer.hybrids import DesignOptions
from layertracer.runs import has_parts

from tests.cli.conftest import call
from tests.support.records.advice_records import large_advice, rich_advice

WORDS = [
    "the",
    "cold",
    "hot",
    "wide",
    "late",
    "night",
    "day",
    "dark",
    "light",
    "sea",
    "sky",
    "red",
    "blue",
    "green",
    "house",
    "tree",
    "road",
]
SMALL = ("--no-tasks", "--window", "4", "--sinks", "1", "--search-rows", "2", "--compared-rows", "3", "--held-out-rows",
         "4", "--row-tokens", "24", "--random", "4")  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of many words."""
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_text("\n\n".join(" ".join(WORDS[(i * k + k) % len(WORDS)] for i in range(120)) for k in range(1, 30)))
    return path


@pytest.fixture(scope="session")
def designed(tiny: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """A design of a tiny model, with everything written."""
    folder = tmp_path_factory.mktemp("design")
    result = call(
        "design", tiny, "--text", corpus, *SMALL, "--keep", "1", "--out", folder / "advice",
        "--csv", folder / "table.csv", "--report", folder / "page.html",
    )  # fmt: skip
    return result, folder


def test_a_design_is_printed_and_stored(designed: tuple[Result, Path]) -> None:
    """The answer stands first, the advice is in its folder, and report and table where they were asked for."""
    result, folder = designed
    assert result.exit_code == 0, result.stderr
    advice = lt.load_advice(folder / "advice")
    [placement] = advice.placements.values()
    assert result.stdout.startswith("Design advice on ")
    assert f"layer {placement.layers[0]} of the {placement.n_layers} layers" in " ".join(result.stdout.split())
    for line in (f"Advice  {folder / 'advice'}", f"Report  {folder / 'page.html'}", f"Table   {folder / 'table.csv'}"):
        assert line in result.stdout
    assert (folder / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert not (folder / "advice" / "report.html").exists()
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        assert {row["part"] for row in csv.DictReader(file)} == {"placement", "ratio", "single"}
    assert advice.provenance["command"][:2] == ["layertracer", "design"]
    assert not has_parts(folder / "advice")


def test_progress_says_the_plan_and_the_stages(designed: tuple[Result, Path]) -> None:
    """Standard error has the plan before anything is measured, then every stage."""
    said = designed[0].stderr
    assert said.index("Loading ") < said.index("Designing ") < said.index("Plan: ") < said.index("Single layers")
    assert said.index("Single layers") < said.index("Random placements")


def test_python_finds_the_same(tiny: Path, corpus: Path, designed: tuple[Result, Path]) -> None:
    """`lt.design` with the same settings gives the same numbers as the command."""
    rows = {"search": 2, "compared": 3, "held_out": 4, "tokens": 24}
    advice = lt.design(
        str(tiny), tasks=(), text=str(corpus), keep=1, substitute=lt.Window(4, sinks=1), n_random=4, rows=rows
    )
    stored = lt.load_advice(designed[1] / "advice")
    for found in (advice, stored):
        assert sorted(found.placements) == [1]
    assert advice.placements[1].layers == stored.placements[1].layers
    assert advice.placements[1].kl_nats == pytest.approx(stored.placements[1].kl_nats, abs=1e-6)
    assert advice.baselines[1]["random"].objective == pytest.approx(stored.baselines[1]["random"].objective, abs=1e-6)


def test_what_was_interrupted_goes_on(tiny: Path, corpus: Path, tmp_path: Path, designed: tuple[Result, Path]) -> None:
    """What an interrupted design left is taken with --resume, and the end is that of one that was not interrupted."""
    out = tmp_path / "advice"

    def stop(progress: Any) -> None:
        if progress.done > 20:
            raise KeyboardInterrupt

    rows = {"search": 2, "compared": 3, "held_out": 4, "tokens": 24}
    with pytest.raises(KeyboardInterrupt):
        lt.design(
            str(tiny), tasks=(), text=str(corpus), keep=1, substitute=lt.Window(4, sinks=1), n_random=4, rows=rows,
            out=out, progress=stop,
        )  # fmt: skip
    assert has_parts(out)
    result = call("design", tiny, "--text", corpus, *SMALL, "--keep", "1", "--out", out, "--resume", "--no-report")
    assert result.exit_code == 0, result.stderr
    again, whole = lt.load_advice(out), lt.load_advice(designed[1] / "advice")
    assert again.placements[1].layers == whole.placements[1].layers
    assert again.placements[1].kl_nats == pytest.approx(whole.placements[1].kl_nats, abs=1e-6)
    assert not (out / "report.html").exists()


def test_there_must_be_something_to_go_on_with(tiny: Path, tmp_path: Path) -> None:
    """--resume is refused where no design was interrupted, before the model is loaded."""
    result = call("design", tiny, "--out", tmp_path / "nothing", "--resume")
    assert result.exit_code == 1
    assert "There is nothing to go on with at" in result.stderr
    assert "Loading" not in result.stderr


def test_advice_is_not_replaced_unasked(tiny: Path, designed: tuple[Result, Path], stored_run: Path) -> None:
    """A folder that holds advice, or a run, is refused before the model is loaded."""
    for folder, said in ((designed[1] / "advice", "There is advice at"), (stored_run, "holds a run and no advice")):
        result = call("design", tiny, "--out", folder)
        assert result.exit_code == 1
        assert said in result.stderr
        assert "Loading" not in result.stderr


def test_a_plan_measures_nothing(tiny: Path, corpus: Path, in_folder: Path) -> None:
    """--plan prints stages and costs, as lines or as JSON, and makes no folder."""
    arguments = ("design", tiny, "--text", corpus, *SMALL, "--keep", "1", "--plan")
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "single layers: " in result.stdout
    assert "together: " in result.stdout
    plan = json.loads(call(*arguments, "--json").stdout)
    assert plan["n_rows"] == {"text": [2, 4]}
    assert not list(in_folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--keep", "a"), "'a' is no number of layers"),
        (("--keep", "0"), "'0' is no number of layers"),
        (("--budget", "2GiB"), "--budget needs --context"),
        (("--budget", "2GiB", "--context", "9", "--keep", "2"), "--budget stands instead of --keep"),
        (("--substitute", "mean", "--sinks", "3"), "--sinks has no meaning with --substitute mean"),
        (("--no-text", "--no-tasks"), "there is nothing to judge on"),
        (("--no-tasks", "--task", "recall"), "--task and --no-tasks contradict"),
        (("--resume",), "--resume needs --out"),
        (("--report", "a.html", "--no-report"), "--report and --no-report contradict"),
        (("--plan", "--csv", "a.csv"), "--plan measures nothing"),
        (("--text", "nowhere.txt"), "'nowhere.txt' does not exist"),
        (("--search", "tarot"), "'tarot' is not one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...], said: str, in_folder: Path) -> None:
    """Contradictions and values of the wrong kind end with 2, before a model is loaded."""
    result = call("design", "mini/attention", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not list(in_folder.iterdir())


@pytest.mark.usefixtures("in_folder")
def test_errors_speak_of_options(tiny: Path, corpus: Path) -> None:
    """What the library says of its arguments is said of the options, with exit code 1 and no traceback."""
    result = call("design", tiny, "--text", corpus, *SMALL, "--keep", "99")
    assert result.exit_code == 1
    assert "Error: --keep has 99, and must be from 1 to " in result.stderr
    assert "keep=(" not in result.stderr
    assert "For example --keep 1" in result.stderr


def test_help_is_in_groups() -> None:
    """The help has a heading for each group, and every option stands under one."""
    text = call("design", "--help").stdout
    headings = ("What is asked:", "Placements:", "Search:", "Effort:", "Model:", "Output:", "Other:")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    other = text[places[-1] :]
    assert sorted(word for word in other.split() if word.startswith("--")) == ["--debug", "--help"]


def test_names_and_defaults_are_those_of_the_library() -> None:
    """Choices and defaults of the options are those of `lt.design`, which they repeat."""
    asked = inspect.signature(lt.design).parameters
    options = {option.name: option for option in main.commands["design"].params}
    assert options["search"].type.choices == SEARCHES == _design_asked.SEARCHES
    for name in ("seed", "n_random", "audit", "search", "memory", "against", "budget", "context"):
        assert options[name].default == asked[name].default, name
    window = lt.Window(options["window"].default, sinks=options["sinks"].default)
    assert window == DesignOptions().substitute
    assert set(SUBSTITUTES) == {lt.Window.kind, lt.NoMixer.kind, lt.MeanMixer.kind}


# ---------------------------------------------------------------- stored advice


@pytest.fixture(scope="module")
def stored_advice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An advice folder with everything in it."""
    return lt.Advice.from_record(rich_advice()).save(tmp_path_factory.mktemp("advice") / "a")


def test_report_draws_advice_too(stored_advice: Path) -> None:
    """`layertracer report` of an advice folder writes its page beside it and prints it; --json is one document."""
    result = call("report", stored_advice)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Design advice on mini/attention")
    assert (stored_advice / "report.html").is_file()
    document = json.loads(call("report", stored_advice, "--json").stdout)
    assert document["placements"]["2"]["layers"] == [4, 5]
    refused = call("report", stored_advice, "--figures", stored_advice.parent / "figures")
    assert refused.exit_code == 2
    assert "--figures draws traces" in refused.stderr


def test_verify_knows_advice(stored_advice: Path, tmp_path: Path) -> None:
    """`layertracer verify` finds advice whole, or says what is wrong; its digest can be expected."""
    found = json.loads(call("verify", stored_advice, "--json").stdout)[0]
    assert found["is_intact"]
    assert call("verify", stored_advice / "advice.json", "--expect", found["digest"]).exit_code == 0
    assert call("verify", stored_advice, "--expect", "0" * 64).exit_code == 1
    copy = lt.Advice.from_record(rich_advice()).save(tmp_path / "a")
    content = bytearray((copy / "singles.parquet").read_bytes())
    content[40] ^= 1
    (copy / "singles.parquet").write_bytes(bytes(content))
    result = call("verify", copy)
    assert result.exit_code == 1
    assert "singles.parquet: its checksum does not fit" in " ".join(result.stdout.split())


def test_each_command_says_what_it_was_given(stored_advice: Path, stored_run: Path) -> None:
    """`compare` of advice says what it is, and so does Python."""
    result = call("compare", stored_advice, stored_run)
    assert result.exit_code == 1
    assert "is design advice, not the run of a trace" in result.stderr
    with pytest.raises(lt.RunError, match="is the run of a trace, not design advice"):
        lt.load_advice(stored_run)
    stored = lt.load_advice(stored_advice / "advice.json")
    assert stored == rich_advice()
    assert stored != lt.Advice.from_record(large_advice())


def test_a_command_that_goes_on_can_be_pasted() -> None:
    """The command that is printed after an interruption is quoted for a shell, with --out and --resume once each."""
    from layertracer.cli._kept_work import go_on_command

    words = ("layertracer", "design", "my model", "--keep", "4,8")
    shown = go_on_command(words, Path("runs/a b"))
    assert shlex.split(shown) == [*words, "--out", "runs/a b", "--resume"]
    assert go_on_command(tuple(shlex.split(shown)), Path("runs/a b")) == shown
