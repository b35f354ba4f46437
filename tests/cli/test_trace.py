"""`layertracer trace`, on a tiny model with a tokenizer."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from layertracer import load_run
from layertracer.cli._progress import PlainProgress
from layertracer.reports._values.reproduce import command_line

from tests.cli.conftest import call
from tests.support.checkpoints.command_line import POISON, write_hybrid, write_pairs

SMALL = ("--shots", "2", "--limit", "4", "--draws", "2", "--mask-fraction", "0.5")


def _no_control_characters(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_trace_prints_the_answer_and_saves_the_run(tiny: Path, pairs: Path, in_folder: Path) -> None:
    """A trace prints its summary, names the run folder and the report, and both are there."""
    result = call("trace", tiny, "--task", pairs, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "Vulnerable layer" in result.stdout
    assert "Self-check" in result.stdout
    assert _no_control_characters(result.stdout + result.stderr)
    (run,) = (in_folder / "runs").iterdir()
    assert run.name.startswith("tiny-llama-pairs-")
    assert f"Run     runs/{run.name}\nReport  runs/{run.name}/report.html\n" in result.stdout
    assert (run / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    trace = load_run(run)
    assert (trace.status, trace.n_prompts, trace.n_draws, trace.n_layers) == ("complete", 4, 2, 4)
    assert trace.provenance["command"] == ["layertracer", "trace", ".../tiny-llama", "--task", ".../pairs.json", *SMALL]


@pytest.mark.parametrize(
    "options",
    [
        ("--scheme", "random", "--fill", "mean", "--site", "mlp_output", "--seed", "3"),
        ("--perturbation", "noise", "--noise-scale", "0.3", "--onset", "half_max"),
        ("--perturbation", "skip", "--target", "model", "--delta", "0.07"),
        ("--target-tokens", "all", "--template", r"{input}:\n{output}"),
        ("--site", "state", "--site", "mlp_output"),
    ],
)
def test_the_command_that_a_report_gives_runs_the_same_trace(
    tiny: Path, pairs: Path, in_folder: Path, options: tuple[str, ...]
) -> None:
    """What a report says to run again gives the same numbers and the same specification."""
    small = SMALL if "--perturbation" not in options else ("--shots", "2", "--limit", "4")
    assert call("trace", tiny, "--task", pairs, *small, *options, "--out", "run", "--no-report").exit_code == 0
    first = load_run(in_folder / "run")
    command = shlex.split(str(command_line(first)))
    assert command[:3] == ["layertracer", "trace", tiny.name]
    again = call("trace", tiny, *command[3:], "--out", "again", "--no-report")
    assert again.exit_code == 0, again.stderr
    second = load_run(in_folder / "again")
    assert second.spec == first.spec
    assert list(second.effects) == list(first.effects)
    for key, effect in first.effects.items():
        assert np.array_equal(second.effects[key].js_bits, effect.js_bits, equal_nan=True)
    assert np.array_equal(second.target_log_prob, first.target_log_prob)


def test_a_files_own_options_are_given_again(tiny: Path, in_folder: Path) -> None:
    """What a report says to run again names the header and the prefix, and a file of one's own is asked whole."""
    (in_folder / "p.csv").write_text("prompt,answer\n" + "".join(f"say hot {i} ->,cold\n" for i in range(40)), "utf-8")
    options = ("--header", "--answer-prefix", " ", "--draws", "2", "--mask-fraction", "0.5", "--no-report")
    assert call("trace", tiny, "--task", "p.csv", *options, "--out", "run").exit_code == 0
    first = load_run(in_folder / "run")
    assert first.n_prompts == 40
    assert (first.spec.task["header"], first.spec.task["answer_prefix"]) == (True, " ")
    assert first.spec.task["notes"][0].startswith("read 40 of 40 rows of p.csv: prompt from column 'prompt'")
    command = shlex.split(str(command_line(first)))
    assert "--header" in command
    again = call("trace", tiny, *command[3:], "--out", "again", "--no-report")
    assert again.exit_code == 0, again.stderr
    assert load_run(in_folder / "again").spec == first.spec


