"""`layertracer compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from layertracer.runs import save_run

from tests.cli.conftest import call
from tests.support.checkpoints.command_line import write_hybrid
from tests.support.records.model_records import HYBRID, make_model, make_sizes

FAST = ("--resamples", "300", "--onset", "rise")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three stored runs."""
    folder = tmp_path_factory.mktemp("compared")
    records = {"small": make_model("small"), "large": make_model("large", 4_000_000, seed=1, js_scale=0.5)}
    records["hybrid"] = make_model("hybrid", seed=2, mixers=HYBRID, n_layers=12)
    return [save_run(record, folder / name) for name, record in records.items()]


def test_tables_are_printed(runs: list[Path]) -> None:
    """Without options the tables and the verdicts are printed, and nothing is written."""
    before = sorted(runs[0].parent.rglob("*"))
    result = call("compare", *runs, *FAST)
    assert result.exit_code == 0, result.stderr
    assert "3 models on antonym" in result.stdout
    assert "UNDECIDED Larger models are more robust." in result.stdout
    assert sorted(runs[0].parent.rglob("*")) == before


def test_json_is_one_document(runs: list[Path], tmp_path: Path) -> None:
    """--json prints one document with all parts and the files written; run.json stands for its folder."""
    result = call("compare", runs[0] / "run.json", *runs[1:], *FAST, "--json", "--csv", tmp_path / "x.csv")
    document = json.loads(result.stdout)
    assert [model["label"] for model in document["models"]] == ["small", "large", "hybrid"]
    assert document["csv"] == str(tmp_path / "x.csv")
    assert document["report"] is None
    assert len(document["pairs"]) == 3
    assert document["mixers"][0]["contrast"]["mixer"] == "gated_deltanet"


def test_table_and_report_are_written(runs: list[Path], tmp_path: Path) -> None:
    """--csv and --out write the files that they name, and say so."""
    result = call("compare", *runs, *FAST, "--csv", tmp_path / "new" / "x.csv", "--out", tmp_path / "new" / "x.html")
    assert result.exit_code == 0, result.stderr
    assert f"Table    {tmp_path / 'new' / 'x.csv'}" in result.stdout
    assert f"Report   {tmp_path / 'new' / 'x.html'}" in result.stdout
    assert (tmp_path / "new" / "x.html").read_bytes().startswith(b"<!DOCTYPE html>")
    frame = pd.read_csv(tmp_path / "new" / "x.csv")
    assert set(frame["part"]) == {
        *("model", "profile", "difference", "difference_profile"),
        *("trend", "mixer", "headline", "verdict"),
    }


def test_a_site_is_asked_for(runs: list[Path]) -> None:
    """--site is a setting of the comparison; one that a run lacks is an error that names those it has."""
    document = json.loads(call("compare", *runs, *FAST, "--site", "mixer_output", "--json").stdout)
    assert document["settings"]["site"] == "mixer_output"
    result = call("compare", *runs, *FAST, "--site", "state")
    assert result.exit_code != 0
    assert "no perturbation at the site 'state', only at" in " ".join(result.stderr.split())


def test_options_reach_the_comparison(runs: list[Path]) -> None:
    """Every option is a setting of the comparison."""
    arguments = ("--solved", "--families", "one", "--deep", "0.8", "--level", "0.9", "--min-shared", "4", "--seed", "3")
    more = ("--grid", "10", "--bands", "2", "--label", "a", "--label", "b", "--label", "c", "--onset", "half_max")
    document = json.loads(call("compare", *runs, *FAST, *arguments, *more, "--json").stdout)
    wanted = {"prompts": "solved", "families": "one", "deep_depth": 0.8, "level": 0.9, "min_shared": 4, "seed": 3}
    assert document["settings"] | wanted | {"n_grid": 10, "n_bands": 2, "n_resamples": 300} == document["settings"]
    assert [model["label"] for model in document["models"]] == ["a", "b", "c"]
    assert [one["criterion"] for one in document["models"][0]["particles"]] == ["rise", "half_max"]
    given = ("--family", "x", "--family", "y", "--family", "x")
    document = json.loads(call("compare", *runs, *FAST, *given, "--json").stdout)
    assert [model["family"] for model in document["models"]] == ["x", "y", "x"]


def test_five_sizes_decide(tmp_path: Path) -> None:
    """Five sizes with a planted trend support the claim on the command line too."""
    stored = [save_run(record, tmp_path / str(number)) for number, record in enumerate(make_sizes(-0.4))]
    result = call("compare", *stored, *FAST)
    assert "SUPPORTED Larger models are more robust." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument 'RUN...'"),
        (("absent", "absent"), 1, "There is no run at absent"),
    ],
)
def test_what_makes_no_sense_is_one_message(arguments: tuple[str, ...], code: int, message: str) -> None:
    """No runs, and runs that are not there, end with a message."""
    result = call("compare", *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_one_run_is_refused(runs: list[Path]) -> None:
    """One run alone ends with 1 and what to do."""
    result = call("compare", runs[0])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "at least two runs" in result.stderr


def test_real_models_are_compared_end_to_end(tiny: Path, pairs: Path, in_folder: Path) -> None:
    """Two tiny models of different architectures, traced by the command line, are compared; their sites must fit."""
    hybrid = write_hybrid(in_folder / "tiny-hybrid")
    for model, name, site in ((tiny, "a", "mixer_output"), (hybrid, "b", "mixer_output"), (hybrid, "c", "mlp_output")):
        asked = ("--task", pairs, "--shots", "1", "--limit", "9", "--draws", "2", "--mask-fraction", "0.5")
        traced = call("trace", model, *asked, "--site", site, "--out", in_folder / name, "--no-report")
        assert traced.exit_code == 0, traced.stderr
    result = call("compare", in_folder / "a", in_folder / "b", "--resamples", "300", "--json", "--out", "x.html")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [model["label"] for model in document["models"]] == ["tiny-llama", "tiny-hybrid"]
    assert document["pairs"][0]["is_paired"] is True
    assert {one["outcome"] for one in document["verdicts"]} == {"undecided"}
    assert (in_folder / "x.html").stat().st_size > 0
    refused = call("compare", in_folder / "a", in_folder / "c")
    assert refused.exit_code == 1
    assert "perturbation site is 'mixer_output' in tiny-llama, 'mlp_output' in tiny-hybrid" in refused.stderr
    allowed = call("compare", in_folder / "a", in_folder / "c", "--allow-mismatch", "--resamples", "300")
    assert allowed.exit_code == 0
    assert "WARNING: The runs do not ask the same question" in allowed.stdout
