"""What the decoder layers of transformers' causal models are, read in its source (5.23): `afmoe` to `granitemoeshared`.

Unless a note says otherwise: the stream is [batch, position, d_model]; a layer takes it and returns it alone; the
mixer runs first and the MLP reads the stream after it; each adds its branch with weight 1; a position sees earlier
positions of its own prompt only. Attention modules return a tuple and its first member is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.architectures.read_by_hand.reading import Kinds, ReadByHand, all_layers, by_index, by_layer_types, of_text

# ---------------------------------------------------------------- rules


def _is_window(window: int | None, length: int) -> bool:
    """Whether a window hides anything inside the context."""
    return window is not None and window < length


def _windowed_or_full(config: Any) -> tuple[str, ...]:
    """Where `layer_types` says so, and the window is smaller than the context, a layer sees the window only."""
    is_window = _is_window(config.sliding_window, config.max_position_embeddings)
    kinds = {"full_attention": "attention", "sliding_attention": "sliding_attention" if is_window else "attention"}
    return tuple(kinds[layer_type] for layer_type in config.layer_types)


def _global_or_local(config: Any) -> tuple[str, ...]:
    """GPT-Neo names both kinds, and the window, in words of its own."""
    is_window = _is_window(config.window_size, config.max_position_embeddings)
    kinds = {"global": "attention", "local": "sliding_attention" if is_window else "attention"}
    return tuple(kinds[kind] for kind in config.attention_layers)


def _blt(config: Any) -> tuple[str, ...]:
    """One mask serves all byte layers, those of the encoder and those of the decoder."""
    part = config.decoder_config
    is_window = _is_window(config.local_attention_window_len, part.max_position_embeddings)
    return ("sliding_attention" if is_window else "attention",) * part.num_hidden_layers


def _doge(config: Any) -> tuple[str, ...]:
    """A prompt longer than `keep_window_size` is thinned out; a window, if there is one, holds in all layers."""
    length = config.max_position_embeddings
    if _is_window(config.keep_window_size, length):
        return ("sparse_attention",) * config.num_hidden_layers
    is_window = _is_window(config.sliding_window, length)
    return ("sliding_attention" if is_window else "attention",) * config.num_hidden_layers


def _deepseek_v4(config: Any) -> tuple[str, ...]:
    """A layer that compresses sees what its window hides as soon as the context holds one block."""
    length = config.max_position_embeddings
    window = "sliding_attention" if _is_window(config.sliding_window, length) else "attention"
    compressed = {"compressed_sparse_attention": "sparse_attention", "heavily_compressed_attention": "attention"}

    def kind(layer_type: str) -> str:
        compresses = layer_type in compressed and config.compress_rates[layer_type] <= length
        return compressed[layer_type] if compresses else window

    return tuple(kind(layer_type) for layer_type in config.layer_types)


def _ernie_moe(config: Any, layer: int) -> str:
    is_in_range = config.moe_layer_start_index <= layer <= config.moe_layer_end_index
    return "experts" if is_in_range and (layer + 1) % config.moe_layer_interval == 0 else "dense"


def _flint_moe(config: Any, layer: int) -> str:
    is_due = config.num_experts > 0 and (layer + 1) % config.decoder_sparse_step == 0
    return "experts" if is_due and layer not in config.mlp_only_layers else "dense"


ATTENTION = all_layers("attention")
LATENT = all_layers("latent_attention")
DECODER_ATTENTION = all_layers("attention", count="decoder_layers")  # where an encoder has a count of its own

DENSE = all_layers("dense")
EXPERTS = all_layers("experts")
DECODER_DENSE = all_layers("dense", count="decoder_layers")
BY_MLP_TYPES = by_layer_types({"dense": "dense", "sparse": "experts"}, attribute="mlp_layer_types")
FIRST_DENSE = by_index(lambda config, layer: "dense" if layer < config.first_k_dense_replace else "experts")


# ---------------------------------------------------------------- forms that recur


def _pre_norm(
    mixers: Kinds = ATTENTION,
    mlps: Kinds = DENSE,
    *,
    layers: str = "model.layers",
    branches: tuple[str | None, str | None] = ("self_attn", "mlp"),
    note: str = "",
) -> ReadByHand:
    """Llama's form: a norm before the mixer, one before the MLP, each module's output added as it is."""
    mixer, mlp = branches
    return ReadByHand(layers=layers, mixers=mixers, mlps=mlps, mixer_branch=mixer, mlp_branch=mlp, note=note)


def _post_norm(
    mixers: Kinds = ATTENTION,
    mlps: Kinds = DENSE,
    *,
    layers: str = "model.layers",
    branches: tuple[str, str] = ("post_attention_layernorm", "post_feedforward_layernorm"),
    note: str = "",
) -> ReadByHand:
    """Gemma 2's form: what is added has passed a norm of its own."""
    return _pre_norm(mixers, mlps, layers=layers, branches=branches, note=note)


