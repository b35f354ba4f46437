"""What a .gguf file says about its model and transformers passes over: frequencies, caps, widths of heads.

transformers reads the settings of the models that it was tried on and leaves the rest at the defaults of its own
configurations, without a word. A model with another rotary base, say, would load and give wrong numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_epsilon": _EPSILONS,
    "attention.layer_norm_rms_epsilon": _EPSILONS,
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "context_length": ("max_position_embeddings", "n_positions"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "final_logit_softcapping": ("final_logit_softcapping",),
}
"""Below the architecture's name in the file, and what transformers calls it: the first of them that there is."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0, 8.0),
    "attention.scale": (0.0,),
    "embedding_scale": (0.0, 1.0),
    "expert_weights_scale": (0.0, 1.0),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "rope.scaling.attn_factor": (0.0, 1.0),
}
"""What no configuration of the models that transformers reads from .gguf files holds, and values that say nothing."""

_LLAMA3: Mapping[str, Any] = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What every model of Llama 3.1 to 3.3 says of its rotary embeddings, apart from the factor."""

_SPECIAL_TOKENS = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a .gguf file says.

    Attributes:
        settings: Numbers and words of its metadata, by name below the architecture's.
        special_tokens: Ids of special tokens, by name in a configuration.
        sizes: Number of values of each tensor.
        rope_factors: By how much each frequency of the rotary embeddings is divided; None where they are not.
    """

    settings: Mapping[str, Any]
    special_tokens: Mapping[str, int]
    sizes: Mapping[str, int]
    rope_factors: tuple[float, ...] | None


def read_facts(path: Path) -> GgufFacts:
    """What a .gguf file says, without its tensors' values and its vocabulary."""
    import gguf

    reader = gguf.GGUFReader(path)
    scalars = {name: _scalar(field) for name, field in reader.fields.items()}
    prefix = f"{scalars.get('general.architecture')}."
    tokens = {slot: scalars.get(f"tokenizer.ggml.{name}_token_id") for name, slot in _SPECIAL_TOKENS.items()}
    return GgufFacts(
        settings={
            name.removeprefix(prefix): value
            for name, value in scalars.items()
            if name.startswith(prefix) and value is not None
        },
        special_tokens={slot: token for slot, token in tokens.items() if isinstance(token, int)},
        sizes={tensor.name: int(tensor.n_elements) for tensor in reader.tensors},
        rope_factors=next(
            (tuple(map(float, tensor.data)) for tensor in reader.tensors if tensor.name == "rope_freqs.weight"), None
        ),
    )


def correct(config: Any, facts: GgufFacts) -> tuple[str, ...]:
    """Set what the file says in a configuration that transformers made of it.

    Args:
        config: The configuration; changed in place.
        facts: What the file says.

    Returns:
        Settings of the file that the configuration has no place for, as "name = value".
    """
    for special, token in facts.special_tokens.items():
        setattr(config, special, token)
    for name, slots in _FIELDS.items():
        value = facts.settings.get(name)
        present = [slot for slot in slots if hasattr(config, slot)]
        if value and present:  # 0 stands for "there is none", as for the MLP of Mamba
            setattr(config, present[0], value)
    _correct_scale(config)
    _correct_activation(config, facts)
    unread = [
        f"{name} = {facts.settings[name]}"
        for name, neutral in _NEUTRAL.items()
        if facts.settings.get(name, neutral[0]) not in neutral
    ]
    return (*unread, *_correct_rotation(config, facts))


def _correct_scale(config: Any) -> None:
    """The scale of attention in Gemma 2 and 3, which files leave to the reader.

    It follows from the width of a head; in their largest models, told by their number of layers as the reference reader
    tells them, from the width of the stream.
    """
    if not hasattr(config, "query_pre_attn_scalar"):
        return
    is_largest = (config.model_type, config.num_hidden_layers) in {("gemma2", 46), ("gemma3_text", 62)}
    config.query_pre_attn_scalar = (
        config.hidden_size // config.num_attention_heads if is_largest else _head_width(config)
    )