def test_progress_is_a_few_plain_lines(tiny: Path, pairs: Path, in_folder: Path) -> None:
    """In a pipe, progress is plain lines on standard error, with the time taken."""
    result = call("trace", tiny, "--task", pairs, *SMALL, "--no-report")
    lines = result.stderr.splitlines()
    assert lines[0] == f"Loading {tiny} ..."
    assert lines[1] == "Tracing tiny-llama on pairs: 4 layers ..."
    assert (
        lines[2] == "Task: read 12 of 12 records of pairs.json: prompt from field 'input', answer from field 'output'"
    )
    assert lines[3].startswith("Task: 4 of 10 prompts are asked: limit=4")
    assert lines[-1].startswith("4 of 4 prompts, ")
    assert len(lines) < 8
    assert not list(in_folder.rglob("report.html"))


def test_json_is_one_document_and_nothing_else(tiny: Path, pairs: Path, in_folder: Path) -> None:
    """With --json standard output is exactly one JSON document with the answers and the paths."""
    result = call("trace", tiny, "--task", pairs, *SMALL, "--json", "--out", "run")
    document = json.loads(result.stdout)
    assert result.stdout.count("\n{") == 0
    trace = load_run(in_folder / "run")
    assert document["vulnerable_layer"]["layer"] == trace.vulnerable_layer.layer
    assert document["task_particle"]["layer"] == trace.task_particle.layer
    assert (document["run"], document["report"]) == ("run", "run/report.html")
    assert document["status"] == "complete"


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_layers_without_the_site_are_null(pairs: Path, in_folder: Path) -> None:
    """A hybrid whose layers are a mixer or an MLP alone is traced: JSON has null where there is no MLP, never NaN."""
    model = write_hybrid(in_folder / "tiny-hybrid")
    options = ("--site", "mlp_output", "--out", "run")
    result = call("trace", model, "--task", pairs, *SMALL, *options, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout, parse_constant=_refuse_constant)
    assert [value is None for value in document["curves"]["js_bits"]] == [True, False, True, False]
    assert document["layers_without_site"] == [0, 2]
    assert [group["mixer"] for group in document["by_mixer"]] == ["mamba2", "none", "attention"]
    assert [group["mean_js_bits"] is None for group in document["by_mixer"]] == [True, False, True]
    again = call("report", "run")
    assert again.exit_code == 0, again.stderr
    assert "NOTE: Layers 0, 2 have no MLP" in again.stdout
    assert "blank: no MLP here" in again.stdout


@pytest.mark.usefixtures("in_folder")
def test_every_site_that_is_named_counts(tiny: Path, pairs: Path) -> None:
    """Each site of one trace has the numbers that it has in a trace of its own; a site named twice counts once."""
    sites = ("mlp_output", "block_output")
    several = call("trace", tiny, "--task", pairs, *SMALL, "--site", sites[0], "--site", sites[1], "--site", sites[0],
                   "--out", "both", "--json")  # fmt: skip
    assert several.exit_code == 0, several.stderr
    found = json.loads(several.stdout)["effects"]
    assert tuple(found) == sites
    assert "Site by site" in (Path("both") / "report.html").read_text("utf-8")
    for site in sites:
        assert call("trace", tiny, "--task", pairs, *SMALL, "--site", site, "--out", site, "--no-report").exit_code == 0
        alone, together = load_run(site).effects[site], load_run("both").effects[site]
        np.testing.assert_allclose(together.js_bits, alone.js_bits, atol=2e-6)
        assert found[site]["vulnerable_layer"]["layer"] == alone.vulnerable_layer.layer


