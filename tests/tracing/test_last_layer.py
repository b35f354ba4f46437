"""The last layer of models whose keys are chosen or compressed, behind prompts longer than any probe."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js, plain_log_probs, plain_readouts, plain_site_means

LAYERS, N_LAYERS, WIDTH, D_VOCAB = "model.layers", 3, 32, 101
LENGTHS = {"deepseek_v32": 40, "glm_moe_dsa": 40, "axk2": 40, "deepseek_v4": 150}
"""Families with an indexer or with compressed keys, and prompts beyond its choice and its rate."""
SETTINGS = {
    "vocab_size": D_VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "q_lora_rank": 12,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "intermediate_size": 48,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BRANCHES = {"mixer_output": "self_attn", "mlp_output": "mlp"}
KEEP = np.random.default_rng(2).random((N_LAYERS, 2, WIDTH)) < 0.5


@cache
def build(family: str) -> nn.Module:
    """A tiny model, gradients on, no matrix at its default."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**SETTINGS)).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.35)
                elif not bool(torch.isfinite(parameter).all()):
                    parameter.normal_(0, 0.2)
            module.lm_head.weight.normal_(0, 0.4)
    return module


def prompts(family: str) -> list[tuple[int, ...]]:
    """Two prompts of the family's length and one that is shorter."""
    generator = np.random.default_rng(1)
    lengths = (LENGTHS[family], LENGTHS[family], LENGTHS[family] - 9)
    return [tuple(int(token) for token in generator.integers(3, D_VOCAB, length)) for length in lengths]


@pytest.mark.parametrize("family", LENGTHS)
def test_the_last_layer_beyond_its_choice(family: str) -> None:
    """Masks of the layers' outputs, zero and mean, and readouts are those of plain hooks at every layer."""
    module, ids = build(family), prompts(family)
    answers = [int(plain_log_probs(module, one).argmax()) for one in ids]
    samples = [lt.Sample(prompt_ids=one, answer_id=answer) for one, answer in zip(ids, answers, strict=True)]
    model = lt.wrap_model(copy.deepcopy(module))
    zero = lt.trace(model, samples, perturbation=lt.Mask.explicit(KEEP), share_prefix=False)
    mean = lt.trace(
        model, samples, perturbation=lt.Mask(fraction=0.5, draws=2, fill="mean", site="block_output", seed=4)
    )
    means = plain_site_means(module, LAYERS, ids)
    keep = lt.Mask(fraction=0.5, draws=2, fill="mean", site="block_output", seed=4).keep_array(
        n_layers=N_LAYERS, width=WIDTH
    )
    for row, (one, answer) in enumerate(zip(ids, answers, strict=True)):
        np.testing.assert_allclose(zero.js_bits[row], plain_js(module, LAYERS, one, keep=KEEP), atol=2e-5)
        expected = plain_js(module, LAYERS, one, keep=keep, fill=means)
        np.testing.assert_allclose(mean.js_bits[row], expected, atol=2e-5)
        readouts = np.exp(plain_readouts(module, LAYERS, one)[:, answer])
        np.testing.assert_allclose(zero.target_prob[row], readouts, atol=2e-5)
        np.testing.assert_allclose(mean.target_prob[row], readouts, atol=2e-5)


@pytest.mark.parametrize("site", BRANCHES)
@pytest.mark.parametrize("family", [family for family in LENGTHS if family != "deepseek_v4"])
def test_sites_beyond_its_choice(family: str, site: str) -> None:
    """Masks of the branches, over the same lengths, are those of hooks on their modules."""
    module, ids = build(family), prompts(family)[1:]
    samples = [lt.Sample(prompt_ids=one, answer_id=7) for one in ids]
    trace = lt.trace(lt.wrap_model(copy.deepcopy(module)), samples, perturbation=lt.Mask.explicit(KEEP, site=site))
    for row, one in enumerate(ids):
        expected = plain_js(module, LAYERS, one, keep=KEEP, branches=BRANCHES, site=site)
        np.testing.assert_allclose(trace.js_bits[row], expected, atol=2e-5)
