"""Trained models of several mixers against plain hooks: every layer, every site."""

from __future__ import annotations

import numpy as np
import pytest

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js, plain_readouts

LAYERS = "model.layers"
BRANCHES = {
    "mixer_output": "linear_attn|self_attn",  # each layer has one of them
    "mlp_output": "mlp",
}
PROMPTS = ("hot -> cold\nold -> new\nwide ->", "the capital of France is", "up -> down\nleft ->")


def samples() -> list[lt.Sample]:
    """Three prompts of different lengths."""
    return [lt.Sample(prompt=prompt, answer=" narrow") for prompt in PROMPTS]


@pytest.fixture(params=["mini_attention", "mini_hybrid"])
def model(request: pytest.FixtureRequest) -> lt.TracedModel:
    """A trained miniature."""
    found: lt.TracedModel = request.getfixturevalue(request.param)
    return found


def test_probabilities_equal_those_of_plain_hooks(model: lt.TracedModel) -> None:
    """The target's probability after every layer is that of the model with its later layers silenced."""
    trace = lt.trace(model, samples(), perturbation=lt.Mask(draws=1))
    for row, record in enumerate(trace.prompts):
        readouts = plain_readouts(model.module, LAYERS, record.prompt_ids)
        expected = np.exp(readouts[:, record.target_ids[0]])
        np.testing.assert_allclose(trace.target_prob[row], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
def test_divergences_equal_those_of_plain_hooks(model: lt.TracedModel, site: str) -> None:
    """JS divergence at every layer is that of one plain hook at a time."""
    keep = np.random.default_rng(0).random((8, 2, 96)) > 0.2
    keep[:, 1] = True
    trace = lt.trace(model, samples(), perturbation=lt.Mask.explicit(keep, site=site))
    for row, record in enumerate(trace.prompts):
        expected = plain_js(model.module, LAYERS, record.prompt_ids, keep=keep[:, :1], branches=BRANCHES, site=site)
        compared = np.isfinite(expected[0])
        assert compared.any()
        np.testing.assert_allclose(trace.js_bits[row, 0, compared], expected[0, compared], atol=1e-5, rtol=0)
    assert np.all(trace.js_bits[:, 1] <= 1e-7)


def test_solved_prompts_have_a_particle(model: lt.TracedModel) -> None:
    """The miniatures solve antonyms, and every prompt's particle is found."""
    trace = lt.trace(model, lt.load_task("antonym", n_shot=4, limit=16))
    assert trace.solved_share == 1.0
    assert trace.task_particle.share_found == 1.0
    assert trace.target_prob[:, -1].min() > 0.5
