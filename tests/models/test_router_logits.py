"""Mixtures of experts whose configuration asks for the routers' logits, as some checkpoints' do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import JambaConfig, JambaForCausalLM, MixtralConfig, MixtralForCausalLM

import layertracer as lt

COMMON: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.4,
    "output_router_logits": True,
}


def _mixtral() -> torch.nn.Module:
    return MixtralForCausalLM(MixtralConfig(**COMMON, num_local_experts=4))


def _jamba() -> torch.nn.Module:
    return JambaForCausalLM(JambaConfig(**COMMON, num_experts=4, use_mamba_kernels=False, mamba_d_state=4))


@pytest.mark.parametrize("build", [_mixtral, _jamba], ids=["named in the signature", "handed down"])
def test_ladder_runs_without_the_term_of_the_loss(build: Any) -> None:
    """The ladder runs and reads the model's own output, although the configuration asks for router logits."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = build().eval()
    model = lt.wrap_model(module)
    assert model.self_check.method == "ladder"
    ids = (1, 5, 9, 2)
    readout = lt.read_layers(model, [lt.Sample(prompt_ids=ids)])
    logits = module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(torch.as_tensor(readout.log_probs[0, -1]), logits.log_softmax(-1), atol=1e-5, rtol=1e-4)
