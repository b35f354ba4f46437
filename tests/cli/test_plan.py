"""`layertracer plan`, and the plan at the head of a trace."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import call


def test_plan_shows_passes_and_costs(tiny: Path, pairs: Path) -> None:
    """The tables name arithmetic, memory and time, and have a row for every bucket; nothing is traced."""
    result = call("plan", tiny, "--task", pairs, "--limit", "6", "--memory", "64MiB")
    assert result.exit_code == 0, result.stderr
    assert "perturbed copies" in result.stdout
    for word in ("Arithmetic", "Memory", "Time", "measured on the model", "own tokens"):
        assert word in result.stdout


def test_plan_as_json(tiny: Path, pairs: Path) -> None:
    """--json prints the plan as one document, whose numbers agree with one another."""
    plan = json.loads(call("plan", tiny, "--task", pairs, "--limit", "6", "--draws", "2", "--json").stdout)
    assert plan["n_prompts"] == 6
    assert plan["n_variants"] == 2 * plan["n_layers"]
    assert sum(bucket["n_prompts"] for bucket in plan["buckets"]) == 6
    assert 0 < plan["peak_bytes"] <= plan["budget_bytes"]
    assert plan["flops"]["total"] < plan["flops"]["plain"]


def test_plan_refuses_what_trace_refuses(tiny: Path, pairs: Path) -> None:
    """An option that has no meaning with the perturbation is a mistake in both commands."""
    result = call("plan", tiny, "--task", pairs, "--perturbation", "skip", "--draws", "3")
    assert result.exit_code == 2
    assert "--draws has no meaning with --perturbation skip" in result.stderr


def test_a_trace_begins_with_its_plan(tiny: Path, pairs: Path, in_folder: Path) -> None:
    """One line on standard error says what it takes, before any prompt is finished; with --json it is left out."""
    arguments = ("trace", tiny, "--task", pairs, "--limit", "3", "--no-report", "--out", in_folder / "run")
    result = call(*arguments)
    assert "Plan: 3 prompts × " in result.stderr
    assert result.stderr.index("Plan: ") < result.stderr.index("3 of 3 prompts")
    stored = json.loads((in_folder / "run" / "run.json").read_text("utf-8"))
    assert stored["plan"]["n_prompts"] == 3
    quiet = call(*arguments, "--overwrite", "--json")
    assert "Plan: " not in quiet.stderr
