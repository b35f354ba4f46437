"""Placements as settings of a configuration: windows by the types of layers, and hybrids of flash-linear-attention."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

FULL, SLIDING = "full_attention", "sliding_attention"
"""Types of layers, as configurations of Transformers name them."""


def windows_by_type(
    types: Sequence[str], *, kept: Collection[int], placeable: Collection[int], size: int
) -> dict[str, Any]:
    """Settings that give layers a window by their types: all that are placeable and not kept.

    Args:
        types: The types that the layers have now.
        kept: The layers that keep what they have.
        placeable: The layers that a window can stand in.
        size: Tokens that it sees.

    Example:
        >>> windows_by_type(["full_attention"] * 3, kept=[1], placeable=[0, 1, 2], size=64)["layer_types"]
        ['sliding_attention', 'full_attention', 'sliding_attention']
    """
    placed = set(placeable) - set(kept)
    return {
        "layer_types": [SLIDING if layer in placed else one for layer, one in enumerate(types)],
        "sliding_window": size,
        "use_sliding_window": True,
    }


def flash_linear_attention(
    kept: Collection[int], *, n_heads: int, n_kv_heads: int, rope_theta: float | None = None, qkv_bias: bool = False
) -> dict[str, Any]:
    """Settings of a hybrid of flash-linear-attention: attention in the layers kept, its own mixer elsewhere.

    It is the hybrid to be trained, and no model with windows: what it gives before that is another.

    Args:
        kept: The layers with attention.
        n_heads: Its query heads.
        n_kv_heads: Its key and value heads.
        rope_theta: Base of its rotary positions; None for the library's own.
        qkv_bias: Whether its projections have biases.

    Example:
        >>> flash_linear_attention([5, 2], n_heads=8, n_kv_heads=2)["attn"]["layers"]
        [2, 5]
    """
    attention: Mapping[str, Any] = {
        "layers": sorted(kept),
        "num_heads": n_heads,
        "num_kv_heads": n_kv_heads,
        "qkv_bias": qkv_bias,
        "window_size": None,
    }
    return {"attn": {**attention, **({} if rope_theta is None else {"rope_theta": rope_theta})}}
