"""What a network computes with beside its weights is part of its fingerprint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from layertracer import Sample, trace, wrap_model
from layertracer.models import fingerprint
from layertracer.models._converted.file_hash import hash_file
from layertracer.models._gguf.model import read_gguf
from layertracer.models._sources import load_parts
from layertracer.models._weights.settings import describe_settings

from tests.support.checkpoints.gguf_files import BY_NAME, build, write
from tests.support.checkpoints.tiny import save_checkpoint, tiny_llama

IDS = torch.arange(1, 30)[None]


def scaled(**rope: Any) -> Any:
    """A tiny Llama with positions of some kind."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8,
        rope_parameters={"rope_theta": 5000.0, **rope},
    )
    return LlamaForCausalLM(config).eval()


def change(module: Any, name: str, value: Any) -> None:
    """A setting of a configuration."""
    setattr(module.config, name, value)


class TestMatters:
    """What changes numbers changes the fingerprint."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda module: module.model.rotary_emb.inv_freq.mul_(0.5),
            lambda module: module.model.rotary_emb.to(torch.bfloat16),
            lambda module: setattr(module.model.norm, "variance_epsilon", 0.1),
            lambda module: setattr(module.model.layers[1].self_attn, "scaling", 0.1),
            lambda module: change(module, "rms_norm_eps", 0.1),
            lambda module: change(module, "rope_parameters", {"rope_type": "default", "rope_theta": 7.0}),
            lambda module: change(module, "sliding_window", 4),
        ],
        ids=["frequencies", "rounded", "eps", "scaling", "eps of the config", "theta", "window"],
    )
    def test_a_setting(self, harm: Callable[[Any], object]) -> None:
        """A rotary table, a scale or a value of the configuration that is another one gives another fingerprint."""
        module = scaled(rope_type="default")
        before = fingerprint(module)
        harm(module)
        assert fingerprint(module) != before

    @pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
    def test_adapters(self) -> None:
        """An adapter that is off, or scaled, is another model; switched on again it is the same."""
        peft: Any = pytest.importorskip("peft")
        adapted = peft.get_peft_model(
            tiny_llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        )
        on = fingerprint(adapted)
        with adapted.disable_adapter():
            off = fingerprint(adapted)
        assert fingerprint(adapted) == on
        for part in adapted.modules():
            if isinstance(getattr(part, "scaling", None), dict):
                part.scaling["default"] *= 3
        assert len({on, off, fingerprint(adapted)}) == 3


class TestMattersNot:
    """What no forward reads does not change it."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("_name_or_path", "elsewhere"),
            ("transformers_version", "1"),
            ("architectures", ["X"]),
            ("use_cache", False),
            ("pad_token_id", 3),
            ("initializer_range", 0.5),
            ("attention_dropout", 0.5),
            ("rms_norm_eps", 1e-6 * (1 + 3e-8)),
            ("max_position_embeddings", 8.0),
        ],
    )
    def test_a_value(self, name: str, value: Any) -> None:
        """Names, versions, what concerns training only, and the type of a number."""
        module = scaled(rope_type="default")
        before = fingerprint(module)
        object.__setattr__(module.config, name, value)
        assert fingerprint(module) == before

    @pytest.mark.parametrize(
        "rope",
        [
            {"rope_type": "dynamic", "factor": 2.0},
            {"rope_type": "yarn", "factor": 2.0},
            {"rope_type": "linear", "factor": 2.0},
        ],
        ids=lambda rope: rope["rope_type"],
    )
    def test_a_run(self, rope: dict[str, Any]) -> None:
        """A model is the same before and after prompts longer than its positions, though its table changes."""
        module = scaled(**rope)
        before = fingerprint(module)
        for ids in (IDS, IDS[:, :3], IDS):
            module(ids)
            assert fingerprint(module) == before

    def test_ways_of_loading(self, tmp_path: Path) -> None:
        """A model, its deep copy, what is loaded from its folder, and what is wrapped have one fingerprint."""
        module, folder = tiny_llama(), save_checkpoint(tmp_path / "m", tiny_llama())
        loaded = load_parts(folder, device="cpu").module
        assert len({fingerprint(one) for one in (module, copy.deepcopy(module), loaded)}) == 1
        sample = [Sample(prompt_ids=(1, 3, 4, 5), answer_id=6)]
        assert trace(wrap_model(module), sample, memory="200MB").model.fingerprint == fingerprint(loaded)

    @pytest.mark.parametrize("name", ["llama", "gemma2", "starcoder2", "qwen3_moe"])
    @pytest.mark.usefixtures("cache_folder")
    def test_a_file_and_its_copy(self, name: str, tmp_path: Path) -> None:
        """A .gguf file, its first conversion and its copy have one fingerprint, and its safetensors' settings."""
        module = build(BY_NAME[name])
        path = write(tmp_path / f"{name}.gguf", BY_NAME[name], module)
        module.save_pretrained(tmp_path / "safetensors")
        direct = read_gguf(path, name, digest=hash_file(path)).module
        first, second = (load_parts(path, device="cpu").module for _ in range(2))
        assert len({fingerprint(one) for one in (direct, first, second)}) == 1
        other = load_parts(tmp_path / "safetensors", device="cpu").module
        assert list(describe_settings(first)) == list(describe_settings(other))


class Odd(torch.nn.Module):
    """A module of which nothing can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.nn.Linear(2, 2)
        self.register_buffer("inv_freq", torch.ones(3), persistent=False)

    @property
    def active_adapters(self) -> Any:
        """Not to be had."""
        raise RuntimeError("no adapter")

    class config:  # noqa: N801 - as transformers calls it
        """A configuration that says nothing."""

        @staticmethod
        def to_dict() -> Any:
            """Not to be had either."""
            raise RuntimeError("no settings")


def test_what_cannot_be_asked() -> None:
    """A module whose settings cannot be asked for has a fingerprint, and its rotary table enters by its values."""
    one, other = Odd(), Odd()
    other.part.load_state_dict(one.part.state_dict())
    assert fingerprint(one) == fingerprint(other)
    other.inv_freq[1] = 2
    assert fingerprint(one) != fingerprint(other)
