"""`layertracer inspect`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import call


def test_inspect_shows_layers_and_self_check(tiny: Path) -> None:
    """The tables have a row for every layer, with its kinds and parameters, and one for every check."""
    result = call("inspect", tiny)
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    layers = [row for row in rows if len(row) == 5 and row[1].startswith("model.layers.")]
    assert [row[:4] for row in layers] == [[str(i), f"model.layers.{i}", "attention", "dense"] for i in range(4)]
    # 32x32 query and output, 32x16 key and value, three 32x48 of the MLP, two norms.
    assert {row[4] for row in layers} == {str(2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32)}
    assert "Self-check passed; method: one pass (ladder)" in result.stdout
    assert "sites: block_output, mixer_output, mlp_output, state" in result.stdout


def test_inspect_as_json(tiny: Path) -> None:
    """--json prints the anatomy and the self-check as one document."""
    document = json.loads(call("inspect", tiny, "--json").stdout)
    assert [layer["mixer"] for layer in document["model"]["layers"]] == ["attention"] * 4
    assert document["self_check"]["passed"] is True
    assert document["sites"] == ["block_output", "mixer_output", "mlp_output", "state"]


def test_inspect_of_an_unknown_model_is_one_message() -> None:
    """A model that does not exist ends with 1 and no traceback."""
    result = call("inspect", "smollm3x")
    assert result.exit_code == 1
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.stderr