@pytest.mark.usefixtures("in_folder")
def test_all_sites_are_those_of_the_model(pairs: Path) -> None:
    """All sites of a model are traced, those that it lacks left out with a note; a plan is asked likewise."""
    model = write_hybrid(Path("tiny-hybrid"))
    result = call("trace", model, "--task", pairs, *SMALL, "--site", "all", "--out", "run", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert next(iter(document["effects"])) == "mixer_output"
    assert {"mixer_output", "mlp_output", "block_output"} <= set(document["effects"])
    left_out = {"mixer_output", "mlp_output", "block_output", "state"} - set(document["effects"])
    assert all(any(f"'{site}' is left out" in text for text in document["warnings"]) for site in left_out)
    planned = call("plan", model, "--task", pairs, *SMALL, "--site", "all")
    assert planned.exit_code == 0, planned.stderr


@pytest.mark.usefixtures("in_folder")
def test_options_reach_the_trace(tiny: Path, pairs: Path) -> None:
    """Every option that changes what is asked stands in the run's specification."""
    options = (
        *("--site", "mlp_output", "--scheme", "random", "--fill", "mean", "--onset", "half_max", "--target", "model"),
        *("--target-tokens", "first", "--seed", "3", "--template", r"{input}\n{output}", "--memory", "64MiB"),
    )
    result = call("trace", tiny, "--task", pairs, *SMALL, *options, "--out", "run", "--no-report")
    assert result.exit_code == 0, result.stderr
    spec = load_run("run").spec
    mask = {"kind": "mask", "site": "mlp_output", "scheme": "random", "fill": "mean", "seed": 3, "draws": 2}
    assert mask.items() <= dict(spec.perturbation).items()
    assert spec.onset["kind"] == "half_max"
    assert (spec.target, spec.target_tokens, spec.seed) == ("model", "first", 3)
    assert spec.task["template"] == "{input}\n{output}"
    assert (spec.task["n_shot"], spec.task["limit"], spec.task["seed"]) == (2, 4, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ("--perturbation", "noise", "--noise-scale", "0.3", "--draws", "2"),
            {"kind": "noise", "scale": 0.3, "draws": 2},
        ),
        (("--perturbation", "skip"), {"kind": "skip", "draws": 1}),
    ],
)
def test_other_perturbations(
    tiny: Path, pairs: Path, in_folder: Path, options: tuple[str, ...], expected: dict[str, object]
) -> None:
    """Noise and skipped layers can be asked for."""
    result = call(
        "trace", tiny, "--task", pairs, "--shots", "1", "--limit", "2", *options, "--out", "run", "--no-report"
    )
    assert result.exit_code == 0, result.stderr
    assert expected.items() <= dict(load_run(in_folder / "run").spec.perturbation).items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--site", "nose"), "'nose' is not one of"),
        (("--limit", "0"), "'0' is neither a number of at least 1 nor 'all'"),
        (("--draws", "0"), "0 is not in the range x>=1"),
        (("--mask-fraction", "1.5"), "1.5 is not in the range"),
        (("--perturbation", "skip", "--draws", "3"), "--draws has no meaning with --perturbation skip"),
        (("--noise-scale", "0.5"), "--noise-scale has no meaning with --perturbation mask: it is for noise."),
        (("--onset", "ratio", "--delta", "0.1"), "--delta has no meaning with --onset ratio"),
    ],
)
def test_a_command_that_makes_no_sense_is_usage(in_folder: Path, options: tuple[str, ...], message: str) -> None:
    """Values out of range, unknown names and options that would be ignored end with 2 before anything is loaded."""
    result = call("trace", "no-such-model", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert not list(in_folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smollm2", "--task", "antonim"), "Unknown task 'antonim'. Did you mean 'antonym'"),
        (("smollm2", "--mask-fraction", "0.3"), "scheme='partition' splits the dimensions into 1/fraction equal sets"),
        (("no-such-folder/model.gguf",), "model.gguf"),
        (("smollm2", "--out", "occupied"), "holds other things (thesis.tex) and no run"),
        (("smollm2", "--out", "occupied/thesis.tex/run"), "cannot be made"),
    ],
)
def test_a_users_mistake_is_one_message(in_folder: Path, arguments: tuple[str, ...], message: str) -> None:
    """A mistake is one message on standard error, exit code 1, and nothing is written."""
    (in_folder / "occupied").mkdir()
    (in_folder / "occupied" / "thesis.tex").write_text("x")
    result = call("trace", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in in_folder.rglob("*")) == ["occupied", "thesis.tex"]