def _bert(layers: str, note: str = "") -> ReadByHand:
    """BERT's form: the stream itself is normed after each addition."""
    causal = (
        "Causal only with config.is_decoder, else every position sees all. crossattention only with "
        "add_cross_attention, and idle without an encoder's states."
    )
    return _pre_norm(layers=layers, branches=(None, None), note=f"{BERT_FORM} {causal} {note}".strip())


def _decoder_of_pair(*, is_pre_norm: bool, note: str) -> ReadByHand:
    """The decoder of an encoder-decoder, alone: its cross-attention is there and does not run."""
    idle = "encoder_attn and its norm are in every layer and do not run without an encoder's states."
    return ReadByHand(
        layers="model.decoder.layers",
        mixers=DECODER_ATTENTION,
        mlps=DECODER_DENSE,
        mixer_branch="self_attn" if is_pre_norm else None,
        mlp_branch="fc2" if is_pre_norm else None,
        note=f"{idle} {note}",
    )


BERT_FORM = (
    "Post-norm: x = attention.output.LayerNorm(x + attention.output.dense(...)), then "
    "x = output.LayerNorm(x + output.dense(...)); no norm between the last layer and the head, which may hold one."
)
BART_FORM = (
    "Post-norm: x = self_attn_layer_norm(x + self_attn(x)), then x = final_layer_norm(x + fc2(...)); the last layer's "
    "output goes to the head without another norm."
)
INDEXED = (
    "Keys and values from a low-rank latent, and of these only the index_topk positions that self_attn.indexer "
    "scores highest (DSA); the choice is a mask in eager and sdpa. Scores tie at 0 where relu cuts all heads off, and "
    "topk breaks ties by the length of the prompt: a prompt's beginning may compute other values than the prompt there."
)
SCALED = "Both branches are added times config.residual_multiplier; embeddings times config.embedding_multiplier."
GEMMA_4 = (
    "The whole stream is multiplied by layer_scalar at the end of every layer. The last num_kv_shared_layers layers "
    "have no k_proj or v_proj and read keys and values of the last earlier layer of their type; with logits_to_keep "
    "above 0 those layers may receive the last positions only. attention_k_eq_v: full layers take keys as values."
)
GEMMA_4_INPUTS = (
    "With hidden_size_per_layer_input a third branch, post_per_layer_input_norm, is added after the MLP's; it gates "
    "the stream by an embedding of the same token. With enable_moe_block routed experts beside the dense MLP: "
    "both sum before post_feedforward_layernorm."
)
GEMMA_4_ASSISTANT = (
    "Drafts for another model: needs inputs_embeds of twice backbone_hidden_size and shared_kv_states, ignores "
    "input_ids. No layer has k_proj or v_proj: all attend to the other model's keys and values, in both directions, "
    "and the model's own positions never see one another. layer_scalar multiplies the stream after every layer. "
    "5.23 cannot build it: the configuration demands that all layers share, kv_sharing_modes that one does not."
)


def _gemma_4_mlps(config: Any) -> tuple[str, ...]:
    return ("experts" if getattr(config, "enable_moe_block", False) else "dense",) * config.num_hidden_layers


# ---------------------------------------------------------------- the table

