"""Early exit against Transformers' own: predicted agreement is the share of drafts that the full model accepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import layertracer as lt
from layertracer.hybrids._gates.early_exit import LEAST_PROMPTS, measure_early_exit
from layertracer.tracing import TracedModel, layer_flops

from tests.support.oracles.early_exit_drafts import Draft, drafts_of
from tests.support.tiny import fresh

PROMPTS = tuple(tuple(np.random.default_rng(seed).integers(3, 100, 7 + seed % 3).tolist()) for seed in range(9))


def agreement_of(model: TracedModel, prefixes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Predicted agreement after each layer, of fewer prompts than are divided into halves."""
    assert len(prefixes) < LEAST_PROMPTS
    samples = [lt.Sample(prompt_ids=prefix) for prefix in prefixes]
    trace = lt.trace(model, samples, target="model", perturbation=lt.Mask(draws=1), audit=0)
    return measure_early_exit(trace, layer_flops(model.cost_probe, n_tokens=8)).kept.agreement


def agrees_after(model: TracedModel, drafts: Sequence[Draft], n_layers: int) -> list[bool]:
    """Whether the readout after the layers that draft has the final top token, behind each draft's prefix."""
    log_probs = lt.read_layers(model, [lt.Sample(prompt_ids=draft.prefix) for draft in drafts], audit=0).log_probs
    top = log_probs.argmax(dim=-1)
    assert top[:, n_layers - 1].tolist() == [draft.token for draft in drafts]
    return (top[:, n_layers - 1] == top[:, -1]).tolist()


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_agreement_is_acceptance_of_first_drafts(n_layers: int) -> None:
    """Of nine prompts, as large a share agrees after one to three of four layers as has its first draft accepted."""
    module = fresh("llama")
    firsts = [drafts_of(module, ids, n_layers=n_layers, n_new=2)[0] for ids in PROMPTS]
    assert [draft.prefix for draft in firsts] == list(PROMPTS)
    found = agreement_of(lt.wrap_model(module), PROMPTS)
    assert found[n_layers - 1] == pytest.approx(np.mean([draft.is_accepted for draft in firsts]))


def test_every_draft_of_a_generation_is_foreseen() -> None:
    """Along 12 generated tokens, every draft is the readout's top token, accepted exactly where it is the final one."""
    module = fresh("llama")
    model = lt.wrap_model(module)
    for n_layers in (2, 3):
        drafts = [draft for ids in PROMPTS[:3] for draft in drafts_of(module, ids, n_layers=n_layers, n_new=12)]
        assert len(drafts) > 12
        assert {draft.is_accepted for draft in drafts} == {True, False}
        assert agrees_after(model, drafts, n_layers) == [draft.is_accepted for draft in drafts]


@pytest.mark.slow
@pytest.mark.parametrize("n_layers", [22, 27, 29])
def test_agreement_is_acceptance_on_a_trained_model(smollm2: TracedModel, n_layers: int) -> None:
    """On SmolLM2, predicted agreement at the next token of eight prompts is the measured share of accepted drafts."""
    task = lt.load_task("antonym", limit=8)
    trace = lt.trace(smollm2, task, target="model", perturbation=lt.Mask(draws=1), audit=0)
    firsts = [drafts_of(smollm2.module, prompt.prompt_ids, n_layers=n_layers, n_new=2)[0] for prompt in trace.prompts]
    found = measure_early_exit(trace, layer_flops(smollm2.cost_probe, n_tokens=8)).kept
    assert found.agreement[n_layers - 1] == pytest.approx(np.mean([draft.is_accepted for draft in firsts]))


@pytest.mark.parametrize("n_layers", [24, 28])
def test_every_draft_of_a_trained_model_is_foreseen(smollm2: TracedModel, n_layers: int) -> None:
    """Of two prompts that SmolLM2 goes on, every draft is its readout's top token, accepted where that is final."""
    prompts = [smollm2.tokenizer(text)["input_ids"] for text in ("The capital of France is", "up -> down\nleft ->")]
    drafts = [draft for ids in prompts for draft in drafts_of(smollm2.module, ids, n_layers=n_layers, n_new=5)]
    assert agrees_after(smollm2, drafts, n_layers) == [draft.is_accepted for draft in drafts]
