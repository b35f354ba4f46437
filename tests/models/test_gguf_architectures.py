"""Models of many architectures out of .gguf files: the same numbers as from their own weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

import layertracer as lt
from layertracer.models._sources import load_parts

from tests.support.checkpoints.gguf_files import ARCHITECTURES, BY_NAME, N_VOCAB, GgufArchitecture, build, write

IDS = torch.tensor([[5, 9, 13, 7, 22, 41, 5, 33, 8, 60, 11, 12]])
BLOCKS = [gguf.GGMLQuantizationType[kind] for kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]

# One of every way in which files differ from the weights runs always, the others with the long sweeps.
ALWAYS = {"llama", "qwen3", "gemma2", "gemma3", "qwen2_moe", "stablelm", "bloom", "mamba", "qwen3_5", "t5_gated"}
IN_TURN = [
    pytest.param(one, id=one.name, marks=[] if one.name in ALWAYS else pytest.mark.slow) for one in ARCHITECTURES
]

pytestmark = pytest.mark.usefixtures("cache_folder")


@torch.no_grad()
def logits_of(module: Any) -> torch.Tensor:
    """Logits for `IDS`, given to encoder and decoder where there are two."""
    more = {"decoder_input_ids": IDS} if module.config.is_encoder_decoder else {}
    return module(IDS, use_cache=False, **more).logits


@pytest.mark.parametrize("architecture", IN_TURN)
def test_gives_the_numbers_of_the_weights(tmp_path: Path, architecture: GgufArchitecture) -> None:
    """A .gguf file and a folder of safetensors with the same weights give the same logits, the second time too."""
    model = build(architecture)
    own = logits_of(model)
    assert own.std() > 0.02  # there is something to get wrong
    path = write(tmp_path / "tiny.gguf", architecture, model)
    for _ in range(2):
        torch.testing.assert_close(logits_of(load_parts(path, device="cpu").module), own, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path / "folder")
    folder = load_parts(tmp_path / "folder", device="cpu")
    torch.testing.assert_close(logits_of(folder.module), own, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.name)
def test_quantised_blocks(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    """Quantised matrices are read as the numbers that their blocks stand for."""
    architecture = BY_NAME["llama"]
    model = build(architecture)
    path = write(tmp_path / "tiny.gguf", architecture, model, kind=kind)
    exact = logits_of(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "layers" in name:
                blocks = gguf.quantize(parameter.numpy(), kind)
                parameter.copy_(torch.from_numpy(gguf.dequantize(blocks, kind)))
    rounded = logits_of(model)
    assert not torch.allclose(exact, rounded, atol=1e-4)
    torch.testing.assert_close(logits_of(load_parts(path, device="cpu").module), rounded, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma2", "bloom", "mamba", "qwen3_5"))]
)
def test_is_traced(tmp_path: Path, name: str) -> None:
    """A model out of a .gguf file passes the self-check by the ladder, and is traced as its own weights are."""
    architecture = BY_NAME[name]
    model = build(architecture)
    samples = [lt.Sample(prompt_ids=tuple(IDS[0].tolist()), answer_id=N_VOCAB - 1)]
    own = lt.trace(lt.wrap_model(model), samples)
    loaded = lt.load_model(write(tmp_path / "tiny.gguf", architecture, model), device="cpu")
    assert loaded.self_check.method == "ladder"
    read = lt.trace(loaded, samples)
    assert read.js_bits == pytest.approx(own.js_bits, abs=1e-6)
    assert read.target_prob == pytest.approx(own.target_prob, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("llama", "logit_scale", 0.5), ("llama", "rope.scaling.type", "longrope"), ("qwen2", "rope.dimension_count", 4)],
)
def test_names_what_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, setting: str, value: float | str
) -> None:
    """A setting that changes the numbers and that transformers has no place for is named in run and log, each time."""
    architecture = BY_NAME[name]
    path = write(tmp_path / "tiny.gguf", architecture, build(architecture), more={setting: value})
    for _ in range(2):
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            (note,) = lt.load_model(path, device="cpu").self_check.notes
        assert f"{setting} = {value}" in note
        assert caplog.text.count(f"{setting} = {value}") == 1
        caplog.clear()


def test_llama_3_frequencies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The factors that files of Llama 3.1 and later hold give the frequencies of those models."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    plain = BY_NAME["llama"]
    # Eight numbers a head turn at four frequencies, of which the slowest two are divided.
    theta = 5e6
    architecture = dataclasses.replace(
        plain,
        settings={**plain.settings, "rope_parameters": rope | {"rope_theta": theta}},
        metadata={**plain.metadata, "rope.freq_base": theta},
    )
    model = build(architecture)
    divided = ROPE_INIT_FUNCTIONS["llama3"](model.config, device="cpu")[0]
    factors = theta ** -(torch.arange(4) / 4) / divided
    assert len(set(factors.tolist())) > 1
    path = write(tmp_path / "tiny.gguf", architecture, model, tensors={"rope_freqs.weight": factors.numpy()})
    loaded = load_parts(path, device="cpu").module
    torch.testing.assert_close(loaded.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq, rtol=1e-5, atol=0)
    torch.testing.assert_close(logits_of(loaded), logits_of(model), atol=1e-5, rtol=1e-5)
    assert "rope_freqs" not in caplog.text