@pytest.mark.usefixtures("in_folder")
def test_an_existing_run_is_kept_unless_overwrite_is_said(tiny: Path, pairs: Path) -> None:
    """--out on an existing run is refused before the model is loaded; --overwrite replaces it."""
    command = ("trace", tiny, "--task", pairs, "--shots", "1", "--draws", "2", "--mask-fraction", "0.5", "--out", "run")
    assert call(*command, "--limit", "2").exit_code == 0
    refused = call(*command, "--limit", "1")
    assert refused.exit_code == 1
    assert "There is a run at run already" in refused.stderr
    assert "Loading" not in refused.stderr
    assert load_run("run").n_prompts == 2
    assert call(*command, "--limit", "1", "--overwrite").exit_code == 0
    assert load_run("run").n_prompts == 1


@pytest.mark.usefixtures("in_folder")
def test_a_run_that_fails_on_its_way_is_a_record(tiny: Path, tmp_path: Path) -> None:
    """Where the model's output becomes NaN, the run is saved as failed, with its error and what was finished."""
    task = write_pairs(tmp_path / "poisoned.json", with_poison=True)
    result = call("trace", tiny, "--task", task, "--shots", "1", "--limit", "all", "--draws", "2", "--out", "run",
                  "--mask-fraction", "0.5")  # fmt: skip
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert "Its record is run" in result.stderr
    run = load_run("run")
    assert run.status == "failed"
    assert run.error is not None
    assert run.error["type"] == "NonFiniteError"
    assert run.n_prompts < run.n_requested


@pytest.mark.usefixtures("in_folder")
def test_a_run_that_fails_at_its_first_prompt_is_a_record(tiny: Path, tmp_path: Path) -> None:
    """The real error and exit code 1, a record of no prompt, and a report of it, where none was finished."""
    task = tmp_path / "poisoned.jsonl"
    task.write_text(
        "".join(json.dumps({"prompt": f"dry {word} dry ->", "answer": " cold"}) + "\n" for word in (POISON, "big"))
    )
    result = call("trace", tiny, "--task", task, "--draws", "2", "--mask-fraction", "0.5", "--out", "run")
    assert result.exit_code == 1
    assert "Unexpected" not in result.stderr
    assert "is not finite" in result.stderr
    assert "failed after 0 of 2 prompts. Its record is run" in result.stderr
    shown = call("report", "run", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["n_prompts"] == 0


@pytest.mark.usefixtures("in_folder")
def test_ctrl_c_before_the_first_prompt_says_so(tiny: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130 and one message, nothing saved, where it comes between the plan and the first prompt."""

    def interrupt(_display: PlainProgress, text: str) -> None:
        if text.startswith("Plan: "):
            raise KeyboardInterrupt

    monkeypatch.setattr(PlainProgress, "note", interrupt)
    result = call("trace", tiny, "--task", pairs, "--shots", "1", "--limit", "2", "--out", "run")
    assert result.exit_code == 130
    assert result.stderr.rstrip().endswith("Interrupted: nothing was finished, and nothing was saved.")
    assert not Path("run").exists()


def test_embedded_miniature_is_traced_without_advice(in_folder: Path) -> None:
    """A trained miniature gives its report in an empty folder; nobody is told to install kernels for a GPU."""
    result = call("trace", "mini/hybrid", "--limit", "6", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "reference PyTorch implementation" not in result.stderr
    assert "Solved 100 %" in result.stdout
    assert "gated_deltanet" in result.stdout
    assert (in_folder / "run" / "report.html").is_file()
