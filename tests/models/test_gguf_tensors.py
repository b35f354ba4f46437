"""Tensors of .gguf files: each has its place in the model, or the file is refused with their names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layertracer import ModelLoadError
from layertracer.models._sources import load_parts

from tests.support.checkpoints.gguf_files import (
    BY_NAME,
    CONTEXT,
    HEAD,
    N_LAYERS,
    N_VOCAB,
    WIDTH,
    GgufArchitecture,
    build,
    write,
)

pytestmark = pytest.mark.usefixtures("cache_folder")

IDS = torch.tensor([[5, 9, 13, 7, 22, 41, 5, 33, 8, 60, 11, 12]])
LONG_IDS = torch.arange(48)[None] % N_VOCAB


def values(*shape: int) -> np.ndarray:
    """Numbers that are neither zeros nor ones."""
    return np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def with_settings(
    name: str, *, metadata: Mapping[str, Any] | None = None, **settings: Any
) -> tuple[GgufArchitecture, Any]:
    """An architecture with other settings, and a model of it."""
    plain = BY_NAME[name]
    changed = dataclasses.replace(
        plain, settings={**plain.settings, **settings}, metadata={**plain.metadata, **(metadata or {})}
    )
    return changed, build(changed)


@torch.no_grad()
def logits_of(module: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Its logits for some prompt."""
    return module(ids, use_cache=False).logits


def assert_reads_the_same(path: Path, model: Any, ids: torch.Tensor = IDS) -> None:
    """The file gives the model's own logits, and nothing to note, at the second load too."""
    for _ in range(2):
        parts = load_parts(path, device="cpu")
        assert parts.notes == ()
        torch.testing.assert_close(logits_of(parts.module, ids), logits_of(model, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "tensor", "shape", "said"),
    [
        ("qwen2", "blk.1.attn_output.bias", (WIDTH,), "blk.1.attn_output.bias"),
        ("llama", "blk.0.attn_q_norm.weight", (HEAD,), "blk.0.attn_q_norm.weight"),
        ("llama", "blk.0.attn_sinks.weight", (4,), "blk.0.attn_sinks.weight"),
        ("llama", "output_norm.bias", (WIDTH,), "output_norm.bias"),
        ("llama", "output.bias", (N_VOCAB,), "output.bias"),
        ("llama", "token_embd_norm.weight", (WIDTH,), "token_embd_norm.weight"),
        ("llama", "blk.2.attn_q.scale", (1,), "blk.2.attn_q.scale"),
        ("llama", "blk.0.attn_post_norm.weight", (WIDTH,), "blk.0.attn_post_norm.weight"),
        ("llama", f"blk.{N_LAYERS}.attn_norm.weight", (WIDTH,), "blk.4.attn_norm.weight"),
        ("gemma2", "blk.0.attn_q_norm.weight", (2 * HEAD,), "blk.0.attn_q_norm.weight"),
        ("qwen3_5", "blk.0.attn_sinks.weight", (4,), "attn_sinks"),
        ("qwen3_5", f"blk.{N_LAYERS}.attn_norm.weight", (WIDTH,), "blk.4.attn_norm.weight"),
        ("lfm2", "blk.1.attn_output.bias", (WIDTH,), r"out_proj\.bias"),
    ],
)
def test_refuses_what_has_no_place(tmp_path: Path, name: str, tensor: str, shape: tuple[int, ...], said: str) -> None:
    """A tensor that would be dropped is an error that names it, or its layer, and nothing is kept in the cache."""
    architecture = BY_NAME[name]
    path = write(tmp_path / "m.gguf", architecture, build(architecture), tensors={tensor: values(*shape)})
    for _ in range(2):
        with pytest.raises(ModelLoadError, match=rf"holds 1 tensor\(s\) that .* has no place for: .*{said}"):
            load_parts(path, device="cpu")


