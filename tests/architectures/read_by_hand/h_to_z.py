"""What decoder layers really are, read in transformers' source: from `helium` on, and every encoder-decoder.

Read in transformers 5.23, class by class; nothing here was learned from running LayerTracer. Kinds are
rules of the configuration, so that they hold for any number of layers. A branch that returns several things
is read at the first of them, and dropout, which does nothing in evaluation mode, counts as no operation.
The decoder of a model of encoder and decoder is entered as `encdec:` and its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.architectures.read_by_hand.reading import Kinds, ReadByHand, all_layers, by_index, by_layer_types, of_text

# ---------------------------------------------------------------- rules


def _sees_less_than_all(config: Any) -> bool:
    """Whether the configured window is a window at all: set, and shorter than the longest text."""
    window = getattr(config, "sliding_window", None) or 0
    return 0 < window < getattr(config, "max_position_embeddings", math.inf)


def _sliding_where(config: Any, *, is_windowed: bool) -> str:
    return "sliding_attention" if is_windowed and _sees_less_than_all(config) else "attention"


def _windowed(*, windowed: str = "sliding_attention") -> Kinds:
    """Softmax attention whose layers of one type see the configured window only."""
    return lambda config: tuple(
        _sliding_where(config, is_windowed=layer_type == windowed) for layer_type in config.layer_types
    )


def _decoder_part(kinds: Kinds) -> Kinds:
    """A rule for the decoder of a configuration that may hold several parts."""
    return lambda config: kinds(getattr(config, "decoder", None) or config)


def _sparse_step(config: Any, index: int) -> str:
    """Qwen's rule of which layers route among experts."""
    is_excluded = index in config.mlp_only_layers or config.num_experts == 0
    return "dense" if is_excluded or (index + 1) % config.decoder_sparse_step else "experts"


def _shared_block(recurrent: str) -> Kinds:
    """Zamba's rule: a hybrid layer runs a shared block with attention, then its own recurrent mixer."""
    kinds = {"linear_attention": recurrent, "hybrid": f"attention+{recurrent}"}
    return by_layer_types(kinds, attribute="layers_block_type")


def _chunked(config: Any) -> tuple[str, ...]:
    """Llama 4's rule: layers of one type see their own chunk, which hides something if texts can be longer."""
    is_chunk = config.attention_chunk_size < config.max_position_embeddings
    kinds = {"full_attention": "attention", "chunked_attention": "chunked_attention" if is_chunk else "attention"}
    return tuple(kinds[layer_type] for layer_type in config.layer_types)


def _reformer(config: Any) -> tuple[str, ...]:
    """A text that fits into one chunk is seen whole; otherwise by chunks in place, or in the order of hashes."""
    length = config.max_position_embeddings
    kinds = {
        "local": "sliding_attention" if config.local_attn_chunk_length < length else "attention",
        "lsh": "sparse_attention" if config.lsh_attn_chunk_length < length else "attention",
    }
    return tuple(kinds[kind] for kind in config.attn_layers)


def _notes(*notes: str) -> str:
    return "; ".join(filter(None, notes))


_ATTENTION = all_layers("attention")
_LATENT = all_layers("latent_attention")
_DENSE = all_layers("dense")
_EXPERTS = all_layers("experts")
_ALL_WINDOWED = by_index(lambda config, _: _sliding_where(config, is_windowed=True))  # one mask for all layers
_LISTED_MLPS = by_layer_types({"dense": "dense", "sparse": "experts"}, attribute="mlp_layer_types")
_DELTANET = by_layer_types({"linear_attention": "gated_deltanet", "full_attention": "attention"})
_SHORT_CONVOLUTIONS = by_layer_types({"conv": "conv", "full_attention": "attention"})
_INDEXED_DELTANET = by_layer_types({"linear_attention": "gated_deltanet", "indexed_attention": "sparse_attention"})
_MLP_OF_SHARED_BLOCK = by_layer_types({"linear_attention": "none", "hybrid": "dense"}, attribute="layers_block_type")


# ---------------------------------------------------------------- forms that many families share


