"""Sites in families whose additions do not simply add up, against plain hooks on the modules that a reader names.

Norms after the addition, inside a module or in the layer; a stream that is scaled, or spread over several; a decoder
that also looks at an encoder.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

import layertracer as lt

from tests.support.oracles.plain_hooks import js_when_masked, log_softmax

PROMPT = (7, 23, 41, 4, 36, 38, 52, 17, 30)
DECODER = (5, 11, 33, 29, 8, 45, 19)
_COMMON = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_PAIR = {
    "vocab_size": 61,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
_T5 = {
    "vocab_size": 61,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_HYPER = _COMMON | {
    "num_key_value_heads": 1,
    "head_dim": 8,
    "qk_rope_head_dim": 4,
    "q_lora_rank": 8,
    "o_lora_rank": 8,
    "o_groups": 2,
    "moe_intermediate_size": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "layer_types": ["sliding_attention"] * 3,
    "mlp_layer_types": ["moe"] * 3,
    "hc_mult": 2,
    "num_nextn_predict_layers": 0,
}
_XLNET = {"vocab_size": 61, "d_model": 16, "n_layer": 3, "n_head": 4, "d_inner": 24, "pad_token_id": 0}
# Settings, layers, and the modules whose outputs are what mixer and MLP add (up to factors of the layer).
FAMILIES: dict[str, tuple[dict[str, object], str, str | None, str | None]] = {
    "bert": (_COMMON | {"is_decoder": True}, "bert.encoder.layer", "attention.output.dense", "output.dense"),
    "openai-gpt": (
        {"vocab_size": 61, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64},
        "transformer.h",
        "attn",
        "mlp",
    ),
    "minimax": (
        _COMMON
        | {
            "num_key_value_heads": 2,
            "head_dim": 4,
            "num_local_experts": 4,
            "block_size": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_attn_alpha_factor": 1.5,
            "mlp_alpha_factor": 0.7,
        },
        "model.layers",
        "self_attn",
        "mlp",
    ),
    "doge": (_COMMON | {"num_key_value_heads": 2}, "model.layers", "self_attn", "mlp"),
    "deepseek_v4": (_HYPER, "model.layers", "self_attn", "mlp"),
    "bart": (_PAIR, "model.decoder.layers", "self_attn", "fc2"),
    "t5": (_T5, "decoder.block", "layer.0.SelfAttention", "layer.2.DenseReluDense"),
    "xlnet": (_XLNET, "transformer.layer", None, None),
}
ENCODER_DECODER = {"bart", "t5"}


@cache
@torch.no_grad()
def build(name: str) -> nn.Module:
    """A tiny model of the family with no parameter at its default."""
    settings, *_ = FAMILIES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(name, **settings)
        auto = AutoModelForSeq2SeqLM if name in ENCODER_DECODER else AutoModelForCausalLM
        module: nn.Module = auto.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(parameter + 0.3 * noise if parameter.ndim == 1 else noise / parameter.shape[-1] ** 0.5)
    return module


@cache
def wrapped(name: str) -> lt.TracedModel:
    """The model, told by nothing but the module."""
    return lt.wrap_model(build(name), name=name)


def sample(name: str) -> lt.Sample:
    """One prompt; its decoder's part where there is one."""
    if name in ENCODER_DECODER:
        return lt.Sample(prompt_ids=PROMPT, decoder_ids=DECODER, answer_id=4)
    return lt.Sample(prompt_ids=PROMPT, answer_id=4)


def log_probs(name: str) -> np.ndarray:
    """What the model says at the last position."""
    inputs = {"input_ids": torch.tensor([PROMPT]), "use_cache": False}
    if name in ENCODER_DECODER:
        inputs["decoder_input_ids"] = torch.tensor([DECODER])
    with torch.inference_mode():
        return log_softmax(build(name)(**inputs).logits[0, -1])


@pytest.mark.parametrize("site", ["mixer_output", "mlp_output"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_site_equals_a_hook_on_what_is_added(name: str, site: str) -> None:
    """The site is offered, and masking it is masking the module that a reader of the code would."""
    _, layers, *branches = FAMILIES[name]
    model, branch = wrapped(name), branches[site == "mlp_output"]
    assert model.self_check[site].passed, (model.self_check.errors, model.self_check.notes)
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    keep = np.random.default_rng(3).random((n_layers, 1, width)) > 0.3
    bits = lt.trace(model, [sample(name)], perturbation=lt.Mask.explicit(keep, site=site)).js_bits[0, 0]
    assert (bits > 1e-6).all()
    if branch is None:
        return
    (expected,) = js_when_masked(partial(log_probs, name), list(build(name).get_submodule(layers)), keep, branch=branch)
    np.testing.assert_allclose(bits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(ENCODER_DECODER))
def test_cross_attention_is_neither_mixer_nor_mlp(name: str) -> None:
    """What a decoder adds from the encoder belongs to neither site, and is not its MLP."""
    for layer in wrapped(name).anatomy.layers:
        assert sorted(addition.role for addition in layer.additions.found) == ["mixer", "mlp", "other"]
        assert not [part for part in layer.parts if part.role == "mlp" and "ttention" in type(part.module).__name__]