def test_says_which_layer_is_not_counted(tmp_path: Path) -> None:
    """A whole layer that the metadata do not count is an error that names its index."""
    architecture, model = with_settings("llama")
    path = write(tmp_path / "m.gguf", architecture, model, more={"block_count": N_LAYERS - 1})
    with pytest.raises(ModelLoadError, match=rf"count {N_LAYERS - 1} layers, and it holds layer {N_LAYERS - 1}"):
        load_parts(path, device="cpu")


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt2", "mamba", "bloom"])
@pytest.mark.parametrize("part", ["output_norm.weight", "blk.1."])
def test_refuses_weights_that_nothing_fills(tmp_path: Path, name: str, part: str) -> None:
    """A weight of the model that no tensor fills is an error, not a random number."""
    architecture = BY_NAME[name]
    path = write(tmp_path / "m.gguf", architecture, build(architecture), without=[part])
    with pytest.raises(ModelLoadError, match=r"lacks \d+ "):
        load_parts(path, device="cpu")


@pytest.mark.parametrize("part", ["ffn_up_exps", "ffn_gate_exps", "ffn_down_exps"])
def test_refuses_half_of_the_experts(tmp_path: Path, part: str) -> None:
    """Experts of which one of two matrices is absent are an error, not zeros."""
    architecture = BY_NAME["qwen3_moe"]
    path = write(tmp_path / "m.gguf", architecture, build(architecture), without=[f"blk.2.{part}"])
    with pytest.raises(ModelLoadError, match="lacks 1 "):
        load_parts(path, device="cpu")