def _pre_norm(mixers: Kinds = _ATTENTION, mlps: Kinds = _DENSE, note: str = "", **changed: Any) -> ReadByHand:
    """Llama's layer: a norm before each of two branches, and the stream gets what the branch returns."""
    form = {"layers": "model.layers", "mixer_branch": "self_attn", "mlp_branch": "mlp"}
    return ReadByHand(mixers=mixers, mlps=mlps, note=note, **(form | changed))


_IF_DECODER = "causal only where the configuration says is_decoder"
_CROSS = "a decoder that is given an encoder's states adds `{}` between the two branches"


def _pre_norm_decoder(
    layers: str = "model.decoder.layers",
    *,
    count: str = "decoder_layers",
    cross: str = "encoder_attn",
    mlps: Kinds | None = None,
    mlp_branch: str = "fc2",
    note: str = "",
) -> ReadByHand:
    return ReadByHand(
        layers=layers,
        mixers=all_layers("attention", count=count),
        mlps=mlps or all_layers("dense", count=count),
        mixer_branch="self_attn",
        mlp_branch=mlp_branch,
        note=_notes(_CROSS.format(cross), note),
    )


def _post_norm_decoder(
    layers: str = "model.decoder.layers",
    *,
    count: str = "decoder_layers",
    cross: str = "encoder_attn",
    note: str = "",
) -> ReadByHand:
    """BART's layer: the stream is what the norm makes of stream plus branch."""
    return ReadByHand(
        layers=layers,
        mixers=all_layers("attention", count=count),
        mlps=all_layers("dense", count=count),
        mixer_branch=None,
        mlp_branch=None,
        note=_notes("post-norm: LN(stream + `self_attn`), LN(stream + `fc2`)", _CROSS.format(cross), note),
    )


def _bert(layers: str, note: str = "") -> ReadByHand:
    """BERT's layer: residual and norm are inside `attention.output` and `output`."""
    return ReadByHand(
        layers=layers,
        mixers=_ATTENTION,
        mlps=_DENSE,
        mixer_branch=None,
        mlp_branch=None,
        note=_notes(
            "post-norm inside modules: LN(stream + `attention.output.dense`), LN(stream + `output.dense`)",
            _IF_DECODER,
            note,
        ),
    )


def _pre_norm_bert(layers: str, note: str = "") -> ReadByHand:
    return ReadByHand(
        layers=layers,
        mixers=_ATTENTION,
        mlps=_DENSE,
        mixer_branch="attention.output.dense",
        mlp_branch="output.dense",
        note=_notes(
            "residuals are added inside `attention.output` and `output`, which return the stream",
            _IF_DECODER,
            note,
        ),
    )


def _t5(
    *,
    mlps: Kinds | None = None,
    mlp_branch: str = "layer.2.DenseReluDense",
    note: str = "a layer returns a tuple; the position bias that the first layer returns is handed to the others",
) -> ReadByHand:
    return ReadByHand(
        layers="decoder.block",
        mixers=all_layers("attention", count="num_decoder_layers"),
        mlps=mlps or all_layers("dense", count="num_decoder_layers"),
        mixer_branch="layer.0.SelfAttention",
        mlp_branch=mlp_branch,
        note=f"residuals are added inside `layer.0`, `layer.1` (cross-attention, `EncDecAttention`), `layer.2`; {note}",
    )


_PARALLEL_STREAMS = (
    "the stream of a layer holds {} residual streams ({}); `{}` reads their weighted sum and its output is spread "
    "over all of them with weights of each token and stream"
)
_MUSIC = (
    "rows see one another: num_codebooks rows, one per codebook, are one sample, whose embeddings are summed and "
    "whose heads are laid out as rows again"
)

# ---------------------------------------------------------------- decoders

