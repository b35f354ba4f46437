"""What gives a tiny model a reach that no short probe shows and a prompt of 50 tokens does, as data.

Windows, chunks and numbers of chosen keys are `REACH`: more tokens than a short probe has, fewer than the prompts.
Where positions are scaled by the length, the context that they were trained for is `ORIGINAL_CONTEXT`, between the
lengths of the prompts. Everything else is as in `tiny_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.support.models import tiny_settings as tiny

REACH = 20
ORIGINAL_CONTEXT = 30
MAX_LENGTH = 80

_REACHING = (
    "sliding_window sliding_window_size attention_window_size window_size attention_window attention_chunk_size "
    "local_attention_window_len keep_window_size global_block_size block_size chunk_size mamba_chunk_size index_topk "
    "lsh_attn_chunk_length local_attn_chunk_length local_radius relative_attention_max_distance relative_max_distance "
    "position_bias_max_distance"
)
_LENGTHS = (
    "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length max_source_positions "
    "max_target_positions max_decoder_position_embeddings max_encoder_position_embeddings rel_extent"
)

# Instead of those in `tiny_settings.SIZES`.
SIZES: Mapping[str, Any] = MappingProxyType(
    {
        **tiny.SIZES,
        **dict.fromkeys(_REACHING.split(), REACH),
        **dict.fromkeys(_LENGTHS.split(), MAX_LENGTH),
        "local_attention": 2 * REACH,  # half of it on either side
        "index_block_size": 4,
        "index_topk_blocks": REACH // 4,
    }
)

_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 4.0, 6.0, 8.0],
    "original_max_position_embeddings": ORIGINAL_CONTEXT,
}
_OF_PHI = {"rope_parameters": _LONGROPE, "original_max_position_embeddings": ORIGINAL_CONTEXT}

# Beside those in `tiny_settings.OVERRIDES`, the reason beside each.
OVERRIDES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": REACH}},
        "dots3_note": {"text_config.sliding_window": REACH},  # read, but not declared
        "dots3_note_text": {"sliding_window": REACH},  # likewise
        "nllb-moe": {"moe_eval_capacity_token_fraction": -1.0},  # room for 64 tokens of the batch at each expert
        "phi3": _OF_PHI,
        "phi4_multimodal": _OF_PHI,
        "phimoe": {"rope_parameters": _LONGROPE | {"short_mscale": 1.0, "long_mscale": 1.2}},
        "reformer": {"axial_pos_shape": (8, 10)},  # as many as positions
        "qwen4_exp": {"text_config.indexer_budget": REACH},
        "qwen4_exp_text": {"indexer_budget": REACH},
        "switch_transformers": {"expert_capacity": REACH},  # room for as many tokens of each prompt
    }
)
