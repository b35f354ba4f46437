"""Kinds of mixers come from what modules hold and do: names may say anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import layertracer as lt
from layertracer.models import make_network

from tests.architectures.read_by_hand.table import TABLE
from tests.support.models import registry

# One family for every kind, with the reason where there are several.
FAMILIES = (
    "llama",
    "mistral",
    "deepseek_v3",
    "deepseek_v32",  # latent, with an indexer on top
    "doge",
    "kimi_linear",
    "minimax",
    "mamba",
    "zamba",  # the first Mamba, with several heads
    "mamba2",
    "qwen3_next",
    "falcon_h1",
    "nemotron_h",
    "rwkv",
    "xlstm",
    "recurrent_gemma",
    "lfm2",
    "jetmoe",  # attention whose projections are routed among experts
    "moshi",  # has a window and never uses it
    "encdec:switch_transformers",
)


def _build(family: str) -> nn.Module:
    name = family.removeprefix("encdec:")
    return registry.build(name, encoder_decoder=name != family)


def _rename(module: nn.Module) -> None:
    """Give every class of a model, and its model type, names that say nothing."""
    for part in module.modules():
        if type(part).__module__.startswith("transformers"):
            part.__class__ = type("Part", (type(part),), {})


def _kinds(module: nn.Module) -> tuple[tuple[str, str], ...]:
    layers = make_network(module, name="renamed").anatomy.layers
    return tuple((layer.mixer, layer.mlp) for layer in layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_do_not_depend_on_the_names_of_classes(family: str) -> None:
    """With all of its classes renamed a model has the kinds that reading its source gives."""
    module = _build(family)
    read = TABLE[family]
    expected = tuple(zip(read.mixers(module.config), read.mlps(module.config), strict=True))
    _rename(module)
    assert _kinds(module) == expected


@pytest.mark.parametrize(("family", "kind"), [("mistral", "sliding_attention"), ("moshi", "attention")])
def test_windows_longer_than_the_probe_are_taken_from_the_configuration(family: str, kind: str) -> None:
    """A window that no probe can reach counts where a model applies it, and only there."""
    module = _build(family)
    module.config.sliding_window = 4096
    for part in module.modules():
        if hasattr(part, "sliding_window"):
            part.sliding_window = 4096
    assert {mixer for mixer, _ in _kinds(module)} == {kind}


@pytest.mark.parametrize("name", ["mini/attention", "mini/hybrid", "miniatures/mamba2-hybrid", "miniatures/sliding"])
def test_trained_attention_is_what_it_was_built_as(name: str) -> None:
    """In trained miniatures, layers are of the kinds that their configuration builds, however sharply they attend."""
    root = Path(__file__).resolve().parents[2]
    model = lt.load_model(name if name.startswith("mini/") else root / name)
    config = model.module.config
    kinds = config.layer_types
    recurrent = "mamba2" if config.model_type == "bamba" else "gated_deltanet"
    named = {"full_attention": "attention", "linear_attention": recurrent}
    assert [layer.mixer for layer in model.anatomy.layers] == [named.get(kind, kind) for kind in kinds]
