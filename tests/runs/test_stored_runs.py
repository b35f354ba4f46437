"""Runs of every format that was ever written load for ever. The files in tests/stored_runs are never written again."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from layertracer.runs import read_run, save_run

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


@pytest.mark.parametrize("name", ["complete", "interrupted", "failed"])
def test_version_1_is_the_same_in_the_present_format(name: str, tmp_path: Path) -> None:
    """A run of version 1 has one effect, and is the same when it is saved anew."""
    run = read_run(STORED / "v1" / name)
    assert list(run.effects) == ["mixer_output"]
    assert (run.measures, run.lenses, run.spec.further_perturbations) == ({}, {}, ())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_run(save_run(run, tmp_path / "run"))
    assert again == run


def test_version_2_several() -> None:
    """A run of several perturbations, layer measures and a lens loads with all of them."""
    run = read_run(STORED / "v2" / "several")
    assert list(run.effects) == ["mixer_output", "mlp_output", "mlp_output#2"]
    assert [effect.n_draws for effect in run.effects.values()] == [5, 2, 1]
    assert run.effects["mlp_output"].layers_without_site == (0,)
    assert [effect.vulnerable_layer.layer for effect in run.effects.values()] == [1, 2, 2]
    loss = run.effects["mlp_output"].largest_loss_layer
    assert loss is not None
    assert (loss.layer, loss.mean_loss_nats) == (2, pytest.approx(3.0479, abs=1e-4))
    influence = run.measures["block_influence"]
    assert influence.unit == "ratio"
    assert influence.values[0].tolist() == pytest.approx([0.9068, 0.6416, 0.3699, 0.1058], abs=1e-4)
    assert np.isnan(run.measures["surprise_nats"].values[:, 2]).all()
    assert run.lenses["linear"].details == {"fingerprint": "9f2c", "fitted_on": "512 prompts"}
    assert run.lenses["linear"].target_prob[:, -1].tolist() == pytest.approx(run.target_prob[:, -1].tolist())


@pytest.mark.parametrize(("name", "n_prompts"), [("interrupted", 2), ("failed", 0), ("plain", 3)])
def test_version_2_others(name: str, n_prompts: int) -> None:
    """Runs of version 2 that ended early, and one with a single effect, load with what they have."""
    run = read_run(STORED / "v2" / name)
    assert run.n_prompts == n_prompts
    assert len(run.effects) == (1 if name == "plain" else 3)


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
