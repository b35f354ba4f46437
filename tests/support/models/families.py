"""Tiny real architectures with no parameter at its default, and what is true of them, written down by reading.

Everything here is data and construction: nothing is learned from LayerTracer. `FAMILIES` says by hand
what the anatomy of each model is; `build_tiny` builds it from transformers' own classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests.support.models.plain_modules import NanoGPT, TorchEncoderDecoder

ATTENTION, SLIDING, DELTA, MAMBA = "attention", "sliding_attention", "gated_deltanet", "mamba"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One tiny model: how to build it and what its anatomy is.

    Attributes:
        name: Test id, and argument of `build_tiny`.
        config: Name of the config class in transformers, or of the plain module's class.
        settings: Its arguments.
        layers: Dotted path of the layer list inside the module.
        mixers: Kind of every layer's mixer.
        mlps: Kind of every layer's MLP: "dense", "experts" or "none".
        spread: Dotted path of the module whose weight and bias are scaled so that logits spread:
            the head where it is untied, the last norm where it is tied.
        d_model: Width of the stream between layers.
        max_length: Longest prompt that the configuration allows, None where it names none.
        embedding_std: Standard deviation of the token embeddings.
        logit_std: Standard deviation of the logits around their mean.
    """

    name: str
    config: str
    settings: Mapping[str, Any]
    layers: str
    mixers: tuple[str, ...]
    mlps: tuple[str, ...]
    spread: str
    d_model: int = 32
    d_vocab: int = 101
    max_length: int | None = 64
    embedding_std: float = 0.7
    logit_std: float = 2.5

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.mixers)

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that every layer of the model has."""
        has_mlp = all(kind != "none" for kind in self.mlps)
        return ("block_output", "mixer_output", "mlp_output") if has_mlp else ("block_output", "mixer_output")


def _family(name: str, config: str, mixers: tuple[str, ...], settings: Mapping[str, Any], **facts: Any) -> Family:
    facts.setdefault("mlps", ("dense",) * len(mixers))
    facts.setdefault("layers", "model.layers")
    facts.setdefault("spread", "lm_head")
    return Family(name=name, config=config, mixers=mixers, settings=settings, **facts)


_VOCAB = {"vocab_size": 101, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDTHS = _VOCAB | {"hidden_size": 32, "max_position_embeddings": 64}
_LLAMA = _WIDTHS | {"intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
_NEOX = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_FIVE = _LLAMA | {"num_hidden_layers": 5}
_DELTA = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_FALCON = _WIDTHS | {"num_hidden_layers": 4, "num_attention_heads": 4, "ffn_hidden_size": 48, "bias": True}
_FALCON_FACTS = {"layers": "transformer.h", "spread": "transformer.ln_f"}
_NO_LIMIT: dict[str, Any] = {"max_length": None}

FAMILIES: tuple[Family, ...] = (
    _family("llama", "LlamaConfig", (ATTENTION,) * 4, _LLAMA | {"attention_bias": True, "mlp_bias": True}),
    _family("mistral", "MistralConfig", (SLIDING,) * 4, _LLAMA | {"sliding_window": 5}),
    _family(
        "qwen2",
        "Qwen2Config",
        (ATTENTION, ATTENTION, SLIDING, SLIDING),
        _LLAMA | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "tie_word_embeddings": True},
        spread="model.norm",
    ),
    _family("qwen3", "Qwen3Config", (ATTENTION,) * 5, _FIVE | {"head_dim": 12, "attention_bias": True}),
    _family(
        "qwen3_moe",
        "Qwen3MoeConfig",
        (ATTENTION,) * 4,
        _LLAMA | _EXPERTS | {"head_dim": 8, "norm_topk_prob": True, "mlp_only_layers": [1]},
        mlps=("experts", "dense", "experts", "experts"),
    ),
    _family(
        "gemma2",
        "Gemma2Config",
        (SLIDING, ATTENTION, SLIDING, ATTENTION),
        _LLAMA
        | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 4, "attn_implementation": "eager"}
        | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 2.0},
        spread="model.norm",
        embedding_std=0.15,
    ),
    _family(
        "gemma3_text",
        "Gemma3TextConfig",
        (SLIDING, SLIDING, ATTENTION, SLIDING, ATTENTION),
        _FIVE
        | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 4, "final_logit_softcapping": 5.0}
        | {"layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention", "full_attention"]},
        spread="model.norm",
        embedding_std=0.15,
    ),
    _family(
        "gpt2",
        "GPT2Config",
        (ATTENTION,) * 5,
        _VOCAB | {"n_positions": 64, "n_embd": 32, "n_layer": 5, "n_head": 4},
        layers="transformer.h",
        spread="transformer.ln_f",
    ),
    _family(
        "gpt_neox",
        "GPTNeoXConfig",
        (ATTENTION,) * 4,
        _NEOX,
        layers="gpt_neox.layers",
        spread="lm_head",
    ),
    _family(
        "gpt_neox_sequential",
        "GPTNeoXConfig",
        (ATTENTION,) * 4,
        _NEOX | {"use_parallel_residual": False},
        layers="gpt_neox.layers",
        spread="lm_head",
    ),
    _family(
        "opt",
        "OPTConfig",
        (ATTENTION,) * 4,
        _WIDTHS | {"ffn_dim": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "word_embed_proj_dim": 24},
        layers="model.decoder.layers",
        spread="model.decoder.project_out",
    ),
    _family("phi", "PhiConfig", (ATTENTION,) * 4, _LLAMA | {"qk_layernorm": True}),
    _family("falcon", "FalconConfig", (ATTENTION,) * 4, _FALCON, **_FALCON_FACTS),
    _family(
        "falcon_new_decoder",
        "FalconConfig",
        (ATTENTION,) * 4,
        _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
        **_FALCON_FACTS,
    ),
    _family(
        "falcon_sequential",
        "FalconConfig",
        (ATTENTION,) * 4,
        _FALCON | {"parallel_attn": False, "multi_query": False},
        **_FALCON_FACTS,
    ),
    _family("falcon_alibi", "FalconConfig", (ATTENTION,) * 4, _FALCON | {"alibi": True}, **_FALCON_FACTS),
    _family(
        "bloom",
        "BloomConfig",
        (ATTENTION,) * 4,
        _VOCAB | {"hidden_size": 32, "n_layer": 4, "n_head": 4},
        layers="transformer.h",
        spread="transformer.ln_f",
        max_length=None,
    ),
    _family(
        "cohere",
        "CohereConfig",
        (ATTENTION,) * 4,
        _LLAMA | {"logit_scale": 0.3, "use_qk_norm": True},
        spread="model.norm",
    ),
    _family(
        "granite",
        "GraniteConfig",
        (ATTENTION,) * 5,
        _FIVE
        | {"embedding_multiplier": 3.0, "logits_scaling": 4.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2},
        embedding_std=0.3,
    ),
    _family("olmo2", "Olmo2Config", (ATTENTION,) * 4, _LLAMA),
    _family(
        "mixtral",
        "MixtralConfig",
        (ATTENTION,) * 4,
        _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
        mlps=("experts",) * 4,
    ),
    _family(
        "mamba",
        "MambaConfig",
        (MAMBA,) * 5,
        _VOCAB | {"hidden_size": 32, "state_size": 6, "num_hidden_layers": 5},
        mlps=("none",) * 5,
        layers="backbone.layers",
        spread="backbone.norm_f",
        **_NO_LIMIT,
    ),
    _family(
        "mamba2",
        "Mamba2Config",
        ("mamba2",) * 4,
        _VOCAB
        | {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 4, "num_heads": 8}
        | {"head_dim": 8, "n_groups": 2, "chunk_size": 4},
        mlps=("none",) * 4,
        layers="backbone.layers",
        **_NO_LIMIT,
    ),
    _family(
        "qwen3_next",
        "Qwen3NextConfig",
        (DELTA, DELTA, DELTA, ATTENTION),
        _LLAMA | _DELTA | _EXPERTS | {"head_dim": 16, "shared_expert_intermediate_size": 16, "mlp_only_layers": [2]},
        mlps=("experts", "experts", "dense", "experts"),
    ),
    _family("qwen3_5_text", "Qwen3_5TextConfig", (DELTA, DELTA, DELTA, ATTENTION), _LLAMA | _DELTA | {"head_dim": 16}),
    _family(
        "jamba",
        "JambaConfig",
        (MAMBA, ATTENTION, MAMBA, ATTENTION, MAMBA),
        _FIVE
        | {"num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"expert_layer_period": 3, "expert_layer_offset": 1, "mamba_d_state": 6, "mamba_dt_rank": 4},
        mlps=("dense", "experts", "dense", "dense", "experts"),
    ),
    _family(
        "rwkv",
        "RwkvConfig",
        ("rwkv",) * 5,
        _VOCAB
        | {"hidden_size": 32, "num_hidden_layers": 5, "intermediate_size": 48}
        | {"context_length": 64, "rescale_every": 2},
        layers="rwkv.blocks",
        spread="head",
        embedding_std=3.0,  # what the halving between layers leaves of it is still far above the epsilon of a norm
    ),
)

PLAIN_MODULES: tuple[Family, ...] = (
    _family(
        "nanogpt",
        "NanoGPT",
        (ATTENTION,) * 4,
        {"d_vocab": 101, "d_model": 32, "n_layers": 4, "n_heads": 4, "max_length": 64},
        layers="transformer.h",
        **_NO_LIMIT,
    ),
    _family(
        "torch_encoder",
        "TorchEncoderDecoder",
        (ATTENTION,) * 4,
        {"d_vocab": 101, "d_model": 32, "n_layers": 4, "n_heads": 4, "max_length": 64},
        layers="encoder.layers",
        spread="head",
        **_NO_LIMIT,
    ),
)
_PLAIN_CLASSES: dict[str, type[nn.Module]] = {"NanoGPT": NanoGPT, "TorchEncoderDecoder": TorchEncoderDecoder}

BY_NAME: dict[str, Family] = {family.name: family for family in (*FAMILIES, *PLAIN_MODULES)}


def build_tiny(family: str, *, seed: int = 0) -> nn.Module:
    """A fresh tiny model in float32 and evaluation mode, which has not been run yet.

    That it has not been run matters: RWKV divides its own weights at its first evaluation.

    Args:
        family: Name of a `Family`.
        seed: Seed of all parameters.
    """
    return copy.deepcopy(_built(family, seed))


@cache
def _built(name: str, seed: int) -> nn.Module:
    return build_family(BY_NAME[name], seed=seed)


def build_family(family: Family, *, seed: int = 0) -> nn.Module:
    """The same for a family that need not be listed.

    Args:
        family: What to build.
        seed: Seed of all parameters.
    """
    with torch.random.fork_rng(devices=[]):  # transformers draws its own initial values from the global generator
        module = _default_module(family).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in module.named_parameters():
            parameter.copy_(_undefaulted(parameter_name, parameter, family.embedding_std, generator))
        _spread_logits(module, family)
    return module


def _default_module(family: Family) -> nn.Module:
    if family.config in _PLAIN_CLASSES:
        return _PLAIN_CLASSES[family.config](**family.settings)
    config = getattr(transformers, family.config)(**family.settings)
    return transformers.AutoModelForCausalLM.from_config(config)


def _undefaulted(name: str, parameter: Tensor, embedding_std: float, generator: torch.Generator) -> Tensor:
    """Values for a parameter that are none of its defaults and keep activations of the order of 1."""
    noise = torch.randn(parameter.shape, generator=generator)
    last = name.rpartition(".")[2]
    if last == "A_log":  # decay rates: memories from one token to a few dozen
        return -0.5 + 0.8 * noise
    if last in ("dt_bias", "time_decay", "time_first") or name.endswith("dt_proj.bias"):
        return -0.8 + 0.5 * noise
    if last.startswith("time_mix"):
        return torch.sigmoid(noise)
    if parameter.ndim == 1:  # norms keep their centre, be it 1 or 0; biases are around 0
        return parameter + 0.3 * noise
    if _is_embedding(name):
        return embedding_std * noise
    gain = 0.7 if "x_proj" in name or "dt_proj" in name else 1.3  # Mamba multiplies three of its projections
    return gain * noise / math.sqrt(parameter.shape[-1])


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed_", "embeddings", "embedding.", "embed.", "wte", "wpe"))


def _spread_logits(module: nn.Module, family: Family) -> None:
    """Scale the module named in `family.spread` until logits have the wanted standard deviation."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(family.d_vocab, (4, 12), generator=generator)
    for _ in range(6):
        trial = copy.deepcopy(module)
        logits = logits_of(trial, ids)
        factor = family.logit_std / (logits - logits.mean(-1, keepdim=True)).std().item()
        _scale(module.get_submodule(family.spread), min(4.0, max(0.25, factor)))


def _scale(module: nn.Module, factor: float) -> None:
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight" and _is_zero_centred(module):
            parameter.copy_((1.0 + parameter) * factor - 1.0)
        else:
            parameter.mul_(factor)


def _is_zero_centred(module: nn.Module) -> bool:
    """Whether the module multiplies by `1 + weight`, as Gemma's norms do."""
    return type(module).__name__ in ("Gemma2RMSNorm", "Gemma3RMSNorm")


@torch.no_grad()
def logits_of(module: nn.Module, ids: Tensor) -> Tensor:
    """Logits [batch, position, d_vocab], whatever the module wraps them in."""
    output = module(ids, use_cache=False) if hasattr(module, "config") else module(ids)
    if isinstance(output, Tensor):
        return output
    return output[0] if isinstance(output, tuple) else output.logits
