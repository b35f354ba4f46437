"""`trace --until certified`: the certificate in JSON and run folder; options that mean nothing without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import layertracer as lt

from tests.cli.conftest import call


def test_until_certified_reads_all_prompts_of_a_task_and_says_what_is_certain(tmp_path: Path) -> None:
    """Of a built-in task more than the usual 32 prompts are there; a budget ends it; the run is kept with it."""
    run = tmp_path / "run"
    asked = ("--until", "certified", "--budget", "400", "--site", "mixer_output")
    result = call("trace", "mini/attention", *asked, "--json", "--out", run, "--no-report")
    found = json.loads(result.stdout)["certificate"]
    assert (found["ending"], found["layer"], found["budget"]) == ("budget", None, 400)
    assert found["n_cells"] <= 400 < found["n_total"]
    assert found["n_prompts"] > 400
    assert lt.load_run(run).certificate is not None


@pytest.mark.parametrize("option", [("--budget", "400"), ("--confidence", "0.9")])
def test_what_is_for_a_certified_trace_is_refused_without_it(option: tuple[str, str]) -> None:
    """A budget or a confidence that would be ignored is a mistake."""
    result = call("trace", "mini/attention", *option)
    assert result.exit_code == 2
    assert f"{option[0]} has no meaning without --until certified" in " ".join(result.output.split())