_TABLE: dict[str, ReadByHand] = {
    "afmoe": _post_norm(
        _windowed_or_full,
        by_index(lambda config, layer: "dense" if layer < config.num_dense_layers else "experts"),
        branches=("post_attention_layernorm", "post_mlp_layernorm"),
        note="mlp adds a shared expert to the routed ones; rotary positions in sliding layers only.",
    ),
    "apertus": _pre_norm(),
    "arcee": _pre_norm(),
    "aria_text": _pre_norm(mlps=EXPERTS, note="mlp adds shared experts to the routed ones."),
    "axk1": _pre_norm(LATENT, BY_MLP_TYPES, note="mlp adds shared experts to the routed ones."),
    "axk2": _pre_norm(LATENT, BY_MLP_TYPES, note=INDEXED),
    "bailing_hybrid": _pre_norm(
        by_layer_types({"full_attention": "latent_attention", "linear_attention": "kimi_delta_attention"}),
        BY_MLP_TYPES,
        note="Both mixers are called self_attn; that of linear layers returns a tensor, not a tuple.",
    ),
    "bamba": _pre_norm(
        by_layer_types({"full_attention": "attention", "linear_attention": "mamba2"}, attribute="layers_block_type"),
        branches=("mamba|self_attn", "feed_forward"),
        note="Layers return a tuple (stream, attention weights); mamba returns a tensor.",
    ),
    "bart": _decoder_of_pair(is_pre_norm=False, note=BART_FORM),
    "beam": _post_norm(
        _windowed_or_full,
        BY_MLP_TYPES,
        note="x = sqrt((k - 1) / k) * x + branch / sqrt(k): k is 2 (layer + 1) for the mixer and one more for the MLP, "
        "so the stream is scaled too. Full layers have no positions, but scale queries by position.",
    ),
    "bert": _bert("bert.encoder.layer"),
    "bert-generation": _bert("bert.encoder.layer"),
    "big_bird": _bert(
        "bert.encoder.layer",
        "attention_type block_sparse, on prompts longer than (5 + 2 num_random_blocks) block_size, is block-sparse "
        "and not causal; a shorter prompt switches the model to original_full for good.",
    ),
    "bigbird_pegasus": _decoder_of_pair(
        is_pre_norm=True,
        note="The decoder's attention is full, never block-sparse. The last norm is model.decoder.layernorm_embedding.",
    ),
    "biogpt": _pre_norm(layers="biogpt.layers", branches=("self_attn", "fc2"), note="fc1 and fc2 lie in the layer."),
    "bitnet": _pre_norm(note="Norms inside both branches, before o_proj and before down_proj."),
    "blenderbot": _decoder_of_pair(is_pre_norm=True, note="fc1 and fc2 lie in the layer."),
    "blenderbot-small": _decoder_of_pair(is_pre_norm=False, note=BART_FORM),
    "bloom": _pre_norm(
        layers="transformer.h",
        branches=("self_attention.dense", "mlp.dense_4h_to_h"),
        note="ALiBi. self_attention and mlp are given the stream and add it themselves: their outputs are streams. "
        "With apply_residual_connection_post_layernorm they add the normed stream; with pretraining_tp > 1 and "
        "slow_but_exact dense and dense_4h_to_h are bypassed. Layers return a tuple (stream, attention weights).",
    ),
    "blt": _pre_norm(
        _blt,
        lambda config: ("dense",) * config.decoder_config.num_hidden_layers,
        layers="model.local_decoder.layers",
        note="Several stacks. The bytes' stream passes model.local_encoder.layers, then model.local_decoder.layers, "
        "which the head reads. Beside it model.global_transformer.layers (full attention) works on patches, a stream "
        "of other width and length, and model.patcher.layers (window patcher_config.sliding_window) decides where "
        "patches end. Before layer i (before layer 0 alone without decoder_config.cross_attn_all_layers) "
        "local_decoder.cross_attn_layers[i], which adds the stream inside, is added: x = 2 x + cross-attention to "
        "the last patch that is complete there.",
    ),
    "camembert": _bert("roberta.encoder.layer"),
    "codegen": _pre_norm(
        layers="transformer.h",
        branches=("attn", "mlp"),
        note="Parallel: the MLP reads ln_1(x), as attention does. Layers return a tuple.",
    ),
    "cohere": _pre_norm(note="Parallel: the MLP reads input_layernorm(x), as attention does."),
    "cohere2": _pre_norm(
        _windowed_or_full, note="Parallel: one norm for both. Rotary positions in sliding layers only."
    ),
    "cohere2_moe": _pre_norm(
        _windowed_or_full, BY_MLP_TYPES, note="Parallel: one norm for both. Shared experts inside mlp."
    ),
    "cohere_compass_text": _pre_norm(
        _windowed_or_full,
        note="Parallel: one norm for both. Embeddings of images, if given, are added between the first layers.",
    ),
    "cpmant": _pre_norm(
        layers="cpmant.encoder.layers",
        branches=("self_att.self_attention", "ffn.ffn"),
        note="Not causal: every position sees all. prompt_length positions of a learned prompt stand before the tokens "
        "inside the layers and are cut off after them. As many of the first tokens are hidden as there are tokens 0. "
        "self_att and ffn add the stream themselves. Layers return a tuple (stream, attention weights).",
    ),
    "ctrl": _pre_norm(
        layers="transformer.h",
        branches=("multi_head_attention", "ffn"),
        note="The embedding's output is scaled by sqrt(n_embd) in place.",
    ),
    "cwm": _pre_norm(_windowed_or_full),
    "data2vec-text": _bert("data2vec_text.encoder.layer"),
    "dbrx": _pre_norm(
        mlps=EXPERTS,
        layers="transformer.blocks",
        branches=("norm_attn_norm.attn", "ffn"),
        note="norm_attn_norm adds the stream itself and returns (stream, norm_2(stream)).",
    ),
    "deepseek_v2": _pre_norm(LATENT, FIRST_DENSE, note="mlp adds shared experts to the routed ones."),
    "deepseek_v3": _pre_norm(LATENT, FIRST_DENSE, note="mlp adds shared experts to the routed ones."),
    "deepseek_v32": _pre_norm(LATENT, BY_MLP_TYPES, note=INDEXED),
    "deepseek_v4": _pre_norm(
        _deepseek_v4,
        EXPERTS,
        branches=(None, None),
        note="The stream is hc_mult streams [batch, position, hc_mult, d_model], which model.hc_head sums after the "
        "layers. Around each branch attn_hc or ffn_hc gives, per token, weights of its input, of its output in each "
        "stream, and a matrix that mixes the streams. One key, which is also the value, for all heads, not out of a "
        "latent. Every layer sees a raw window; compressed_sparse_attention also the index_topk blocks of "
        "compress_rates positions that an indexer selects, heavily_compressed_attention also all complete blocks, each "
        "pooled to one entry: that is neither a window nor full attention, and is called attention since nothing is "
        "selected. hash_moe layers route by token id, which every layer is given.",
    ),
    "diffllama": _pre_norm(note="Differential attention: difference of two softmaxes, each causal and full."),
    "doge": _pre_norm(
        _doge,
        lambda config: ("experts" if config.is_moe else "dense",) * config.num_hidden_layers,
        note="x = input_residual * x + branch, then x = post_attention_residual * x + branch: weights per channel of "
        "the stream. On prompts longer than keep_window_size a query sees, of earlier positions, the "
        "keep_window_size whose values score highest (one score per position and head, no query in it). With is_moe "
        "mlp returns a tuple, and a view in its router reads other positions and prompts, later ones too.",
    ),
    "dots1": _pre_norm(_windowed_or_full, FIRST_DENSE, note="mlp adds shared experts to the routed ones."),
    "electra": _bert("electra.encoder.layer", "embeddings_project stands before the layers where widths differ."),
    "emu3": _pre_norm(of_text(ATTENTION), of_text(DENSE)),
    "ernie": _bert("ernie.encoder.layer"),
    "ernie4_5": _pre_norm(),
    "ernie4_5_moe": _pre_norm(mlps=by_index(_ernie_moe), note="mlp adds shared experts to the routed ones."),
    "exaone4": _post_norm(_windowed_or_full, note="No norm before mixer and MLP. Full layers have no positions."),
    "exaone_moe": _pre_norm(_windowed_or_full, BY_MLP_TYPES, note="Norms before the branches, unlike exaone4."),
    "falcon": _pre_norm(
        layers="transformer.h",
        branches=("self_attention", "mlp"),
        note="Parallel with parallel_attn or new_decoder_architecture, and then the layer adds attention's output to "
        "the MLP's output in place: who holds that tensor sees the sum. Layers return a tuple. ALiBi with alibi.",
    ),
    "falcon_h1": _pre_norm(
        all_layers("mamba2+attention"),
        branches=("mamba+self_attn", "feed_forward"),
        note="In parallel from one norm, Mamba first: mamba times ssm_out_multiplier plus self_attn times "
        "attention_out_multiplier. Layers return a tuple of one.",
    ),
    "falcon_mamba": _pre_norm(
        all_layers("mamba"), all_layers("none"), layers="backbone.layers", branches=("mixer", None)
    ),
    "flex_olmo": _post_norm(mlps=EXPERTS, note="No norm before mixer and MLP."),
    "flint": _pre_norm(
        _windowed_or_full,
        by_index(_flint_moe),
        note="Attention sinks. Rotary positions in sliding layers only. mlp adds a shared expert.",
    ),
    "fuyu": _pre_norm(
        of_text(ATTENTION), of_text(DENSE), layers="model.language_model.layers", note="Persimmon's layers."
    ),
    "gemma": _pre_norm(),
    "gemma2": _post_norm(_windowed_or_full, note="Softcap on attention's scores, in eager only."),
    "gemma3": _post_norm(
        of_text(_windowed_or_full),
        of_text(DENSE),
        layers="model.language_model.layers",
        note="With token_type_ids, positions of one image see one another.",
    ),
    "gemma3_text": _post_norm(
        _windowed_or_full, note="With use_bidirectional_attention every position sees later ones too."
    ),
    "gemma4": _post_norm(
        of_text(_windowed_or_full),
        of_text(_gemma_4_mlps),
        layers="model.language_model.layers",
        note=f"{GEMMA_4} {GEMMA_4_INPUTS}",
    ),
    "gemma4_assistant": _post_norm(of_text(_windowed_or_full), of_text(DENSE), note=GEMMA_4_ASSISTANT),
    "gemma4_text": _post_norm(_windowed_or_full, _gemma_4_mlps, note=f"{GEMMA_4} {GEMMA_4_INPUTS}"),
    "gemma4_unified": _post_norm(
        of_text(_windowed_or_full), of_text(DENSE), layers="model.language_model.layers", note=GEMMA_4
    ),
    "gemma4_unified_assistant": _post_norm(of_text(_windowed_or_full), of_text(DENSE), note=GEMMA_4_ASSISTANT),
    "gemma4_unified_text": _post_norm(_windowed_or_full, note=GEMMA_4),
    "git": _pre_norm(
        layers="git.encoder.layer",
        branches=(None, None),
        note=f"{BERT_FORM} Always causal. Positions of an image stand before the text and see one another.",
    ),
    "glm": _pre_norm(),
    "glm4": _post_norm(branches=("post_self_attn_layernorm", "post_mlp_layernorm")),
    "glm4_moe": _pre_norm(mlps=FIRST_DENSE, note="mlp adds shared experts to the routed ones."),
    "glm4_moe_lite": _pre_norm(LATENT, BY_MLP_TYPES, note="mlp adds shared experts to the routed ones."),
    "glm_moe_dsa": _pre_norm(
        LATENT,
        BY_MLP_TYPES,
        note=f"{INDEXED} Layers return a tuple (stream, selected positions); the second is an input of the next layer, "
        "and layers whose indexer_types entry is shared have no indexer and use it.",
    ),
    "got_ocr2": _pre_norm(
        of_text(_windowed_or_full), of_text(DENSE), layers="model.language_model.layers", note="Qwen2's layers."
    ),
    "gpt-sw3": _pre_norm(layers="transformer.h", branches=("attn", "mlp"), note="GPT-2's classes."),
    "gpt2": _pre_norm(
        layers="transformer.h",
        branches=("attn", "mlp"),
        note="With add_cross_attention a crossattention stands between, idle without an encoder's states.",
    ),
    "gpt_bigcode": _pre_norm(
        layers="transformer.h", branches=("attn", "mlp"), note="One head of keys and values with multi_query."
    ),
    "gpt_neo": _pre_norm(
        _global_or_local,
        layers="transformer.h",
        branches=("attn", "mlp"),
        note="The window is in the buffer attn.attention.bias, not in a mask. Layers return a tuple.",
    ),
    "gpt_neox": _pre_norm(
        layers="gpt_neox.layers",
        branches=("attention", "mlp"),
        note="Parallel with use_parallel_residual: the MLP reads post_attention_layernorm(x) of the layer's input.",
    ),
    "gpt_neox_japanese": _pre_norm(
        layers="gpt_neox_japanese.layers",
        branches=(None, "mlp"),
        note="attention's first output is what is added, but in the last layer attention.dense_bias, its third output, "
        "is added too. Layers return a tuple.",
    ),
    "gpt_oss": _pre_norm(
        _windowed_or_full, EXPERTS, note="Attention sinks. mlp returns a tuple (output, router's scores)."
    ),
    "gptj": _pre_norm(
        layers="transformer.h",
        branches=("attn", "mlp"),
        note="Parallel: the MLP reads ln_1(x), as attention does. Layers return a tuple.",
    ),
    "granite": _pre_norm(note=SCALED),
    "granite_swa": _pre_norm(_windowed_or_full, note=f"{SCALED} Attention sinks."),
    "granitemoe": _pre_norm(mlps=EXPERTS, branches=("self_attn", "block_sparse_moe"), note=SCALED),
    "granitemoe_swa": _pre_norm(
        _windowed_or_full,
        EXPERTS,
        branches=("self_attn", "block_sparse_moe+shared_mlp"),
        note=f"{SCALED} Attention sinks. No shared_mlp where shared_intermediate_size is 0.",
    ),
    "granitemoehybrid": _pre_norm(
        by_layer_types({"full_attention": "attention", "linear_attention": "mamba2"}),
        lambda config: ("experts" if config.num_local_experts else "dense",) * config.num_hidden_layers,
        branches=("mamba|self_attn", "block_sparse_moe+shared_mlp"),
        note=f"{SCALED} mamba returns a tensor. Without experts block_sparse_moe is None and shared_mlp is the MLP.",
    ),
    "granitemoeshared": _pre_norm(
        mlps=EXPERTS,
        branches=("self_attn", "block_sparse_moe+shared_mlp"),
        note=f"{SCALED} No shared_mlp where shared_intermediate_size is 0.",
    ),
}

