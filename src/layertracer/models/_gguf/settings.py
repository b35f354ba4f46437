"""Settings that a .gguf file gives and transformers passes over: frequencies, caps, widths of heads.

transformers reads the settings of the models that it was tried on and leaves the rest at the defaults of its own
configurations, without a word. A model with another rotary base, say, would load and give wrong numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layertracer.models._gguf.rotation import ROPE_FACTORS, correct_rotation, head_width
from layertracer.models._plausibility.settings import Held

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
    "attention.causal": (True,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0, 8.0),
    "attention.scale": (0.0,),
    "embedding_scale": (0.0, 1.0),
    "expert_weights_scale": (0.0, 1.0),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
}
"""What no configuration of the models that transformers reads from .gguf files holds, and values that say nothing."""

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "attention_bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"),
    "bias": ("attn_qkv.bias", "attn_output.bias", "ffn_up.bias", "ffn_down.bias"),
    "mlp_bias": ("ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"),
    "qkv_bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "use_bias": ("attn_q.bias", "attn_output.bias", "ffn_up.bias", "ffn_down.bias", "ssm_in.bias", "ssm_out.bias"),
    "use_conv_bias": ("ssm_conv1d.bias",),
}
"""What in a configuration makes places for which tensors of a layer."""

_SPECIAL_TOKENS = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFacts:
    """What a .gguf file says.

    Attributes:
        settings: Numbers and words of its metadata, by name below the architecture's.
        special_tokens: Ids of special tokens, by name in a configuration.
        architecture: Name of the architecture.
        tensors: Names of the tensors.
        neutral: Those of them that change nothing: biases of zeros and scales of ones.
        rope_factors: By how much each frequency of the rotary embeddings is divided, by the tensor's name.
        held: Size and number of its tensors.
    """

    settings: Mapping[str, Any]
    special_tokens: Mapping[str, int]
    architecture: str
    tensors: frozenset[str]
    neutral: frozenset[str]
    rope_factors: Mapping[str, tuple[float, ...]]
    held: Held


def read_scalars(reader: Any) -> dict[str, Any]:
    """The numbers and words of a file's metadata, by name; None for lists.

    Args:
        reader: A `gguf.GGUFReader`.
    """
    return {name: _scalar(field) for name, field in reader.fields.items()}


def read_facts(reader: Any, scalars: Mapping[str, Any]) -> GgufFacts:
    """What a .gguf file says about its model, without its weights.

    Args:
        reader: A `gguf.GGUFReader`.
        scalars: Its numbers and words by name.
    """
    architecture = str(scalars.get("general.architecture"))
    prefix = f"{architecture}."
    tokens = {slot: scalars.get(f"tokenizer.ggml.{name}_token_id") for name, slot in _SPECIAL_TOKENS.items()}
    return GgufFacts(
        settings={
            name.removeprefix(prefix): value
            for name, value in scalars.items()
            if name.startswith(prefix) and value is not None
        },
        special_tokens={slot: token for slot, token in tokens.items() if isinstance(token, int)},
        architecture=architecture,
        tensors=frozenset(tensor.name for tensor in reader.tensors),
        neutral=frozenset(tensor.name for tensor in reader.tensors if _is_neutral(tensor)),
        rope_factors={
            tensor.name: tuple(map(float, tensor.data)) for tensor in reader.tensors if tensor.name in ROPE_FACTORS
        },
        held=Held(n_bytes=sum(int(tensor.n_bytes) for tensor in reader.tensors), n_tensors=len(reader.tensors)),
    )


def _is_neutral(tensor: Any) -> bool:
    import gguf

    neutral = 0 if tensor.name.endswith(".bias") else 1 if tensor.name.endswith("scale") else None
    if neutral is None:
        return False
    values = gguf.dequantize(tensor.data, tensor.tensor_type)
    return bool((values == neutral).all())


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
    for special in _SPECIAL_TOKENS.values():  # defaults that belong to another vocabulary
        default: Any = getattr(config, special, None)
        if isinstance(default, int) and default >= config.vocab_size:
            setattr(config, special, None)
    for name, slots in _FIELDS.items():
        value = facts.settings.get(name)
        present = [slot for slot in slots if hasattr(config, slot)]
        if value and present:  # 0 stands for "there is none", as for the MLP of Mamba
            setattr(config, present[0], value)
    _correct_scale(config)
    _correct_activation(config, facts)
    _correct_flags(config, facts)
    unread = [
        f"{name} = {facts.settings[name]}"
        for name, neutral in _NEUTRAL.items()
        if facts.settings.get(name, neutral[0]) not in neutral
    ]
    return (*unread, *correct_rotation(config, facts.settings, facts.rope_factors))


def _correct_scale(config: Any) -> None:
    """The scale of attention in Gemma 2 and 3, which files leave to the reader.

    It follows from the width of a head; in their largest models, told by their number of layers as the reference reader
    tells them, from the width of the stream.
    """
    if not hasattr(config, "query_pre_attn_scalar"):
        return
    is_largest = (config.model_type, config.num_hidden_layers) in {("gemma2", 46), ("gemma3_text", 62)}
    config.query_pre_attn_scalar = (
        config.hidden_size // config.num_attention_heads if is_largest else head_width(config)
    )


def _correct_activation(config: Any, facts: GgufFacts) -> None:
    """The MLP of T5, of which there are two: files tell them apart by their gate."""
    if not hasattr(config, "feed_forward_proj"):
        return
    config.is_gated_act = any("ffn_gate" in name for name in facts.tensors)
    config.feed_forward_proj = "gated-gelu" if config.is_gated_act else "relu"
    config.dense_act_fn = "gelu_new" if config.is_gated_act else "relu"


def _correct_flags(config: Any, facts: GgufFacts) -> None:
    """Places for the biases that the file holds, and none for others."""
    held = {name.split(".", 2)[2] for name in facts.tensors if name.startswith("blk.")}
    for flag, names in _FLAGS.items():
        if hasattr(config, flag):
            setattr(config, flag, not held.isdisjoint(names))


def without_flags(config: Any) -> Any:
    """A copy of a configuration in which no setting makes places for biases."""
    plain = copy.deepcopy(config)
    for flag in _FLAGS:
        if hasattr(plain, flag):
            setattr(plain, flag, False)
    return plain


def _scalar(field: Any) -> Any:
    """A number, a truth value or a word out of the metadata; None for a list."""
    import gguf

    if len(field.data) != 1 or field.types[0] == gguf.GGUFValueType.ARRAY:
        return None
    value = field.parts[field.data[0]]
    return bytes(value).decode("utf-8") if field.types[0] == gguf.GGUFValueType.STRING else value[0].item()
