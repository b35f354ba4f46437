"""Runs of every format that was ever written load for ever. The files in tests/stored_runs are never written again."""

from __future__ import annotations

from pathlib import Path

import pytest

from layertracer.runs import read_run

STORED = Path(__file__).parents[1] / "stored_runs"


def test_version_1_complete() -> None:
    """A complete run of version 1 loads with all its numbers and texts."""
    run = read_run(STORED / "v1" / "complete")
    assert (run.n_prompts, run.n_draws, run.n_layers, run.top_ids.shape[2]) == (3, 2, 4, 2)
    assert run.status == "complete"
    assert run.error is None
    assert run.model.name == "<b>planted</b>\u202e"
    assert [layer.mixer for layer in run.model.layers] == ["gated_deltanet"] * 3 + ["attention"]
    assert run.spec.perturbation["site"] == "mixer_output"
    assert run.self_check["batch"].unit == "nats"
    assert run.tokens[100] == "<script>document.title='hacked'</script>"
    assert run.tokens[104] == "\x00\x07\x1b[31mcontrol\x1b[0m\x7f\x85\u2028"
    assert run.target_prob[0].tolist() == pytest.approx([0.00428, 0.01842, 0.07756, 0.23936], abs=1e-4)
    assert run.js_bits[2, 1].tolist() == pytest.approx([0.69342, 0.25795, 0.04755, 0.12109], abs=1e-4)
    assert run.vulnerable_layer.layer == 0
    assert run.prompts[1].solved is not None


def test_version_1_interrupted() -> None:
    """An interrupted run of version 1 loads with the prompts that were finished, without answers."""
    run = read_run(STORED / "v1" / "interrupted")
    assert (run.status, run.n_prompts, run.n_requested) == ("interrupted", 2, 8)
    assert [prompt.answer_ids for prompt in run.prompts] == [(), ()]
    assert run.solved_share is None


def test_version_1_failed() -> None:
    """A failed run of version 1 loads with its error and without a prompt."""
    run = read_run(STORED / "v1" / "failed")
    assert (run.status, run.n_prompts, run.n_requested) == ("failed", 0, 8)
    assert run.error is not None
    assert run.error["type"] == "NonFiniteError"
    assert run.js_bits.shape == (0, 2, 4)
