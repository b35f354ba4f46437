"""Tiny .gguf files of many architectures, written as llama.cpp's converter writes them.

What that converter does to each architecture (names, metadata, turned and shifted weights) is written down by hand.
Every setting that the format can hold is none of its defaults: a reader that passes over one is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
import transformers

from tests.support.checkpoints.tiny import randomize

Array = np.ndarray
Tensors = list[tuple[str, Array]]
N_VOCAB, WIDTH, N_LAYERS, N_HEADS, N_GROUPS, HEAD, MLP, CONTEXT = 64, 32, 4, 4, 2, 8, 64, 96
THETA, EPSILON = 5000.0, 3e-4
_KEYS, _VALUE = 2, 8  # of a gated delta net: key heads, and width of a value


@dataclass(frozen=True, kw_only=True)
class GgufArchitecture:
    """One architecture of .gguf files.

    Attributes:
        name: Test id.
        arch: What the files call it.
        config: Name of the config class in transformers.
        settings: Its arguments.
        metadata: What the file says, below the architecture's name.
        rename: From a parameter's name to the one that gguf's own table of names knows; empty for what is not written.
        convert: What the converter makes of one tensor, by its name in the file.
        tokenizer: Kind of its tokenizer: merges of bytes, or pieces with scores.
    """

    name: str
    arch: str
    config: str
    settings: Mapping[str, Any]
    metadata: Mapping[str, Any]
    rename: Callable[[str], str] = str
    convert: Callable[[str, Array], Tensors] = lambda name, values: [(name, values)]
    tokenizer: Literal["gpt2", "t5"] = "gpt2"


def _turned(n_heads: int, values: Array) -> Array:
    """Rows of queries or keys in the order in which neighbouring dimensions are turned by one angle."""
    return np.ascontiguousarray(
        values.reshape(n_heads, 2, values.shape[0] // n_heads // 2, *values.shape[1:]).swapaxes(1, 2)
    ).reshape(values.shape)


def _llama(name: str, values: Array) -> Tensors:
    heads = {"attn_q": N_HEADS, "attn_k": N_GROUPS}.get(name.split(".")[-2])
    return [(name, values if heads is None else _turned(heads, values))]


def _shifted_norms(name: str, values: Array) -> Tensors:
    return [(name, values + 1 if name.endswith("norm.weight") else values)]


def _gpt2(name: str, values: Array) -> Tensors:
    is_map = values.ndim == 2 and "blk" in name
    return [(name, np.ascontiguousarray(values.T) if is_map else values)]


def _bloom(name: str, values: Array) -> Tensors:
    if "attn_qkv" in name:
        by_head = values.reshape(N_HEADS, 3, WIDTH // N_HEADS, *values.shape[1:])
        values = np.ascontiguousarray(by_head.swapaxes(0, 1)).reshape(values.shape)
    return [(name, values)]


def _falcon(name: str, values: Array) -> Tensors:
    return [(name, values)]


def _mamba(name: str, values: Array) -> Tensors:
    if name.endswith("ssm_a"):
        return [(name, -np.exp(values))]
    return [(name, values[:, 0] if "ssm_conv1d.weight" in name else values)]


def _qwen35(name: str, values: Array) -> Tensors:
    """Value heads in turns instead of by the key head that they belong to; norms shifted; decays as they act."""
    by_head = {"attn_gate": _VALUE, "ssm_alpha": 1, "ssm_beta": 1, "ssm_a": 1, "ssm_dt": 1}
    if name.endswith("ssm_a"):
        values = -np.exp(values)
    part = name.split(".")[2] if name.startswith("blk") else ""
    if part in by_head:
        values = _in_turns(values, by_head[part])
    elif part in {"attn_qkv", "ssm_conv1d"}:
        values = np.concatenate([values[: 2 * _KEYS * _VALUE], _in_turns(values[2 * _KEYS * _VALUE :], _VALUE)])
        values = values[:, 0] if part == "ssm_conv1d" else values
    elif part == "ssm_out":
        values = np.ascontiguousarray(_in_turns(values.T, _VALUE).T)
    is_norm = name.endswith("norm.weight") and "ssm_norm" not in name
    return [(name, values + 1 if is_norm else values)]


def _in_turns(values: Array, width: int) -> Array:
    return values.reshape(_KEYS, 2, width, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def _squeezed_convolution(name: str, values: Array) -> Tensors:
    return [(name, values[:, 0] if "shortconv.conv" in name else values)]


def _stacked_experts(name: str, values: Array) -> Tensors:
    """Gate and up projections of all experts, which transformers keeps in one tensor; a map to one number is flat."""
    if "gate_inp_shexp" in name:
        return [(name, values[0])]
    if "ffn_gate_up_exps" not in name:
        return [(name, values)]
    half = values.shape[1] // 2
    return [
        (name.replace("gate_up_exps", "gate_exps"), values[:, :half]),
        (name.replace("gate_up_exps", "up_exps"), values[:, half:]),
    ]


_SHAPE = {
    "block_count": N_LAYERS,
    "context_length": CONTEXT,
    "embedding_length": WIDTH,
    "feed_forward_length": MLP,
    "attention.head_count": N_HEADS,
    "attention.head_count_kv": N_GROUPS,
}
_RMS = {"attention.layer_norm_rms_epsilon": EPSILON, "rope.freq_base": THETA}
_ROTARY = {"rope.dimension_count": HEAD}
_LN = {"attention.layer_norm_epsilon": EPSILON}
_VOCAB = {"vocab_size": N_VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_PLAIN = _VOCAB | {
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_GROUPS,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
}
_LLAMA = _PLAIN | {"rms_norm_eps": EPSILON}
_WIDE_HEADS = {"head_dim": 2 * HEAD}
_WIDE_KEYS = {"attention.key_length": 2 * HEAD, "attention.value_length": 2 * HEAD}
_GEMMA = _LLAMA | _WIDE_HEADS | {"tie_word_embeddings": True, "sliding_window": 7, "query_pre_attn_scalar": 2 * HEAD}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
_MIXED = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}


_T5 = _VOCAB | {
    "d_model": WIDTH,
    "d_kv": HEAD,
    "d_ff": MLP,
    "num_layers": N_LAYERS,
    "num_heads": N_HEADS,
    "relative_attention_num_buckets": 16,
    "layer_norm_epsilon": EPSILON,
    "decoder_start_token_id": 0,
}
_T5_SHAPE = {
    "attention.head_count_kv": N_HEADS,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "attention.relative_buckets_count": 16,
    "decoder_start_token_id": 0,
}


def _without_copies(name: str) -> str:
    return "" if "embed_tokens" in name else name


def _architecture(name: str, arch: str, config: str, settings: Any, metadata: Any, **more: Any) -> GgufArchitecture:
    return GgufArchitecture(name=name, arch=arch, config=config, settings=settings, metadata=metadata, **more)


ARCHITECTURES: tuple[GgufArchitecture, ...] = (
    _architecture("llama", "llama", "LlamaConfig", _LLAMA, _SHAPE | _RMS | _ROTARY, convert=_llama),
    _architecture(
        "llama_tied",
        "llama",
        "LlamaConfig",
        _LLAMA | {"tie_word_embeddings": True},
        _SHAPE | _RMS | _ROTARY,
        convert=_llama,
    ),
    _architecture(
        "llama_linear_scaling",
        "llama",
        "LlamaConfig",
        _LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": THETA, "factor": 4.0}},
        _SHAPE | _RMS | _ROTARY | {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        convert=_llama,
    ),
    _architecture("qwen2", "qwen2", "Qwen2Config", _LLAMA, _SHAPE | _RMS),
    _architecture("qwen3", "qwen3", "Qwen3Config", _LLAMA | _WIDE_HEADS, _SHAPE | _RMS | _WIDE_KEYS),
    _architecture(
        "qwen2_moe",
        "qwen2moe",
        "Qwen2MoeConfig",
        _LLAMA | _EXPERTS | {"norm_topk_prob": False, "shared_expert_intermediate_size": 40},
        _SHAPE | _RMS | _MIXED | {"expert_shared_feed_forward_length": 40},
        convert=_stacked_experts,
    ),
    _architecture(
        "qwen3_moe",
        "qwen3moe",
        "Qwen3MoeConfig",
        _LLAMA | _EXPERTS | _WIDE_HEADS,
        _SHAPE | _RMS | _MIXED | _WIDE_KEYS,
        convert=_stacked_experts,
    ),
    _architecture("phi3", "phi3", "Phi3Config", _LLAMA, _SHAPE | _RMS | _ROTARY),
    _architecture(
        "gemma2",
        "gemma2",
        "Gemma2Config",
        _GEMMA | {"final_logit_softcapping": 7.0, "attn_logit_softcapping": 9.0},
        _SHAPE
        | _RMS
        | _WIDE_KEYS
        | {"attention.sliding_window": 7, "attn_logit_softcapping": 9.0, "final_logit_softcapping": 7.0},
        convert=_shifted_norms,
    ),
    _architecture(
        "gemma3",
        "gemma3",
        "Gemma3TextConfig",
        {k: v for k, v in _GEMMA.items() if k != "rope_parameters"}
        | {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "default", "rope_theta": THETA},
            },
            "num_hidden_layers": 6,
        },
        _SHAPE | _RMS | _WIDE_KEYS | {"attention.sliding_window": 7, "block_count": 6},
        convert=_shifted_norms,
    ),
    _architecture(
        "stablelm",
        "stablelm",
        "StableLmConfig",
        _PLAIN
        | {
            "layer_norm_eps": EPSILON,
            "partial_rotary_factor": 0.5,
            "use_qkv_bias": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.5},
        },
        _SHAPE | _LN | {"rope.freq_base": THETA, "rope.dimension_count": HEAD // 2, "use_parallel_residual": True},
    ),
    _architecture(
        "starcoder2",
        "starcoder2",
        "Starcoder2Config",
        _PLAIN | {"norm_epsilon": EPSILON, "sliding_window": None, "tie_word_embeddings": True},
        _SHAPE | _LN | {"rope.freq_base": THETA},
    ),
    _architecture(
        "nemotron",
        "nemotron",
        "NemotronConfig",
        _PLAIN
        | {
            "norm_eps": EPSILON,
            "partial_rotary_factor": 0.25,
            "head_dim": HEAD,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 0.25},
        },
        _SHAPE | _LN | {"rope.freq_base": THETA, "rope.dimension_count": HEAD // 4},
        convert=lambda name, values: [(name, values + 1 if name.endswith("norm.weight") else values)],
    ),
    _architecture(
        "gpt2",
        "gpt2",
        "GPT2Config",
        _VOCAB
        | {
            "n_positions": CONTEXT,
            "n_embd": WIDTH,
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_inner": MLP,
            "layer_norm_epsilon": EPSILON,
        },
        {k: v for k, v in _SHAPE.items() if "kv" not in k} | _LN,
        convert=_gpt2,
    ),
    _architecture(
        "bloom",
        "bloom",
        "BloomConfig",
        _VOCAB | {"hidden_size": WIDTH, "n_layer": N_LAYERS, "n_head": N_HEADS, "layer_norm_epsilon": EPSILON},
        _SHAPE | _LN | {"feed_forward_length": 4 * WIDTH, "attention.head_count_kv": N_HEADS},
        rename=lambda name: name.removeprefix("transformer."),
        convert=_bloom,
    ),
    _architecture(
        "falcon",
        "falcon",
        "FalconConfig",
        _VOCAB
        | {
            "hidden_size": WIDTH,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": N_HEADS,
            "layer_norm_epsilon": EPSILON,
            "max_position_embeddings": CONTEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
        },
        _SHAPE | _LN | {"feed_forward_length": 4 * WIDTH, "attention.head_count_kv": 1, "rope.freq_base": THETA},
        convert=_falcon,
    ),
    _architecture(
        "mamba",
        "mamba",
        "MambaConfig",
        _VOCAB
        | {
            "hidden_size": WIDTH,
            "state_size": 6,
            "num_hidden_layers": N_LAYERS,
            "layer_norm_epsilon": EPSILON,
            "conv_kernel": 3,
            "time_step_rank": 4,
            "expand": 2,
        },
        {
            "context_length": CONTEXT,
            "embedding_length": WIDTH,
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "block_count": N_LAYERS,
            "ssm.conv_kernel": 3,
            "ssm.inner_size": 2 * WIDTH,
            "ssm.state_size": 6,
            "ssm.time_step_rank": 4,
            "attention.layer_norm_rms_epsilon": EPSILON,
        },
        convert=_mamba,
    ),
    _architecture(
        "lfm2",
        "lfm2",
        "Lfm2Config",
        _PLAIN
        | {
            "norm_eps": EPSILON,
            "conv_L_cache": 4,
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": True,
            "layer_types": ["conv", "full_attention", "conv", "conv"],
        },
        _SHAPE | _RMS | {"shortconv.l_cache": 4, "attention.head_count_kv": [0, N_GROUPS, 0, 0]},
        convert=_squeezed_convolution,
    ),
    _architecture(
        "qwen3_5",
        "qwen35",
        "Qwen3_5TextConfig",
        _LLAMA
        | {"head_dim": 2 * HEAD, "linear_num_key_heads": _KEYS, "linear_num_value_heads": 2 * _KEYS}
        | {"linear_key_head_dim": _VALUE, "linear_value_head_dim": _VALUE, "linear_conv_kernel_dim": 3}
        | {
            "layer_types": ["linear_attention", "full_attention"] * 2,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": THETA,
                "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        _SHAPE
        | _RMS
        | _WIDE_KEYS
        | {"full_attention_interval": 2, "rope.dimension_sections": [2, 1, 1, 0], "rope.dimension_count": HEAD}
        | {"ssm.conv_kernel": 3, "ssm.state_size": _VALUE, "ssm.group_count": _KEYS}
        | {"ssm.time_step_rank": 2 * _KEYS, "ssm.inner_size": 2 * _KEYS * _VALUE},
        rename=lambda name: name.replace("dt_bias", "dt_proj.bias"),
        convert=_qwen35,
    ),
    _architecture(
        "t5_gated",
        "t5",
        "T5Config",
        _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        _SHAPE | _LN | _T5_SHAPE,
        rename=_without_copies,
        tokenizer="t5",
    ),
    _architecture("t5", "t5", "T5Config", _T5, _SHAPE | _LN | _T5_SHAPE, rename=_without_copies, tokenizer="t5"),
)


BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}


def build(architecture: GgufArchitecture) -> Any:
    """The tiny model, no parameter at its default."""
    config = getattr(transformers, architecture.config)(**architecture.settings)
    with torch.random.fork_rng(devices=[]):
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        model = auto.from_config(config)
    return randomize(model, seed=0)


def write(
    path: Path,
    architecture: GgufArchitecture,
    model: Any,
    *,
    kind: gguf.GGMLQuantizationType | None = None,
    more: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Array] | None = None,
    without: Sequence[str] = (),
    vocabulary: Mapping[str, Any] | None = None,
) -> Path:
    """The model as a .gguf file.

    Args:
        path: Where to.
        architecture: What it is.
        model: The model of that architecture.
        kind: Type of quantised blocks for the matrices of its layers; None keeps float32.
        more: Further metadata, below the architecture's name.
        tensors: Further tensors.
        without: Parts of names of tensors that are left out.
        vocabulary: Fields below "tokenizer.ggml": those of a tokenizer of its own if there is a kind among them, else
            further ones.
    """
    writer = gguf.GGUFWriter(path, architecture.arch)
    writer.add_name("tiny")
    for key, value in (dict(architecture.metadata) | dict(more or {})).items():
        _add(writer, f"{architecture.arch}.{key}", value)
    writer.add_vocab_size(model.config.vocab_size)
    if "model" not in (vocabulary or {}):
        add_tokenizer(writer, N_VOCAB, kind=architecture.tokenizer)
    for key, value in (vocabulary or {}).items():
        _add(writer, f"tokenizer.ggml.{key}", value)
    for written, values in _tensors(architecture, model):
        if any(part in written for part in without):
            continue
        if kind is not None and values.ndim == 2 and written.endswith(".weight") and "blk" in written:
            writer.add_tensor(written, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(written, np.ascontiguousarray(values))
    for written, values in (tensors or {}).items():
        writer.add_tensor(written, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(architecture: GgufArchitecture, model: Any) -> Iterator[tuple[str, Array]]:
    """The model's weights under the names and in the forms of .gguf files."""
    names = gguf.get_tensor_name_map(_number_of(architecture.arch), model.config.num_hidden_layers)
    is_tied = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)  # T5 says it so
    tied = {"lm_head.weight"} if is_tied else set()
    for name, tensor in model.state_dict().items():
        if name in tied or not architecture.rename(name):
            continue
        if "experts.gate_up_proj" in name:
            known = f"blk.{name.split('.')[2]}.ffn_gate_up_exps.weight"
        else:
            known = names.get_name(architecture.rename(name), try_suffixes=(".weight", ".bias"))
        assert known is not None, f"gguf knows no name for {name}"
        yield from architecture.convert(known, tensor.numpy())


def add_tokenizer(writer: gguf.GGUFWriter, n_vocab: int, *, kind: str = "gpt2") -> None:
    """Letters, one merge, and two control tokens, filled up with words that no merge reaches."""
    tokens = ["<unk>", "<s>", "</s>", "h", "o", "t", "c", "l", "d", "ho", "Ġ" if kind == "gpt2" else "▁"]
    tokens += [f"<{i}>" for i in range(n_vocab - len(tokens))]
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *(1 for _ in tokens[3:])])
    if kind == "gpt2":
        writer.add_token_merges(["h o"])
    else:
        writer.add_token_scores([-float(index) for index in range(n_vocab)])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value:  # the format knows no empty lists
        writer.add_array(key, value)


def _number_of(arch: str) -> gguf.MODEL_ARCH:
    return next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
