"""Quick families: tiny models that most tests use, with settings of their own.

Everything here is data and construction: nothing is learned from LayerTracer. What the layers of each are is in the
tables read by hand; parameters are drawn as those of every family of the registry.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.architectures.read_by_hand.reading import ReadByHand
from tests.architectures.read_by_hand.table import TABLE
from tests.support.models import plain_modules
from tests.support.models.parameters import undefaulted
from tests.support.models.tiny_settings import D_MODEL, D_VOCAB
from tests.support.oracles.plain_hooks import Branches


@dataclass(frozen=True, kw_only=True)
class Family:
    """One tiny model: how to build it, and what reading says of it.

    Attributes:
        name: Test id, and argument of `build_tiny`.
        settings: Arguments of its configuration, or of the plain module.
        model_type: Its type in transformers, or the plain module's name in the tables; the name unless given.
        embedding_std: Standard deviation of the token embeddings.
    """

    name: str
    settings: Mapping[str, Any]
    model_type: str = ""
    embedding_std: float = 0.7

    d_model = D_MODEL
    d_vocab = D_VOCAB

    @property
    def read(self) -> ReadByHand:
        """What reading says of its layers."""
        return TABLE[self.model_type or self.name]

    @cached_property
    def config(self) -> Any:
        """Its configuration."""
        model_type = self.model_type or self.name
        if model_type in PLAIN_MODULES:
            return SimpleNamespace(**self.settings)
        return CONFIG_MAPPING[model_type](**copy.deepcopy(dict(self.settings)))

    @property
    def layers(self) -> str:
        """Dotted path of the layer list inside the module."""
        return self.read.layers

    @cached_property
    def mixers(self) -> tuple[str, ...]:
        """Kind of every layer's mixer."""
        return self.read.mixers(self.config)

    @cached_property
    def mlps(self) -> tuple[str, ...]:
        """Kind of every layer's MLP: "dense", "experts" or "none"."""
        return self.read.mlps(self.config)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.mixers)

    @property
    def branches(self) -> Branches:
        """By site, the modules whose outputs a branch adds."""
        return {"mixer_output": self.read.mixer_branch, "mlp_output": self.read.mlp_branch}

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that every layer of the model has."""
        has_mlp = all(kind != "none" for kind in self.mlps)
        return ("block_output", "mixer_output", "mlp_output") if has_mlp else ("block_output", "mixer_output")


_VOCAB = {"vocab_size": 101, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDTHS = _VOCAB | {"hidden_size": 32, "max_position_embeddings": 64}
_LLAMA = _WIDTHS | {"intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
_NEOX = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}
_FIVE = _LLAMA | {"num_hidden_layers": 5}
_DELTA = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_FALCON = _WIDTHS | {"num_hidden_layers": 4, "num_attention_heads": 4, "ffn_hidden_size": 48, "bias": True}

FAMILIES: tuple[Family, ...] = (
    Family(name="llama", settings=_LLAMA | {"attention_bias": True, "mlp_bias": True}),
    Family(name="mistral", settings=_LLAMA | {"sliding_window": 5}),
    Family(
        name="qwen2",
        settings=_LLAMA
        | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "tie_word_embeddings": True},
    ),
    Family(name="qwen3", settings=_FIVE | {"head_dim": 12, "attention_bias": True}),
    Family(
        name="qwen3_moe",
        settings=_LLAMA | _EXPERTS | {"head_dim": 8, "norm_topk_prob": True, "mlp_only_layers": [1]},
    ),
    Family(
        name="gemma2",
        settings=_LLAMA
        | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 4, "attn_implementation": "eager"}
        | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 2.0},
        embedding_std=0.15,
    ),
    Family(
        name="gemma3_text",
        settings=_FIVE
        | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 4, "final_logit_softcapping": 5.0}
        | {"layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention", "full_attention"]},
        embedding_std=0.15,
    ),
    Family(
        name="gpt2",
        settings=_VOCAB | {"n_positions": 64, "n_embd": 32, "n_layer": 5, "n_head": 4},
    ),
    Family(
        name="gpt_neox",
        settings=_NEOX,
    ),
    Family(
        name="gpt_neox_sequential",
        model_type="gpt_neox",
        settings=_NEOX | {"use_parallel_residual": False},
    ),
    Family(
        name="opt",
        settings=_WIDTHS | {"ffn_dim": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "word_embed_proj_dim": 24},
    ),
    Family(name="phi", settings=_LLAMA | {"qk_layernorm": True}),
    Family(name="falcon", settings=_FALCON),
    Family(
        name="falcon_new_decoder",
        model_type="falcon",
        settings=_FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    Family(
        name="falcon_sequential",
        model_type="falcon",
        settings=_FALCON | {"parallel_attn": False, "multi_query": False},
    ),
    Family(name="falcon_alibi", model_type="falcon", settings=_FALCON | {"alibi": True}),
    Family(
        name="bloom",
        settings=_VOCAB | {"hidden_size": 32, "n_layer": 4, "n_head": 4},
    ),
    Family(
        name="cohere",
        settings=_LLAMA | {"logit_scale": 0.3, "use_qk_norm": True},
    ),
    Family(
        name="granite",
        settings=_FIVE
        | {"embedding_multiplier": 3.0, "logits_scaling": 4.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2},
        embedding_std=0.3,
    ),
    Family(name="olmo2", settings=_LLAMA),
    Family(
        name="mixtral",
        settings=_LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    Family(
        name="mamba",
        settings=_VOCAB | {"hidden_size": 32, "state_size": 6, "num_hidden_layers": 5},
    ),
    Family(
        name="mamba2",
        settings=_VOCAB
        | {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 4, "num_heads": 8}
        | {"head_dim": 8, "n_groups": 2, "chunk_size": 4},
    ),
    Family(
        name="qwen3_next",
        settings=_LLAMA
        | _DELTA
        | _EXPERTS
        | {"head_dim": 16, "shared_expert_intermediate_size": 16, "mlp_only_layers": [2]},
    ),
    Family(name="qwen3_5_text", settings=_LLAMA | _DELTA | {"head_dim": 16}),
    Family(
        name="jamba",
        settings=_FIVE
        | {"num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"expert_layer_period": 3, "expert_layer_offset": 1, "mamba_d_state": 6, "mamba_dt_rank": 4},
        embedding_std=0.5,  # with more of it, rounding is some four times that of the others
    ),
    Family(
        name="rwkv",
        settings=_VOCAB
        | {"hidden_size": 32, "num_hidden_layers": 5, "intermediate_size": 48}
        | {"context_length": 64, "rescale_every": 2},
        embedding_std=3.0,  # what the halving between layers leaves of it is still far above the epsilon of a norm
    ),
)

PLAIN_MODULES: Mapping[str, type[nn.Module]] = {
    "nanogpt": plain_modules.NanoGPT,
    "torch_encoder": plain_modules.TorchEncoderDecoder,
}
"""Models without a configuration, by their names in the tables read by hand."""

_PLAIN = {"d_vocab": D_VOCAB, "d_model": D_MODEL, "n_layers": 4, "n_heads": 4, "max_length": 64}

BY_NAME: dict[str, Family] = {
    family.name: family for family in (*FAMILIES, *(Family(name=name, settings=_PLAIN) for name in PLAIN_MODULES))
}
BRANCHES: dict[str, Branches] = {name: family.branches for name, family in BY_NAME.items()}
"""By family and site, the modules whose outputs a branch adds."""


def build_tiny(family: str, *, seed: int = 0) -> nn.Module:
    """A fresh tiny model in float32 and evaluation mode, which has not been run yet; its parameters require gradients.

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
        torch.manual_seed(0)
        module = _default_module(family).float().eval()
    return undefaulted(module, logits_of, embedding_std=family.embedding_std, seed=seed)


def _default_module(family: Family) -> nn.Module:
    if family.name in PLAIN_MODULES:
        return PLAIN_MODULES[family.name](**family.settings)
    return AutoModelForCausalLM.from_config(copy.deepcopy(family.config))


@torch.no_grad()
def logits_of(module: nn.Module, ids: Tensor) -> Tensor:
    """Logits [batch, position, d_vocab], whatever the module wraps them in."""
    output = module(ids, use_cache=False) if hasattr(module, "config") else module(ids)
    if isinstance(output, Tensor):
        return output
    return output[0] if isinstance(output, tuple) else output.logits