_CAUSAL: Mapping[str, ReadByHand] = {
    "helium": _pre_norm(),
    "hrm_text": ReadByHand(
        layers="model.L_module.layers+model.H_module.layers",
        mixers=lambda config: ("attention",) * (2 * config.num_layers_per_stack),
        mlps=lambda config: ("dense",) * (2 * config.num_layers_per_stack),
        mixer_branch="self_attn",
        mlp_branch="mlp",
        note="two stacks; in each of H_cycles L runs L_cycles times on its state plus H's, then H once on the sum, "
        "each with a norm after its last layer: a layer of L runs H_cycles * L_cycles times, one of H runs H_cycles "
        "times; num_hidden_layers counts runs; gated attention; causal without token_type_ids",
    ),
    "hunyuan_v1_dense": _pre_norm(),
    "hunyuan_v1_moe": _pre_norm(mlps=_EXPERTS, note="a shared MLP beside the experts, inside `mlp`"),
    "hy_v3": _pre_norm(mlps=_LISTED_MLPS),
    "hy_v4": ReadByHand(
        layers="model.layers",
        mixers=_LATENT,
        mlps=_LISTED_MLPS,
        mixer_branch=None,
        mlp_branch=None,
        note=_PARALLEL_STREAMS.format("hc_mult", "[batch, position, hc_mult, d_model]", "self_attn")
        + ", as does `mlp`; latent attention to index_topk positions, which an indexer selects in layers that "
        "indexer_types call full and hands to the next layers as the layer's second output",
    ),
    "hyperclovax": _pre_norm(
        mixer_branch="post_norm1",
        mlp_branch="post_norm2",
        note="both times residual_multiplier; the norms are identities unless use_post_norm",
    ),
    "inkling2_text": ReadByHand(
        layers="model.layers",
        mixers=_windowed(windowed="hybrid_sliding"),
        mlps=_EXPERTS,
        mixer_branch="post_attention_convolution",
        mlp_branch="post_mlp_convolution",
        note="every n_layers_per_attn_res_block-th layer, the first included, starts the stream anew from its mixer's "
        "output instead of adding to it, and puts its input on a list that the model keeps; mixer and MLP read a "
        "softmax mix over that list and the stream; short convolutions on keys, values and on what both branches "
        "return",
    ),
    "inkling_text": ReadByHand(
        layers="model.layers",
        mixers=_windowed(windowed="hybrid_sliding"),
        mlps=_LISTED_MLPS,
        mixer_branch="attn_sconv",
        mlp_branch="mlp_sconv",
        note="short convolutions on keys, values and on what both branches return; relative positions",
    ),
    "internlm3": _pre_norm(note="Llama's classes"),
    "iquestcoder": _pre_norm(note="Llama's classes"),
    "jais2": _pre_norm(),
    "jamba": _pre_norm(
        mixers=by_layer_types({"attention": "attention", "mamba": "mamba"}, attribute="layers_block_type"),
        mlps=lambda config: tuple("experts" if n > 1 else "dense" for n in config.layers_num_experts),
        mixer_branch="self_attn|mamba",
        mlp_branch="feed_forward",
    ),
    "jetmoe": _pre_norm(
        mlps=_EXPERTS,
        mixer_branch="self_attention",
        note="queries and outputs of attention are routed among experts as well, inside `self_attention`",
    ),
    "kimi_linear": _pre_norm(
        mixers=by_layer_types({"full_attention": "latent_attention", "linear_attention": "kimi_delta_attention"}),
        mlps=_LISTED_MLPS,
        note="`self_attn` returns a tuple in attention layers, a tensor in the others; no positions are encoded",
    ),
    "kolibri1": _pre_norm(
        mixers=_windowed(),
        mlps=_EXPERTS,
        mixer_branch="post_self_attn_layernorm",
        mlp_branch="post_mlp_layernorm",
        note="a norm after each branch as well; full layers encode no positions",
    ),
    "laguna": _pre_norm(mixers=_windowed(), mlps=_LISTED_MLPS),
    "lfm2": _pre_norm(mixers=_SHORT_CONVOLUTIONS, mixer_branch="self_attn|conv", mlp_branch="feed_forward"),
    "lfm2_moe": _pre_norm(
        mixers=_SHORT_CONVOLUTIONS,
        mlps=by_index(lambda config, index: "dense" if index < config.num_dense_layers else "experts"),
        mixer_branch="self_attn|conv",
        mlp_branch="feed_forward",
    ),
    "lfm3": _pre_norm(
        mixers=lambda config: tuple(
            "conv" if kind == "conv" else _sliding_where(config, is_windowed=kind == "sliding_attention")
            for kind in config.layer_types
        ),
        mixer_branch="post_operator_norm",
        mlp_branch="post_ffn_norm",
        note="a norm after each branch as well, an identity unless use_sandwich_norm",
    ),
    "llama": _pre_norm(),
    "llama4": _pre_norm(
        mixers=of_text(_chunked),
        mlps=of_text(by_index(lambda config, index: "experts" if index in config.moe_layers else "dense")),
        mlp_branch="feed_forward",
        note="where experts are, `feed_forward` returns a tuple with a 2-d tensor [batch * position, d_model] first",
    ),
    "llama4_text": _pre_norm(
        mixers=_chunked,
        mlps=by_index(lambda config, index: "experts" if index in config.moe_layers else "dense"),
        mlp_branch="feed_forward",
        note="where experts are, `feed_forward` returns a tuple with a 2-d tensor [batch * position, d_model] first",
    ),
    "longcat_flash": ReadByHand(
        layers="model.layers",
        mixers=all_layers("latent_attention", count="num_layers"),
        mlps=all_layers("experts", count="num_layers"),
        mixer_branch="self_attn.0+self_attn.1",
        mlp_branch="mlp+mlps.0+mlps.1",
        note="two sublayers in sequence in each layer: `self_attn.0`, dense `mlps.0`, `self_attn.1`, dense `mlps.1`; "
        "the experts `mlp` read what `mlps.0` reads and are added at the layer's end; some experts do nothing",
    ),
    "mamba": _pre_norm(
        all_layers("mamba"), all_layers("none"), layers="backbone.layers", mixer_branch="mixer", mlp_branch=None
    ),
    "mamba2": _pre_norm(
        all_layers("mamba2"), all_layers("none"), layers="backbone.layers", mixer_branch="mixer", mlp_branch=None
    ),
    "marian": _post_norm_decoder(),
    "mbart": _pre_norm_decoder(),
    "megatron-bert": _pre_norm_bert("bert.encoder.layer", "a layer returns a tuple"),
    "mellum": _pre_norm(mixers=_windowed(), mlps=_LISTED_MLPS),
    "mimo_v2_flash": _pre_norm(mixers=_windowed(), mlps=_LISTED_MLPS),
    "minicpm3": _pre_norm(mixers=_LATENT, note="both branches times scale_depth / sqrt(num_hidden_layers)"),
    "minimax": _pre_norm(
        mixers=lambda config: tuple(
            "lightning_attention" if kind == "linear_attention" else _sliding_where(config, is_windowed=True)
            for kind in config.layer_types
        ),
        mlps=_EXPERTS,
        mixer_branch=None,
        mlp_branch=None,
        note="the norm's output is the residual: alpha * LN(stream) + beta * `self_attn`, then the same with `mlp`, "
        "with factors of the configuration: what the stream was before the norm is not kept",
    ),
    "minimax_m2": _pre_norm(mlps=_EXPERTS),
    "minimax_m3_vl_text": _pre_norm(
        mixers=by_layer_types({"full_attention": "attention", "minimax_m3_sparse": "sparse_attention"}),
        mlps=_LISTED_MLPS,
        note="sparse layers see blocks of positions that an indexer selects, the newest block always",
    ),
    "ministral": _pre_norm(mixers=_windowed()),
    "ministral3": _pre_norm(mixers=_ALL_WINDOWED),
    "mistral": _pre_norm(mixers=_ALL_WINDOWED),
    "mixtral": _pre_norm(mixers=_ALL_WINDOWED, mlps=_EXPERTS),
    "mllama": _pre_norm(
        mixers=of_text(_ATTENTION),
        mlps=of_text(_DENSE),
        mixer_branch="self_attn|cross_attn",
        note="layers in cross_attention_layers attend to an image only and never run on text alone; there, branches "
        "are times tanh of learned gates",
    ),
    "modernbert-decoder": _pre_norm(
        mixers=_windowed(),
        mixer_branch="attn",
        note="the window is half of local_attention; no norm before the first mixer",
    ),
    "moshi": _pre_norm(note="sliding_window is stored and never used: every layer sees all earlier positions"),
    "moss_transcribe_diarize": _pre_norm(
        mixers=of_text(_windowed()), mlps=of_text(_DENSE), layers="model.language_model.layers", note="Qwen 3's classes"
    ),
    "mpt": _pre_norm(
        layers="transformer.blocks",
        mixer_branch="attn",
        mlp_branch="ffn.down_proj",
        note="`ffn` is handed the residual and returns the stream; a layer returns a tuple; ALiBi",
    ),
    "musicgen": _pre_norm(
        mixers=_decoder_part(_ATTENTION),
        mlps=_decoder_part(_DENSE),
        layers="model.decoder.layers",
        mlp_branch="fc2",
        note=f"{_MUSIC}; {_CROSS.format('encoder_attn')}",
    ),
    "musicgen_melody": _pre_norm(
        mixers=_decoder_part(_ATTENTION),
        mlps=_decoder_part(_DENSE),
        layers="model.decoder.layers",
        mlp_branch="fc2",
        note=f"{_MUSIC}; a layer returns a tuple; conditions are put before the text, there is no cross-attention",
    ),
    "mvp": _post_norm_decoder(note="a layer returns a tuple"),
    "nanochat": _pre_norm(note="a norm before the first layer"),
    "nemotron": _pre_norm(),
    "nemotron_h": _pre_norm(
        mixers=by_layer_types(
            {"linear_attention": "mamba2", "full_attention": "attention", "moe": "none", "mlp": "none"}
        ),
        mlps=by_layer_types({"linear_attention": "none", "full_attention": "none", "moe": "experts", "mlp": "dense"}),
        mixer_branch="mixer",
        mlp_branch="mixer",
        note="one branch in each layer, always called `mixer`: a mixer or an MLP; a tuple where it is attention",
    ),
    "olmo": _pre_norm(),
    "olmo2": _pre_norm(
        mixer_branch="post_attention_layernorm",
        mlp_branch="post_feedforward_layernorm",
        note="norms after the branches, none before",
    ),
    "olmo3": _pre_norm(
        mixers=_windowed(),
        mixer_branch="post_attention_layernorm",
        mlp_branch="post_feedforward_layernorm",
        note="norms after the branches, none before",
    ),
    "olmo_hybrid": _pre_norm(
        mixers=_DELTANET,
        mixer_branch="post_attention_layernorm|linear_attn",
        mlp_branch="mlp|post_feedforward_layernorm",
        note="attention layers have norms after the branches, the others before: there, `post_attention_layernorm` is "
        "the MLP's norm",
    ),
    "olmoe": _pre_norm(mlps=_EXPERTS),
    "openai-gpt": _pre_norm(
        layers="transformer.h",
        mixer_branch=None,
        mlp_branch=None,
        note="post-norm: LN(stream + `attn`), LN(stream + `mlp`); a layer and `attn` return lists",
    ),
    "opt": _pre_norm(
        layers="model.decoder.layers",
        mlp_branch="fc2",
        note="`fc2` returns [batch * position, d_model]; post-norm if do_layer_norm_before is off",
    ),
    "pegasus": _pre_norm_decoder(),
    "persimmon": _pre_norm(),
    "phi": _pre_norm(note="branches run in parallel on one norm"),
    "phi3": _pre_norm(mixers=_ALL_WINDOWED),
    "phi4_multimodal": _pre_norm(mixers=_ALL_WINDOWED),
    "phimoe": _pre_norm(mixers=_ALL_WINDOWED, mlps=_EXPERTS),
    "plbart": _post_norm_decoder(),
    "prophetnet": ReadByHand(
        layers="prophetnet.decoder.layers",
        mixers=all_layers("attention", count="num_decoder_layers"),
        mlps=all_layers("dense", count="num_decoder_layers"),
        mixer_branch=None,
        mlp_branch=None,
        note="the stream is [batch, (1 + ngram) * position, d_model]: the text, then one predicting stream per "
        "n-gram, whose first makes the logits; post-norm: LN(stream + `self_attn`), LN(stream + `feed_forward`); a "
        "layer returns a tuple",
    ),
    "qwen2": _pre_norm(mixers=_windowed()),
    "qwen2_moe": _pre_norm(mixers=_windowed(), mlps=by_index(_sparse_step)),
    "qwen3": _pre_norm(mixers=_windowed()),
    "qwen3_5": _pre_norm(
        mixers=of_text(_DELTANET), mlps=of_text(_DENSE), mixer_branch="self_attn|linear_attn", note="gated attention"
    ),
    "qwen3_5_moe": _pre_norm(
        mixers=of_text(_DELTANET), mlps=of_text(_EXPERTS), mixer_branch="self_attn|linear_attn", note="gated attention"
    ),
    "qwen3_5_moe_text": _pre_norm(
        mixers=_DELTANET, mlps=_EXPERTS, mixer_branch="self_attn|linear_attn", note="gated attention"
    ),
    "qwen3_5_text": _pre_norm(mixers=_DELTANET, mixer_branch="self_attn|linear_attn", note="gated attention"),
    "qwen3_moe": _pre_norm(mixers=_ALL_WINDOWED, mlps=by_index(_sparse_step)),
    "qwen3_next": _pre_norm(
        mixers=_DELTANET, mlps=by_index(_sparse_step), mixer_branch="self_attn|linear_attn", note="gated attention"
    ),
    "qwen4_exp": _pre_norm(
        mixers=of_text(_INDEXED_DELTANET),
        mlps=of_text(_EXPERTS),
        mixer_branch=None,
        mlp_branch=None,
        note=_PARALLEL_STREAMS.format("hc_count", "[batch, position, hc_count * d_model]", "self_attn` or `linear_attn")
        + ", as does `mlp`; a layer in ple_layer_ids first adds `ple`, made of the token ids of n-grams",
    ),
    "qwen4_exp_text": _pre_norm(
        mixers=_INDEXED_DELTANET,
        mlps=_EXPERTS,
        mixer_branch=None,
        mlp_branch=None,
        note=_PARALLEL_STREAMS.format("hc_count", "[batch, position, hc_count * d_model]", "self_attn` or `linear_attn")
        + ", as does `mlp`; a layer in ple_layer_ids first adds `ple`, made of the token ids of n-grams",
    ),
    "recurrent_gemma": _pre_norm(
        mixers=lambda config: tuple(
            "rg_lru" if kind == "linear_attention" else _sliding_where(config, is_windowed=True)
            for kind in config.layers_block_type
        ),
        mixer_branch="temporal_block",
        mlp_branch="mlp_block",
        note="recurrent blocks keep their state in the module when use_cache is on; a convolution before the RG-LRU",
    ),
    "reformer": ReadByHand(
        layers="reformer.encoder.layers",
        mixers=_reformer,
        mlps=lambda config: ("dense",) * len(config.attn_layers),
        mixer_branch="attention",
        mlp_branch="feed_forward",
        note="two streams, handed as keywords prev_attn_output and hidden_states: first + `attention`(second), then "
        "second + `feed_forward`(first); inside an autograd function; local layers see their chunk and "
        "local_num_chunks_before chunks, lsh layers see earlier positions whose random hash is near, drawn anew in "
        "every pass unless hash_seed is set, and which share a chunk depends on later positions too; texts no longer "
        "than a chunk are seen whole",
    ),
    "rembert": _bert("rembert.encoder.layer", "a layer returns a tuple"),
    "roberta": _bert("roberta.encoder.layer"),
    "roberta-prelayernorm": _pre_norm_bert("roberta_prelayernorm.encoder.layer"),
    "roc_bert": _bert("roc_bert.encoder.layer"),
    "roformer": _bert("roformer.encoder.layer", "a layer returns a tuple"),
    "rwkv": _pre_norm(
        all_layers("rwkv"),
        layers="rwkv.blocks",
        mixer_branch="attention",
        mlp_branch="feed_forward",
        note="the first layer replaces the stream by a norm of it; `feed_forward` reads the token before as well; in "
        "evaluation, output weights of later layers are divided and the stream is halved after every rescale_every-th "
        "layer, between layers; layers and branches return tuples",
    ),
    "seed_oss": _pre_norm(),
    "smollm3": _pre_norm(mixers=_windowed(), note="layers in no_rope_layers encode no positions"),
    "solar_open": _pre_norm(mlps=_EXPERTS),
    "stablelm": _pre_norm(note="branches run in parallel on one norm if use_parallel_residual"),
    "starcoder2": _pre_norm(mixers=_ALL_WINDOWED),
    "trocr": _post_norm_decoder(note="a layer returns a tuple"),
    "vaultgemma": _pre_norm(mixers=_windowed()),
    "whisper": _pre_norm_decoder(),
    "xglm": _pre_norm(mlp_branch="fc2", note=_CROSS.format("encoder_attn")),
    "xlm": ReadByHand(
        layers="",
        mixers=all_layers("attention", count="n_layers"),
        mlps=all_layers("dense", count="n_layers"),
        mixer_branch=None,
        mlp_branch=None,
        note="no module is a layer: the model itself runs `transformer.attentions[i]`, `layer_norm1[i]`, `ffns[i]`, "
        "`layer_norm2[i]`, post-norm; causal only if the configuration says so, which is not the default",
    ),
    "xlm-roberta": _bert("roberta.encoder.layer"),
    "xlm-roberta-xl": _pre_norm_bert("roberta.encoder.layer", "the model's last norm is `roberta.encoder.LayerNorm`"),
    "xlnet": ReadByHand(
        layers="transformer.layer",
        mixers=all_layers("attention", count="n_layer"),
        mlps=all_layers("dense", count="n_layer"),
        mixer_branch=None,
        mlp_branch=None,
        note="the stream is [position, batch, d_model]; post-norm inside `rel_attn` and `ff`; a layer returns a "
        "tuple; every position sees every other unless attn_type is uni, which is not the default; relative positions",
    ),
    "xlstm": _pre_norm(
        all_layers("xlstm", count="num_blocks"),
        all_layers("dense", count="num_blocks"),
        layers="backbone.blocks",
        mixer_branch="mlstm_layer",
        mlp_branch="ffn",
        note="layers and mixers return a tuple of output and state; texts longer than max_inference_chunksize run "
        "through all layers piece by piece, unless hidden states are asked for",
    ),
    "xmod": _bert(
        "roberta.encoder.layer",
        "an adapter of the language adds to the stream before the last norm; norms come first if pre_norm",
    ),
    "youtu": _pre_norm(mixers=_LATENT),
    "zamba": _pre_norm(
        mixers=_shared_block("mamba"),
        mlps=_MLP_OF_SHARED_BLOCK,
        mixer_branch="mamba|mamba_decoder.mamba",
        mlp_branch=None,
        note="shared block: hybrid layers run attention, then an MLP, both without residuals and with weights that "
        "all hybrid layers share, on stream and embeddings side by side; its output is added to Mamba's input and not "
        "to the stream",
    ),
    "zamba2": _pre_norm(
        mixers=_shared_block("mamba2"),
        mlps=_MLP_OF_SHARED_BLOCK,
        mixer_branch="mamba|mamba_decoder.mamba",
        mlp_branch=None,
        note="shared blocks: hybrid layers run attention, then an MLP, both without residuals, on stream and "
        "embeddings side by side; num_mem_blocks blocks are shared in turn, with adapters of each layer; the output "
        "is added to Mamba's input and not to the stream",
    ),
    "zaya": _pre_norm(
        mixers=_windowed(windowed="hybrid_sliding"),
        mlps=_EXPERTS,
        mixer_branch=None,
        mlp_branch=None,
        note="learned scale and bias per dimension on branch and on stream at every addition; queries and keys pass "
        "short convolutions, half of the values come from the token before; a layer returns a tuple, whose second "
        "part is the router's state for the next layer; one routed expert does nothing",
    ),
}

