"""Rotary embeddings of a .gguf file: base, share of a head, stretched positions, and factors of the frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LLAMA3: Mapping[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What every model of Llama 3.1 to 3.3 says of its rotary embeddings, apart from the factor."""

ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""Tensors that say by how much each frequency is divided; the last two, in short and in long contexts."""

_NEUTRAL: Mapping[str, tuple[float, ...]] = {
    "rope.scaling.attn_factor": (0.0, 1.0),
    "rope.scaling.yarn_attn_factor": (1.0, 0.0, -1.0),
    "rope.scaling.yarn_ext_factor": (1.0, -1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
}
"""What transformers has no place for in a rule that stretches positions, and values that say nothing."""

_Factors = Mapping[str, tuple[float, ...]]


def correct_rotation(config: Any, settings: Mapping[str, Any], factors: _Factors) -> list[str]:
    """Set what the file says of rotary embeddings in a configuration.

    Args:
        config: The configuration; changed in place.
        settings: The file's settings.
        factors: Those of `ROPE_FACTORS` that the file holds.

    Returns:
        What the configuration has no place for.
    """
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return list(factors)
    local = rope.get("sliding_attention")
    if isinstance(local, dict) and "rope.freq_base_swa" in settings:
        local["rope_theta"] = settings["rope.freq_base_swa"]
    whole = rope.get("full_attention", rope)  # one for each kind of layer in Gemma 3
    if "rope.freq_base" in settings:
        whole["rope_theta"] = settings["rope.freq_base"]
    unread = _correct_share(config, whole, settings)
    plain, short, long = (factors.get(name) for name in ROPE_FACTORS)
    if short is not None and long is not None:
        _correct_long(config, whole, settings, short=short, long=long)
    else:
        unread += _correct_scaling(whole, settings)
        unread += [name for name in ROPE_FACTORS[1:] if name in factors]
        unread += _correct_factors(config, whole, plain)
    config.rope_parameters = rope
    return unread


def head_width(config: Any) -> int | None:
    """Width of an attention head."""
    own = getattr(config, "head_dim", None)
    if own:
        return int(own)
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    return width // heads if width and heads else None


def _correct_share(config: Any, rope: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The share of a head that is turned."""
    turned, width = settings.get("rope.dimension_count"), head_width(config)
    if not turned or not width:
        return []
    if "partial_rotary_factor" in rope or hasattr(config, "partial_rotary_factor"):
        rope["partial_rotary_factor"] = turned / width
        if hasattr(config, "partial_rotary_factor"):
            config.partial_rotary_factor = turned / width
        return []
    return [] if turned == width else [f"rope.dimension_count = {turned}"]


def _correct_scaling(rope: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Stretched positions; a factor without a rule stretches them evenly."""
    factor = settings.get("rope.scaling.factor") or settings.get("rope.scale_linear") or 1.0
    kind = settings.get("rope.scaling.type", "none" if factor == 1 else "linear")
    unread = [
        f"{name} = {settings[name]}"
        for name, neutral in _NEUTRAL.items()
        if settings.get(name, neutral[0]) not in neutral
    ]
    if kind == "none":
        return unread
    if kind not in {"linear", "yarn"}:
        return [*unread, f"rope.scaling.type = {kind}"]
    rope.update(rope_type=kind, factor=factor)
    names = {"rope.scaling.original_context_length": "original_max_position_embeddings"}
    names |= {f"rope.scaling.yarn_{name}": name for name in ("beta_fast", "beta_slow")} if kind == "yarn" else {}
    rope.update({slot: settings[name] for name, slot in names.items() if name in settings})
    return unread


def _correct_long(
    config: Any,
    rope: dict[str, Any],
    settings: Mapping[str, Any],
    *,
    short: tuple[float, ...],
    long: tuple[float, ...],
) -> None:
    """LongRoPE, as in Phi-3: other factors within the original context than beyond it."""
    original = settings.get("rope.scaling.original_context_length") or config.max_position_embeddings
    rope.update(
        rope_type="longrope",
        short_factor=list(short),
        long_factor=list(long),
        original_max_position_embeddings=original,
    )
    if settings.get("rope.scaling.attn_factor"):
        rope["attention_factor"] = settings["rope.scaling.attn_factor"]
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = original


def _correct_factors(config: Any, rope: dict[str, Any], factors: tuple[float, ...] | None) -> list[str]:
    """Factors that hold at every length.

    Files of Llama 3.1 and later hold the outcome of a rule, and transformers wants the rule. Any others are LongRoPE
    with the same factors in short and long contexts.
    """
    if factors is None or all(factor == 1 for factor in factors):
        return []
    if rope.get("rope_type", "default") != "default":
        return [ROPE_FACTORS[0]]
    guess = {**_LLAMA3, "factor": max(factors)}
    expected = [_llama3_factor(rope["rope_theta"] ** (index / len(factors)), guess) for index in range(len(factors))]
    if all(math.isclose(one, other, rel_tol=1e-4) for one, other in zip(factors, expected, strict=True)):
        rope.update(guess)
    else:
        rope.update(
            rope_type="longrope",
            short_factor=list(factors),
            long_factor=list(factors),
            original_max_position_embeddings=config.max_position_embeddings,
            attention_factor=1.0,
        )
    return []


def _llama3_factor(inverse_frequency: float, parameters: Mapping[str, Any]) -> float:
    """By how much a frequency is divided: short waves by 1, long ones by the factor, those between smoothly."""
    turns = parameters["original_max_position_embeddings"] / (2 * math.pi * inverse_frequency)
    low, high, factor = (parameters[name] for name in ("low_freq_factor", "high_freq_factor", "factor"))
    share = min(max((turns - low) / (high - low), 0.0), 1.0)
    return float(1 / ((1 - share) / factor + share))
