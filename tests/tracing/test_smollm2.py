"""A trained model: SmolLM2-135M against plain hooks, and where it starts and breaks on antonyms."""

from __future__ import annotations

import numpy as np

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js, plain_readouts

LAYERS = "model.layers"
BRANCHES = {"mixer_output": "self_attn"}
PROMPTS = ("hot -> cold\nold -> new\nwide ->", "The capital of France is", "up -> down\nleft ->")
ANSWER = " narrow"
SOME_LAYERS = (0, 1, 16, 28, 29)  # a hooked forward for each; tests/tracing/test_trained.py has every layer and site


def samples() -> list[lt.Sample]:
    """Three prompts of different lengths."""
    return [lt.Sample(prompt=prompt, answer=ANSWER) for prompt in PROMPTS]


def test_anatomy_and_self_check(smollm2: lt.TracedModel) -> None:
    """Thirty attention layers of 576 dimensions, found by running the model, and proved."""
    assert smollm2.anatomy.n_layers == 30
    assert smollm2.anatomy.d_model == 576
    assert {layer.mixer for layer in smollm2.anatomy.layers} == {"attention"}
    assert {layer.mlp for layer in smollm2.anatomy.layers} == {"dense"}
    assert smollm2.self_check.passed
    assert smollm2.self_check.method == "ladder"


def test_probabilities_equal_those_of_plain_hooks(smollm2: lt.TracedModel) -> None:
    """The target's probability after every layer is that of the model with its later layers silenced."""
    trace = lt.trace(smollm2, samples(), perturbation=lt.Mask(draws=1))
    for row, record in enumerate(trace.prompts):
        readouts = plain_readouts(smollm2.module, LAYERS, record.prompt_ids, only=SOME_LAYERS)
        expected = np.exp(readouts[:, record.target_ids[0]])
        np.testing.assert_allclose(trace.target_prob[row, list(SOME_LAYERS)], expected, atol=1e-5, rtol=0)


def test_divergences_equal_those_of_plain_hooks(smollm2: lt.TracedModel) -> None:
    """JS divergence at a layer is that of one plain hook at a time."""
    keep = np.random.default_rng(0).random((30, 2, 576)) > 0.2
    keep[:, 1] = True
    trace = lt.trace(smollm2, samples()[:2], perturbation=lt.Mask.explicit(keep, site="mixer_output"))
    for row, record in enumerate(trace.prompts):
        expected = plain_js(
            smollm2.module,
            LAYERS,
            record.prompt_ids,
            keep=keep[:, :1],
            branches=BRANCHES,
            site="mixer_output",
            only=SOME_LAYERS,
        )
        compared = np.isfinite(expected[0])
        assert compared.sum() == len(SOME_LAYERS)
        np.testing.assert_allclose(trace.js_bits[row, 0, compared], expected[0, compared], atol=1e-5, rtol=0)
    assert np.all(trace.js_bits[:, 1] <= 1e-7)


def test_antonyms_start_deep_and_break_early(smollm2: lt.TracedModel) -> None:
    """On antonyms the particle lies within layers 22 to 28; masking what the mixer adds hurts most in layers 0 to 2."""
    task = lt.load_task("antonym", limit=8, seed=0)
    trace = lt.trace(smollm2, task, perturbation=lt.Mask(site="mixer_output"))
    assert trace.task_particle.layer is not None
    assert 22 <= trace.task_particle.layer <= 28
    assert trace.task_particle.share_found > 0.5
    assert 0 <= trace.vulnerable_layer.layer <= 2
    assert trace.js_bits.shape == (8, 5, 30)
