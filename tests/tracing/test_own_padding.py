"""Models that count positions by the tokens that are not padding, as RoBERTa does."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from transformers import RobertaConfig, RobertaForCausalLM, XLMRobertaConfig, XLMRobertaForCausalLM

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js, plain_log_probs

PADDING, LONGEST, WIDTH, N_LAYERS = 1, 60, 16, 3
LAYERS = {"roberta": "roberta.encoder.layer", "xlm-roberta": "roberta.encoder.layer"}
KEEP = np.random.default_rng(0).random((N_LAYERS, 2, WIDTH)) < 0.6


@cache
def build(name: str) -> nn.Module:
    """A tiny decoder that has a row for `LONGEST` positions behind the padding token's."""
    settings = {
        "vocab_size": 60,
        "hidden_size": WIDTH,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": LONGEST + PADDING + 1,
        "pad_token_id": PADDING,
        "is_decoder": True,
        "type_vocab_size": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config, model = {
            "roberta": (RobertaConfig, RobertaForCausalLM),
            "xlm-roberta": (XLMRobertaConfig, XLMRobertaForCausalLM),
        }[name]
        module: nn.Module = model(config(**settings)).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.25 * torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("name", LAYERS)
def test_the_context_ends_where_the_table_does(name: str) -> None:
    """The longest prompt that has a row for every position is traced; one token more is refused at once."""
    model = lt.wrap_model(build(name))
    ids = tuple(range(3, 58)) + tuple(range(3, 9))
    samples = [lt.Sample(prompt_ids=ids[:LONGEST], answer_id=7)]
    trace = lt.trace(model, samples, perturbation=lt.Mask.explicit(KEEP))
    np.testing.assert_allclose(
        trace.js_bits[0], plain_js(build(name), LAYERS[name], ids[:LONGEST], keep=KEEP), atol=1e-6
    )
    with pytest.raises(lt.PromptTooLongError, match=f"at most {LONGEST} fit|context of {LONGEST} tokens"):
        lt.trace(model, [lt.Sample(prompt_ids=ids[: LONGEST + 1], answer_id=7)])


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("name", LAYERS)
def test_padding_inside_a_shared_prefix(name: str, positions: str) -> None:
    """Prompts whose shared prefix holds the padding token give what each gives alone and in one piece."""
    module = build(name)
    prefixes = ((5, 6, 7, 8, 9, 10, 11, 12) * 6, (4, 6, PADDING, 8, 9, PADDING, 11, 12) * 6)
    prompts = [(*prefix, 20 + row, 30 + row) for prefix in prefixes for row in range(4)]
    samples = [lt.Sample(prompt_ids=ids, answer_id=7) for ids in prompts]
    mask = lt.Mask.explicit(KEEP, positions=positions)
    trace = lt.trace(lt.wrap_model(module), samples, perturbation=mask, share_prefix=True)
    assert any("padding token" in warning for warning in trace.warnings)
    for row, ids in enumerate(prompts):
        expected = plain_js(module, LAYERS[name], ids, keep=KEEP, last_only=positions == "last")
        np.testing.assert_allclose(trace.js_bits[row], expected, atol=1e-6)
        assert trace.target_prob[row, -1] == pytest.approx(np.exp(plain_log_probs(module, ids)[7]), abs=1e-6)


def test_padding_and_the_state() -> None:
    """The state is refused for prompts that hold a token which the cache counts and the model does not."""
    model = lt.wrap_model(build("roberta"))
    mask = lt.Mask(site="state", draws=1, fraction=1.0, scheme="random")
    lt.trace(model, [lt.Sample(prompt_ids=(5, 6, 7, 8), answer_id=7)], perturbation=mask)
    with pytest.raises(lt.SiteError, match=r"padding token .* does not count as a position"):
        lt.trace(model, [lt.Sample(prompt_ids=(5, PADDING, 7, 8), answer_id=7)], perturbation=mask)
