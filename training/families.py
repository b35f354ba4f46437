"""The miniatures: which there are, how large they are, and their configurations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from training.vocabulary import token_ids

Size = Literal["S", "M", "L"]

N_LAYERS = 8
CONTEXT = 256
_HEAD = 24
_WINDOW = 8
_WIDTHS: dict[Size, int] = {"S": 48, "M": 96, "L": 168}
_ROTARY = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Miniature:
    """One model to be trained.

    Attributes:
        name: What its folder is called.
        family: A name out of `FAMILIES`.
        size: "S", "M" or "L": about a quarter of a million parameters, 0.85 and 2.6 million.
        seed: Seed of the initial weights and of the data.
    """

    name: str
    family: str
    size: Size = "M"
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One way to build the layers.

    Attributes:
        description: The layers, in words.
        configure: The configuration of a size, a `transformers.PreTrainedConfig`.
    """

    description: str
    configure: Callable[[Size], Any]


def _common(size: Size) -> dict[str, Any]:
    """What all configurations say."""
    begin = token_ids()["<s>"]
    return {
        "vocab_size": len(token_ids()),
        "hidden_size": _WIDTHS[size],
        "num_hidden_layers": N_LAYERS,
        "tie_word_embeddings": True,
        "bos_token_id": begin,
        "eos_token_id": begin,
        "pad_token_id": None,
        "dtype": "bfloat16",
    }


def _attention_heads(size: Size) -> dict[str, Any]:
    """Grouped-query attention over all of the width."""
    n_heads = {"S": 2, "M": 4, "L": 8}[size]
    return {
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_heads // 2,
        "head_dim": _HEAD,
        "max_position_embeddings": CONTEXT,
    }


def _qwen(size: Size, mixers: list[str], *, mlp_widths: tuple[int, int, int]) -> Any:
    """Qwen3.5's layers: gated attention or Gated DeltaNet, then a gated MLP."""
    from transformers import Qwen3_5TextConfig

    head = _WIDTHS[size] // 2
    return Qwen3_5TextConfig(
        **_common(size),
        **_attention_heads(size),
        intermediate_size=dict(zip("SML", mlp_widths, strict=True))[size],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=head,
        linear_value_head_dim=head,
        layer_types=mixers,
        rope_parameters=dict(_ROTARY),
    )


def _configure_attention(size: Size) -> Any:
    return _qwen(size, ["full_attention"] * N_LAYERS, mlp_widths=(80, 160, 304))


def _configure_deltanet(size: Size) -> Any:
    return _qwen(size, ["linear_attention"] * N_LAYERS, mlp_widths=(64, 128, 256))


def _configure_hybrid(size: Size) -> Any:
    return _qwen(size, (["linear_attention"] * 3 + ["full_attention"]) * (N_LAYERS // 4), mlp_widths=(64, 136, 264))


def _configure_sliding(size: Size) -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(
        **_common(size),
        **_attention_heads(size),
        intermediate_size=192,
        use_sliding_window=True,
        sliding_window=_WINDOW,
        layer_types=["sliding_attention", "full_attention"] * (N_LAYERS // 2),
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    )


def _configure_mamba2(size: Size) -> Any:
    from transformers import Mamba2Config

    return Mamba2Config(**_common(size), expand=3, num_heads=6, head_dim=48, state_size=16, n_groups=1, chunk_size=16)


def _configure_mamba2_hybrid(size: Size) -> Any:
    from transformers import BambaConfig

    return BambaConfig(
        **_common(size),
        **{name: value for name, value in _attention_heads(size).items() if name != "head_dim"},
        intermediate_size=112,
        attn_layer_indices=[3, 7],
        mamba_n_heads=4,
        mamba_d_head=48,
        mamba_d_state=24,
        mamba_n_groups=1,
        mamba_expand=2,
        mamba_chunk_size=16,
        rope_parameters=dict(_ROTARY),
    )


def _configure_moe(size: Size) -> Any:
    # Not Qwen3.5's: for its mixtures AutoTokenizer takes Qwen's own tokenizer, whatever a checkpoint says.
    from transformers import Qwen3MoeConfig

    return Qwen3MoeConfig(
        **_common(size),
        **_attention_heads(size),
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
        router_aux_loss_coef=0.01,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    )


FAMILIES: dict[str, Family] = {
    "attention": Family(
        description="gated attention in every layer (Qwen3.5's layers)", configure=_configure_attention
    ),
    "sliding": Family(
        description=f"attention to the last {_WINDOW} tokens and to all of them, in turn (Qwen3)",
        configure=_configure_sliding,
    ),
    "mamba2": Family(description="Mamba2 in every layer, without MLPs", configure=_configure_mamba2),
    "gated-deltanet": Family(
        description="Gated DeltaNet in every layer (Qwen3.5's layers)", configure=_configure_deltanet
    ),
    "hybrid": Family(
        description="three layers of Gated DeltaNet, then one of gated attention, twice (Qwen3.5)",
        configure=_configure_hybrid,
    ),
    "mamba2-hybrid": Family(
        description="three layers of Mamba2, then one of attention, twice (Bamba)", configure=_configure_mamba2_hybrid
    ),
    "moe": Family(description="attention, and 2 of 8 experts (Qwen3 MoE)", configure=_configure_moe),
}
"""Families by name. All are trained in size M; only those of `SCALED` in three sizes and from three seeds."""

SCALED = ("attention", "gated-deltanet", "hybrid")
EMBEDDED = ("attention", "mamba2", "gated-deltanet", "hybrid")
"""The miniatures that are part of the package."""


def list_miniatures() -> tuple[Miniature, ...]:
    """All miniatures: every family, then the other sizes and seeds of the scaled ones.

    Example:
        >>> [miniature.name for miniature in list_miniatures()][-3:]
        ['hybrid-seed2', 'hybrid-s', 'hybrid-l']
    """
    first = tuple(Miniature(name=family, family=family) for family in FAMILIES)
    return first + tuple(variant for family in SCALED for variant in _variants(family))


def _variants(family: str) -> tuple[Miniature, ...]:
    return (
        *(Miniature(name=f"{family}-seed{seed}", family=family, seed=seed) for seed in (1, 2)),
        Miniature(name=f"{family}-s", family=family, size="S"),
        Miniature(name=f"{family}-l", family=family, size="L"),
    )