def _correct_activation(config: Any, facts: GgufFacts) -> None:
    """The MLP of T5, of which there are two: files tell them apart by their gate."""
    if not hasattr(config, "feed_forward_proj"):
        return
    config.is_gated_act = any("ffn_gate" in name for name in facts.sizes)
    config.feed_forward_proj = "gated-gelu" if config.is_gated_act else "relu"
    config.dense_act_fn = "gelu_new" if config.is_gated_act else "relu"


def _correct_rotation(config: Any, facts: GgufFacts) -> list[str]:
    """Likewise for rotary embeddings."""
    settings, rope = facts.settings, getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return []
    local = rope.get("sliding_attention")
    if isinstance(local, dict) and "rope.freq_base_swa" in settings:
        local["rope_theta"] = settings["rope.freq_base_swa"]
    whole = rope.get("full_attention", rope)  # one for each kind of layer in Gemma 3
    if "rope.freq_base" in settings:
        whole["rope_theta"] = settings["rope.freq_base"]
    unread = _correct_share(config, whole, settings) + _correct_scaling(whole, settings)
    unread += _correct_factors(whole, facts.rope_factors)
    config.rope_parameters = rope
    return unread


def _correct_share(config: Any, rope: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The share of a head that is turned."""
    turned, width = settings.get("rope.dimension_count"), _head_width(config)
    if not turned or not width:
        return []
    if "partial_rotary_factor" in rope or hasattr(config, "partial_rotary_factor"):
        rope["partial_rotary_factor"] = turned / width
        if hasattr(config, "partial_rotary_factor"):
            config.partial_rotary_factor = turned / width
        return []
    return [] if turned == width else [f"rope.dimension_count = {turned}"]


def _head_width(config: Any) -> int | None:
    own = getattr(config, "head_dim", None)
    if own:
        return int(own)
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    return width // heads if width and heads else None


def _correct_scaling(rope: dict[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Stretched positions."""
    kind = settings.get("rope.scaling.type", "none")
    if kind == "none":
        return []
    if kind not in {"linear", "yarn"}:
        return [f"rope.scaling.type = {kind}"]
    rope["rope_type"] = kind
    rope["factor"] = settings.get("rope.scaling.factor", 1.0)
    if "rope.scaling.original_context_length" in settings:
        rope["original_max_position_embeddings"] = settings["rope.scaling.original_context_length"]
    return []


def _correct_factors(rope: dict[str, Any], factors: tuple[float, ...] | None) -> list[str]:
    """The factors of Llama 3.1 and later, of which files hold the outcome and transformers wants the parameters."""
    if factors is None or all(factor == 1 for factor in factors):
        return []
    guess = {**_LLAMA3, "factor": max(factors)}
    expected = [_llama3_factor(rope["rope_theta"] ** (index / len(factors)), guess) for index in range(len(factors))]
    if not all(math.isclose(one, other, rel_tol=1e-4) for one, other in zip(factors, expected, strict=True)):
        return ["rope_freqs.weight"]
    rope.update(guess)
    return []


def _llama3_factor(inverse_frequency: float, parameters: Mapping[str, Any]) -> float:
    """By how much a frequency is divided: short waves by 1, long ones by the factor, those between smoothly."""
    turns = parameters["original_max_position_embeddings"] / (2 * math.pi * inverse_frequency)
    low, high, factor = (parameters[name] for name in ("low_freq_factor", "high_freq_factor", "factor"))
    share = min(max((turns - low) / (high - low), 0.0), 1.0)
    return float(1 / ((1 - share) / factor + share))


def _scalar(field: Any) -> Any:
    """A number, a truth value or a word out of the metadata; None for a list."""
    import gguf

    if len(field.data) != 1 or field.types[0] == gguf.GGUFValueType.ARRAY:
        return None
    value = field.parts[field.data[0]]
    return bytes(value).decode("utf-8") if field.types[0] == gguf.GGUFValueType.STRING else value[0].item()