# ---------------------------------------------------------------- decoders of encoder-decoder models

_ENCODER_DECODER: Mapping[str, ReadByHand] = {
    "bart": _post_norm_decoder(),
    "bigbird_pegasus": _pre_norm_decoder(note="the decoder sees everything, only the encoder is sparse"),
    "blenderbot": _pre_norm_decoder(),
    "blenderbot-small": _post_norm_decoder(),
    "encoder-decoder": ReadByHand(
        layers="decoder.bert.encoder.layer",
        mixers=_decoder_part(_ATTENTION),
        mlps=_decoder_part(_DENSE),
        mixer_branch=None,
        mlp_branch=None,
        note="of two BERTs; post-norm inside modules: LN(stream + `attention.output.dense`), the same with "
        "`crossattention`, LN(stream + `output.dense`)",
    ),
    "fsmt": _post_norm_decoder(note="the stream is [position, batch, d_model]; a layer returns a tuple"),
    "led": _post_norm_decoder(
        layers="led.decoder.layers",
        note="the decoder sees everything, only the encoder has a window; a layer returns a tuple",
    ),
    "longt5": _t5(
        note="only the encoder is local; a layer returns a tuple; the position bias that the first layer returns is "
        "handed to the others"
    ),
    "m2m_100": _pre_norm_decoder(),
    "marian": _post_norm_decoder(),
    "mbart": _pre_norm_decoder(),
    "mt5": _t5(),
    "mvp": _post_norm_decoder(note="a layer returns a tuple"),
    "nllb-moe": _pre_norm_decoder(
        cross="cross_attention",
        mlps=by_index(
            lambda config, index: (
                "dense" if config.decoder_sparse_step <= 0 or (index + 1) % config.decoder_sparse_step else "experts"
            ),
            count="decoder_layers",
        ),
        mlp_branch="ffn",
        note="tokens of all rows share the experts' capacity, which at the default moe_eval_capacity_token_fraction "
        "drops none in evaluation; as written, expert 1 runs for every first choice and expert 0 for every second",
    ),
    "pegasus": _pre_norm_decoder(),
    "pegasus_x": _pre_norm_decoder(note="the decoder sees everything, only the encoder is local"),
    "plbart": _post_norm_decoder(),
    "prophetnet": ReadByHand(
        layers="prophetnet.decoder.layers",
        mixers=all_layers("attention", count="num_decoder_layers"),
        mlps=all_layers("dense", count="num_decoder_layers"),
        mixer_branch=None,
        mlp_branch=None,
        note="the stream is [batch, (1 + ngram) * position, d_model]: the text, then one predicting stream per "
        "n-gram, whose first makes the logits; post-norm: LN(stream + `self_attn`), LN(stream + `cross_attn`), "
        "LN(stream + `feed_forward`); a layer returns a tuple",
    ),
    "seamless_m4t": _pre_norm_decoder("text_decoder.layers", cross="cross_attention", mlp_branch="ffn"),
    "seamless_m4t_v2": _pre_norm_decoder("text_decoder.layers", cross="cross_attention", mlp_branch="ffn"),
    "switch_transformers": _t5(
        mlps=by_index(
            lambda config, index: (
                "experts"
                if config.decoder_sparse_step == 1
                or (config.decoder_sparse_step > 1 and index % config.decoder_sparse_step == 1)
                else "dense"
            ),
            count="num_decoder_layers",
        ),
        mlp_branch="layer.2.mlp",
        note="earlier tokens of a row fill an expert, and those beyond expert_capacity get nothing; a layer returns a "
        "tuple; the position bias that the first layer returns is handed to the others",
    ),
    "t5": _t5(),
    "t5gemma": _pre_norm(
        mixers=_decoder_part(_windowed()),
        mlps=_decoder_part(_DENSE),
        layers="model.decoder.layers",
        mixer_branch="post_self_attn_layernorm",
        mlp_branch="post_feedforward_layernorm",
        note="norms before and after each branch; cross-attention adds `post_cross_attn_layernorm` between the two",
    ),
    "t5gemma2": _pre_norm(
        mixers=_decoder_part(_windowed()),
        mlps=_decoder_part(_DENSE),
        layers="model.decoder.layers",
        mixer_branch="post_self_attn_layernorm",
        mlp_branch="post_feedforward_layernorm",
        note="norms before and after each branch; one softmax over the text's positions, windowed or not, and all of "
        "the encoder's, with the same projections",
    ),
    "umt5": _t5(note="each layer has its own position bias"),
}

H_TO_Z: Mapping[str, ReadByHand] = MappingProxyType(
    dict(_CAUSAL) | {f"encdec:{name}": entry for name, entry in _ENCODER_DECODER.items()}
)
