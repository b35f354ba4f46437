"""Tiny checkpoints on disk: real architectures, random weights, no parameter at its default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.support.tokenizers import split_at_spaces

WORDS = ("<unk>", "<s>", "</s>", "hot", "cold", "wide", "narrow", "->", *(f"w{i}" for i in range(24)))


def tiny_llama(*, seed: int = 0, tied: bool = False, n_vocab: int = len(WORDS)) -> Any:
    """A Llama of two layers and width 16."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=n_vocab,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    return randomize(LlamaForCausalLM(config), seed=seed)


def tiny_gpt2(*, seed: int = 0) -> Any:
    """A GPT-2 of two layers and width 16; its embeddings are tied."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    return randomize(GPT2LMHeadModel(config), seed=seed)


def randomize(module: nn.Module, *, seed: int) -> nn.Module:
    """The module with every parameter drawn anew, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + 0.05)
    return module.eval()


def make_tokenizer() -> Any:
    """A tokenizer that knows `WORDS`, split at spaces."""
    return split_at_spaces(
        WORDS, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def save_checkpoint(folder: Path, model: Any, *, with_tokenizer: bool = True) -> Path:
    """The model in `folder`, as save_pretrained writes it."""
    model.save_pretrained(folder)
    if with_tokenizer:
        make_tokenizer().save_pretrained(folder)
    return folder


def save_in_hub_cache(cache: Path, hub_id: str, model: Any, *, commit: str, ref: str = "main") -> Path:
    """The model in a hub cache, as if it had been downloaded; the snapshot's folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(commit)
    return save_checkpoint(repository / "snapshots" / commit, model)


def edit_config(folder: Path, **changes: object) -> None:
    """Change fields of a checkpoint's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def save_pickled(folder: Path, model: Any) -> Path:
    """The model in `folder` with its weights pickled, as was usual once."""
    folder.mkdir()
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


_HEAD_TENSORS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model: Any, **more: np.ndarray) -> Path:
    """A Llama as a .gguf file in float32, with a byte-level tokenizer of some letters, and `more` tensors."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, config.vocab_size)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        writer.add_tensor(_gguf_name(name), _gguf_order(name, tensor, config))
    for name, values in more.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, n_vocab: int) -> None:
    """Letters, one merge, and two control tokens, filled up with words that no merge reaches."""
    tokens = ["<unk>", "<s>", "</s>", "h", "o", "t", "c", "l", "d", "ho", "Ġ"]
    tokens += [f"<{i}>" for i in range(n_vocab - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *(1 for _ in tokens[3:])])
    writer.add_token_merges(["h o"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in _HEAD_TENSORS:
        return f"{_HEAD_TENSORS[stem]}.weight"
    _, _, index, part = stem.split(".", 3)
    return f"blk.{index}.{_LAYER_TENSORS[part]}.weight"


def _gguf_order(name: str, tensor: torch.Tensor, config: Any) -> np.ndarray:
    """Queries and keys in the order of .gguf files, which turn neighbouring dimensions by one angle."""
    values = tensor.detach().float().numpy()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return values
    return np.ascontiguousarray(
        values.reshape(heads, 2, values.shape[0] // heads // 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    )
