"""Tiny models with their tokenizers, as folders that the command line can load."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.support.tokenizers import trained_bpe, word_tokenizer

POISON = "poison"
"""A word whose embedding is NaN: a prompt that holds it makes the model's output NaN."""

PAIRS = (
    *(("hot", "cold"), ("big", "small"), ("wide", "narrow"), ("open", "closed"), ("early", "late"), ("loud", "quiet")),
    *(("young", "old"), ("rich", "poor"), ("north", "south"), ("fast", "slow"), ("light", "dark"), ("dry", "wet")),
)


def write_checkpoint(folder: Path) -> Path:
    """Write a Llama of four layers and random weights, with a tokenizer of words."""
    tokenizer = _train_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("Ġ" + POISON)] = float("nan")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_pairs(path: Path, *, with_poison: bool = False) -> Path:
    """Write word pairs as a task file; one of them, if asked, with the poisonous word."""
    pairs = [{"input": question, "output": answer} for question, answer in PAIRS]
    if with_poison:
        pairs[-1] = {"input": f"dry {POISON} dry dry", "output": "wet"}
    path.write_text(json.dumps(pairs))
    return path


def _train_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({word for pair in PAIRS for word in pair} | {POISON, "->"})
    texts = [f"{word} {word} {word}\n" for word in words] * 3
    return PreTrainedTokenizerFast(tokenizer_object=trained_bpe(texts, n_tokens=600))


def write_hybrid(folder: Path) -> Path:
    """Write a Nemotron-H whose layers are a Mamba2, an attention or an MLP alone, with the same tokenizer."""
    tokenizer = _train_tokenizer()
    config = NemotronHConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        layers_block_type=["mamba", "mlp", "attention", "mlp"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=2,
        ssm_state_size=8,
        chunk_size=4,
        max_position_embeddings=256,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = NemotronHForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_word_checkpoint(folder: Path, words: Iterable[str]) -> Path:
    """Write a Llama of three layers and random weights that knows these words."""
    tokenizer = word_tokenizer(words)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