_GEMMA_3N = (
    "The stream is altup_num_inputs streams [altup_num_inputs, batch, position, d_model]. A layer predicts all of them "
    "from all of them (altup.predict), works on the active one: y = active + post_attention_layernorm(...), "
    "y = (y + laurel(...)) / sqrt(2), y = y + post_feedforward_layernorm(...); then altup.correct adds y minus the "
    "prediction, weighed per token, to all streams, and a gate by an embedding of the same token is added to all but "
    "the first. After the layers the streams are projected and averaged. The last num_kv_shared_layers layers have no "
    "k_proj or v_proj and read keys and values of the last earlier layer of their type."
)
_TABLE["gemma3n"] = _pre_norm(
    of_text(_windowed_or_full),
    of_text(DENSE),
    layers="model.language_model.layers",
    branches=(None, None),
    note=_GEMMA_3N,
)
_TABLE["gemma3n_text"] = _pre_norm(_windowed_or_full, branches=(None, None), note=_GEMMA_3N)

_LATENT_OR_INDEXED = by_layer_types(
    dict.fromkeys(("full_attention", "indexed_attention", "sliding_attention"), "latent_attention")
)
_DOTS_3 = (
    "All layers take keys and values from a low-rank latent; besides, sliding_attention layers see sliding_window "
    "positions only, and indexed_attention layers the index_topk positions that self_attn.indexer scores highest, "
    "where scores tie at 0 as in deepseek_v32."
)
_TABLE["dots3_note"] = _pre_norm(of_text(_LATENT_OR_INDEXED), of_text(BY_MLP_TYPES), note=_DOTS_3)
_TABLE["dots3_note_text"] = _pre_norm(_LATENT_OR_INDEXED, BY_MLP_TYPES, note=_DOTS_3)

A_TO_G: Mapping[str, ReadByHand] = MappingProxyType(_TABLE)