@pytest.mark.parametrize(
    "tensors",
    [
        {"blk.0.attn_q.bias": np.zeros(WIDTH), "blk.0.ffn_down.scale": np.ones(1)},
        {"v.patch_embd.weight": values(4, 4), "mm.0.weight": values(4, 4)},
        {"blk.4.nextn.eh_proj.weight": values(4, 8), "blk.4.attn_norm.weight": values(WIDTH)},
        {"rope_freqs.weight": np.ones(HEAD // 2)},
    ],
    ids=["neutral", "vision", "further predictions", "no factors"],
)
def test_passes_what_changes_nothing(tmp_path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Zeros to add, ones to multiply with, towers, and blocks for further tokens take no part in the next token."""
    architecture, model = with_settings("llama")
    assert_reads_the_same(write(tmp_path / "m.gguf", architecture, model, tensors=tensors), model)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("qwen3", {"attention_bias": True}),
        ("qwen2_moe", {"qkv_bias": False}),
        ("qwen3_moe", {"attention_bias": True}),
        ("nemotron", {"attention_bias": True, "mlp_bias": True}),
        ("gemma2", {"attention_bias": True}),
        ("starcoder2", {"use_bias": False}),
        ("mamba", {"use_bias": True}),
        ("mamba", {"use_conv_bias": False}),
        ("falcon", {"bias": True}),
    ],
)
def test_biases_of_either_kind(tmp_path: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Biases are in the model exactly where the file holds them."""
    architecture, model = with_settings(name, **settings)
    assert_reads_the_same(write(tmp_path / "m.gguf", architecture, model), model)


def test_biases_that_the_file_does_not_hold(tmp_path: Path) -> None:
    """Where a setting makes places for more biases than the file holds, the others are zero."""
    architecture, model = with_settings("llama", attention_bias=True)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.zero_()
    path = write(tmp_path / "m.gguf", architecture, model, without=["attn_output.bias"])
    assert_reads_the_same(path, model)


@pytest.mark.parametrize(
    ("name", "settings", "part"),
    [
        ("qwen2", {}, "blk.1.attn_v.bias"),
        ("qwen2", {}, "attn_k.bias"),
        ("llama", {"attention_bias": True}, "blk.2.attn_q.bias"),
        ("llama", {"mlp_bias": True}, "blk.0.ffn_down.bias"),
        ("bloom", {}, "blk.1.attn_output.bias"),
        ("gpt2", {}, "blk.3.ffn_up.bias"),
    ],
)
def test_refuses_a_bias_that_some_layers_lack(
    tmp_path: Path, name: str, settings: Mapping[str, Any], part: str
) -> None:
    """A bias that other layers hold, or that the architecture always has, is missing, and no zeros stand for it."""
    architecture, model = with_settings(name, **settings)
    path = write(tmp_path / "m.gguf", architecture, model, without=[part])
    with pytest.raises(ModelLoadError, match=r"lacks \d+ of the weights .*bias"):
        load_parts(path, device="cpu")


@pytest.mark.parametrize("name", ["falcon", "bloom", "gpt2"])
def test_a_head_of_its_own(tmp_path: Path, name: str) -> None:
    """An unembedding that the file holds is used, even where the architecture ties it."""
    architecture, model = with_settings(name, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.get_input_embeddings().weight.flip(0))
    assert_reads_the_same(write(tmp_path / "m.gguf", architecture, model), model)


ORIGINAL = 16
SHORT, LONG = [1.0, 1.1, 1.2, 1.4], [1.0, 2.0, 4.0, 7.0]


@pytest.mark.parametrize("ids", [IDS, LONG_IDS], ids=["within the original context", "beyond it"])
@pytest.mark.parametrize("attention_factor", [None, 1.3])
def test_long_rope(tmp_path: Path, ids: torch.Tensor, attention_factor: float | None) -> None:
    """Phi-3's factors for short and for long contexts give its own numbers on both sides."""
    scale = CONTEXT / ORIGINAL
    factor = attention_factor or math.sqrt(1 + math.log(scale) / math.log(ORIGINAL))
    rope = {"rope_type": "longrope", "rope_theta": 5000.0, "short_factor": SHORT, "long_factor": LONG}
    architecture, model = with_settings(
        "phi3",
        rope_parameters=rope | ({} if attention_factor is None else {"attention_factor": attention_factor}),
        original_max_position_embeddings=ORIGINAL,
        metadata={"rope.scaling.original_context_length": ORIGINAL, "rope.scaling.attn_factor": factor},
    )
    tensors = {"rope_factors_short.weight": np.array(SHORT), "rope_factors_long.weight": np.array(LONG)}
    path = write(tmp_path / "m.gguf", architecture, model, tensors=tensors)
    assert_reads_the_same(path, model, ids)


@pytest.mark.parametrize(
    ("rope", "metadata"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"rope.scaling.factor": 4.0}),
        ({"rope_type": "linear", "factor": 4.0}, {"rope.scale_linear": 4.0}),
        ({"rope_type": "default"}, {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}),
        (
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 24,
                "beta_fast": 9.0,
                "beta_slow": 2.0,
            },
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 24}
            | {"rope.scaling.yarn_beta_fast": 9.0, "rope.scaling.yarn_beta_slow": 2.0},
        ),
    ],
    ids=["a factor alone", "its old name", "none", "yarn"],
)
def test_stretched_positions(tmp_path: Path, rope: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Positions are stretched as the file says, in each of the ways in which it can say so."""
    architecture, model = with_settings("llama", metadata=metadata, rope_parameters={"rope_theta": 5000.0, **rope})
    assert_reads_the_same(write(tmp_path / "m.gguf", architecture, model), model, LONG_IDS)


@pytest.mark.parametrize("ids", [IDS, LONG_IDS], ids=["short", "long"])
def test_any_factors_of_the_frequencies(tmp_path: Path, ids: torch.Tensor) -> None:
    """Factors that follow no rule divide the frequencies one by one."""
    architecture, model = with_settings("llama")
    path = write(tmp_path / "m.gguf", architecture, model, tensors={"rope_freqs.weight": np.array(LONG)})
    rotation = model.model.rotary_emb
    rotation.inv_freq = rotation.original_inv_freq = rotation.inv_freq / torch.tensor(LONG)
    assert_reads_the_same(path, model, ids)


@pytest.mark.parametrize(
    ("name", "tensor", "metadata"),
    [
        ("phi3", "rope_factors_long.weight", {}),
        ("llama", "rope_freqs.weight", {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0}),
    ],
)
def test_names_factors_that_cannot_be_read(tmp_path: Path, name: str, tensor: str, metadata: Mapping[str, Any]) -> None:
    """Factors for long contexts alone, or on top of another rule, are a note of the run, each time."""
    architecture, model = with_settings(name, metadata=metadata)
    path = write(tmp_path / "m.gguf", architecture, model, tensors={tensor: np.array(LONG)})
    for _ in range(2):
        (note,) = load_parts(path, device="cpu").notes
        assert tensor in note
