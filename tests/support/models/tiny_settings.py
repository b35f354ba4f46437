"""What makes any text model of transformers tiny, as data: sizes by attribute, then what single families need.

`SIZES`, `CONSTANTS` and `WHERE_NONE` hold for every family and for every configuration inside one.
`OVERRIDES` holds, per family, what those general rules cannot know, each with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

D_VOCAB = 101
D_MODEL = 32
N_LAYERS = 4
MAX_LENGTH = 64
LOGIT_STD = 2.5


def _named(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


# Replaces any default that is a number above zero.
SIZES: Mapping[str, Any] = MappingProxyType(
    _named(D_VOCAB, "vocab_size vocab_size_per_layer_input src_vocab_size tgt_vocab_size decoder_vocab_size")
    | _named(D_MODEL, "hidden_size d_model n_embd emb_dim embedding_dim lru_width backbone_hidden_size")
    | _named(D_MODEL, "hidden_size_global output_dim out_hidden_size")
    | _named(24, "embedding_size input_embedding_size output_embedding_size word_embed_proj_dim")
    | _named(MAX_LENGTH, "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length")
    | _named(MAX_LENGTH, "max_source_positions max_target_positions")
    | _named(MAX_LENGTH, "max_decoder_position_embeddings max_encoder_position_embeddings rel_extent")
    | _named(N_LAYERS, "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers num_blocks")
    | _named(N_LAYERS - 1, "encoder_layers num_encoder_layers")
    | _named(1, "depth num_global_layers")
    | _named(4, "num_attention_heads num_heads n_head n_heads attention_heads num_decoder_attention_heads")
    | _named(4, "encoder_attention_heads decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads")
    | _named(2, "num_key_value_heads kv_n_heads swa_num_key_value_heads")
    | _named(16, "head_dim kv_channels swa_head_dim query_pre_attn_scalar index_head_dim indexer_head_dim")
    | _named(8, "d_kv d_head attention_head_size dim_head qk_nope_head_dim qk_rope_head_dim d_rel")
    | _named(12, "v_head_dim")
    | _named(48, "intermediate_size ffn_dim d_ff n_inner encoder_ffn_dim decoder_ffn_dim dff dim_ff d_inner")
    | _named(48, "ffn_hidden_size feed_forward_size dense_intermediate_size intermediate_size_mlp")
    | _named(24, "moe_intermediate_size expert_ffn_hidden_size prefix_dense_intermediate_size")
    | _named(16, "shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size")
    | _named(16, "moe_shared_expert_intermediate_size hidden_size_per_layer_input")
    | _named(4, "num_experts num_local_experts n_routed_experts moe_num_experts")
    | _named(2, "num_experts_per_tok num_experts_per_token moe_k moe_topk moe_top_k top_k_experts zero_expert_num")
    | _named(1, "first_k_dense_replace num_dense_layers moe_layer_start_index topk_group")
    | _named(2, "n_group num_expert_group num_sparse_decoder_layers num_sparse_encoder_layers")
    | _named(4, "sliding_window sliding_window_size attention_window_size window_size attention_window")
    | _named(4, "attention_chunk_size local_attention_window_len keep_window_size global_block_size block_size")
    | _named(4, "chunk_size mamba_chunk_size index_topk lsh_attn_chunk_length local_attn_chunk_length")
    | _named(8, "local_attention")
    | _named(3, "local_radius")
    | _named(2, "index_block_size index_topk_blocks index_n_heads indexer_n_heads")
    | _named(6, "state_size mamba_d_state")
    | _named(8, "ssm_state_size mamba_n_heads mamba_d_head mamba_num_heads mamba_head_dim")
    | _named(2, "n_groups mamba_n_groups mamba_ngroups linear_num_key_heads o_groups")
    | _named(4, "mamba_dt_rank time_step_rank linear_num_value_heads linear_num_heads")
    | _named(64, "mamba_d_ssm")
    | _named(8, "linear_key_head_dim linear_value_head_dim linear_head_dim")
    | _named(12, "q_lora_rank kv_lora_rank o_lora_rank")
    | _named(8, "laurel_rank hc_lowrank adapter_rank router_hidden_size gated_norm_rank")
    | _named(16, "image_size")
    | _named(4, "patch_size mm_tokens_per_image")
    | _named(16, "relative_attention_max_distance relative_max_distance position_bias_max_distance")
    | _named(8, "relative_attention_num_buckets num_buckets position_bias_num_buckets")
    | _named(16, "pronunciation_embed_dim shape_embed_dim ple_embed_dim")
    | _named(D_VOCAB, "pronunciation_vocab_size shape_vocab_size")
    | _named(8, "prompt_mid_dim prompt_length")
    | _named(4, "num_global_tokens altup_num_inputs")
)

# Replaces any default, numbers below zero, None and texts too.
CONSTANTS: Mapping[str, Any] = MappingProxyType(
    {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "sep_token_id": 2,
        "cls_token_id": 1,
        "decoder_start_token_id": 1,
        "forced_eos_token_id": None,
        "begin_suppress_tokens": None,
        "attention_type": "original_full",
        "final_logit_softcapping": 5.0,
        "attn_logit_softcapping": 2.0,
        "logits_soft_cap": 5.0,
        "output_logit_soft_cap": 5.0,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.4,
        "attention_multiplier": 0.2,
        "logits_scaling": 4.0,
        "logit_scale": 0.3,
        "routed_scaling_factor": 1.5,
        "moe_routed_scaling_factor": 1.5,
        "moe_router_logit_softcapping": 2.0,
        "clip_qkv": 3.0,
        "mup_enabled": True,
        "attention_in_multiplier": 0.8,
        "attention_out_multiplier": 1.3,
        "key_multiplier": 0.7,
        "ssm_in_multiplier": 1.2,
        "ssm_out_multiplier": 0.8,
        "ssm_multipliers": [1.2, 0.8, 1.1, 0.9, 1.3],
        "mlp_multipliers": [1.2, 0.8],
        "lm_head_multiplier": 0.5,
        "full_attn_alpha_factor": 0.9,
        "full_attn_beta_factor": 1.2,
        "linear_attn_alpha_factor": 1.1,
        "linear_attn_beta_factor": 0.8,
        "mlp_alpha_factor": 0.9,
        "mlp_beta_factor": 1.3,
    }
)

# Where a configuration leaves open what a tiny model needs to be told.
WHERE_NONE: Mapping[str, Any] = MappingProxyType(
    {"num_key_value_heads": 2, "n_routed_experts": 4, "num_experts_per_tok": 2}
)

_FULL, _SLIDING, _LINEAR = "full_attention", "sliding_attention", "linear_attention"
_TWO_WINDOWS = {"layer_types": [_FULL, _FULL, _SLIDING, _SLIDING], "use_sliding_window": True, "max_window_layers": 2}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_SHARED_TWICE = [_LINEAR, _LINEAR, "hybrid", _LINEAR, "hybrid", _LINEAR]
_GEMMA4 = {"num_hidden_layers": 5, "layer_types": [_SLIDING, _SLIDING, _FULL, _SLIDING, _FULL], "global_head_dim": 32}
_GEMMA3N = {
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 2,
    "layer_types": [_SLIDING, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL],
    "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0, 0.0, 0.0],
    "intermediate_size": [48] * 6,
}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
    "ple_layer_ids": [2],
    "ple_embed_dim": 32,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 50,
    "make_ngram_vocab_size_divisible_by": 8,
    "split_ngram_parts": 1,
}
# Its layers with a window have sizes of their own, which are read but not declared.
_DOTS3 = {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 12, "swa_kv_lora_rank": 12}
_DOTS3 |= {"swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 12, "sliding_window": 4}


def _inside(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": value for name, value in settings.items()}


# Per family, the reason beside each. A dotted name reaches into a configuration inside.
OVERRIDES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "bamba": {"attn_layer_indices": [1, 3]},  # by default it names no attention layer
        "blt": {
            "encoder_hash_byte_group_vocab": 50,  # else 96 million parameters
            "encoder_hash_byte_group_size": [3, 4],
            "patcher_config.num_hidden_layers": 2,
            "encoder_config.num_hidden_layers": 1,
            "decoder_config.num_hidden_layers": 2,  # each doubles the stream, so later ones count for little
        },
        "codegen": {"rotary_dim": 4},  # at most the size of a head
        "cohere_compass_text": {
            "layer_types": [_SLIDING, _FULL, _SLIDING, _FULL],
            "rope_parameters": {_SLIDING: dict(_ROPE), _FULL: dict(_ROPE) | {"mrope_section": [4, 2, 2]}},
        },
        "dbrx": {"attn_config.rope_theta": 10000.0},  # read, but not declared
        "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4}},
        "dots1": _TWO_WINDOWS | {"n_shared_experts": 1},  # None is not understood
        "dots3_note": _inside("text_config", _DOTS3),
        "dots3_note_text": _DOTS3,
        "gemma3n": _inside("text_config", _GEMMA3N),
        "gemma3n_text": _GEMMA3N,
        "gemma4": _inside(
            "text_config",
            _GEMMA4 | {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24},
        ),
        "gemma4_text": _GEMMA4
        | {
            "num_kv_shared_layers": 2,
            "num_hidden_layers": 6,
            "layer_types": [_SLIDING, _SLIDING, _FULL, _SLIDING, _SLIDING, _FULL],
        },
        "gemma4_unified": _inside("text_config", _GEMMA4),
        "gemma4_unified_text": _GEMMA4,
        "gpt_neo": {"attention_types": [[["global", "local"], 2]]},  # one entry per layer
        "gptj": {"rotary_dim": 4},  # at most the size of a head
        "granitemoehybrid": {"layer_types": [_LINEAR, _LINEAR, _FULL, _LINEAR]},  # by default it has no attention
        "helium": {"head_dim": 8},  # its output projection is square
        "hunyuan_v1_dense": {"head_dim": 16},  # None is not understood
        "hunyuan_v1_moe": {"head_dim": 16},  # None is not understood
        "jamba": {
            "num_hidden_layers": 5,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 3,
            "expert_layer_offset": 1,
        },
        "lfm2": {"layer_types": ["conv", "conv", _FULL, "conv"]},  # by default it has no convolution
        "lfm2_moe": {"layer_types": ["conv", "conv", _FULL, "conv"]},  # by default it names no layer
        "lfm3": {"num_hidden_layers": 5, "layer_types": ["conv", "conv", _FULL, "conv", _SLIDING]},  # three kinds
        "llama4": _inside("text_config", {"interleave_moe_layer_step": 2, "moe_layers": [1, 3]}),
        "llama4_text": {"interleave_moe_layer_step": 2, "moe_layers": [1, 3]},  # dense layers between those of experts
        "ministral": {"head_dim": 16},  # None is not understood
        "mllama": _inside("text_config", {"cross_attention_layers": [1]}),  # passed over where there is no image
        "qwen2": _TWO_WINDOWS,
        "qwen4_exp": _inside("text_config", _QWEN4),
        "qwen4_exp_text": _QWEN4,
        "reformer": {
            "axial_pos_shape": (8, 8),
            "axial_pos_embds_dim": (16, 16),
            "attn_layers": ["local", "lsh", "local", "lsh"],
            "num_buckets": 4,
            "lsh_attn_chunk_length": 16,  # prompts no longer than that are attended to in full, which is causal
            "hash_seed": 0,  # without it every call hashes anew
        },
        "xlm": {"causal": True},  # an encoder by default
        "xlnet": {"attn_type": "uni"},  # bidirectional by default
        "xmod": {"default_language": "en_XX"},
        "zamba": {"num_hidden_layers": 6, "layers_block_type": _SHARED_TWICE},
        "zamba2": {
            "num_hidden_layers": 6,
            "layers_block_type": _SHARED_TWICE,
            "hybrid_layer_ids": [2, 4],
        },
        "zaya": {"num_experts_per_tok": 1},  # it supports no other
    }
)

# What sees and hears needs one layer: no test gives it anything.
SENSORY: Mapping[str, Any] = MappingProxyType(
    {
        "num_hidden_layers": 1,
        "num_blocks": 1,
        "crop_size": 16,
        "mlp_dim": 48,
        "output_channels": 8,
        "global_attn_indexes": (0,),
        "window_size": 2,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 8,
        "input_size": 8,
        "adapter_in_dim": 32,
        "adapter_out_dim": 32,
        "adapter_input_size": 32,
        "downsample_hidden_size": 8,
        "feature_size": 8,
        "mlp_layer_types": ["sparse"],
        "position_embedding_size": 64,
        "output_proj_dims": 32,
    }
)

# Parts that need a package which is not installed, and what stands in their place: a text model does not look.
STAND_INS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = MappingProxyType(
    {"gemma3n": ("vision_config", "siglip_vision_model", {"vocab_size": 8, "vocab_offset": 200, "rms_norm_eps": 1e-6})}
)

# Standard deviation of the embeddings where a model multiplies them, so that its layers still matter.
EMBEDDING_STD: Mapping[str, float] = MappingProxyType({"hrm_text": 0.02, "minicpm3": 0.15, "blt": 0.3})

# Models that write several sequences at once, and how many.
CODEBOOKS: Mapping[str, int] = MappingProxyType({"musicgen": 4, "musicgen_melody": 4})

# Buffers that training moves although no gradient reaches them.
LEARNED_BUFFERS: frozenset[str] = frozenset(
    {"e_score_correction_bias", "expert_bias", "balancing_biases", "final_logits_bias", "layer_scalar"}
)

# Parameters that mean a rate: names, centre and standard deviation. All others are drawn by their shape.
DRAWN_BY_NAME: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (("A_log",), -0.5, 0.8),  # memories from one token to a few dozen
    (("dt_bias", "time_decay", "time_first", "dt_proj.bias", "dt_proj_bias"), -0.8, 0.5),
    (("time_mix_key", "time_mix_value", "time_mix_receptance"), 0.5, 0.15),  # shares of the token before
    (("recurrent_param",), -3.0, 0.5),  # before a softplus and a factor of eight
    (("fgate_preact.bias",), 2.0, 0.5),  # of xLSTM: what it keeps, before a sigmoid
)

_DRAFTS = "drafts for another model: it reads that model's keys, values and hidden states, not token ids"
# Buffers [token id, choice] that name the experts of a token: zero by default, which is one expert twice for all.
EXPERT_TABLES: frozenset[str] = frozenset({"tid2eid"})

# Gains of matrices by words in their paths; all others have 1.3.
GAINS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("x_proj", "dt_proj"), 0.7),  # Mamba multiplies three of its projections
    (("q_proj", "k_proj", "query.", "key.", "q_lin", "k_lin"), 2.0),  # attention that prefers some tokens to others
    (("token_embedding_projection", "patch_embedding_projection"), 0.4),  # of BLT, in a row and without norms
)

UNBUILDABLE: Mapping[str, str] = MappingProxyType({"gemma4_assistant": _DRAFTS, "gemma4_unified_assistant": _DRAFTS})

# Families whose later tokens change earlier logits, as transformers runs them.
NOT_CAUSAL: Mapping[str, str] = MappingProxyType(
    {
        "cpmant": "the whole prompt is context, and context is attended to in both directions",
        "prophetnet": "relative positions of attention mix the embeddings of positions, later ones among them",
    }
)
