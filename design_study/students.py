"""Hybrids made of a trained attention miniature: its weights, and fresh mixers where attention is not kept."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from design_study.plan import ROOT
from training import find_miniature, locate_miniatures
from training.build import draw_weights

Mixers: TypeAlias = "Mapping[int, Mapping[str, Tensor]]"
"""The weights of a Gated DeltaNet mixer for each layer."""


def find_checkpoint(name: str) -> Path:
    """The folder of a trained miniature."""
    embedded = ROOT / "src" / "layertracer" / "models" / "miniatures"
    places = locate_miniatures((name,), folder=ROOT / "miniatures", embedded_folder=embedded)
    return places[find_miniature(name)]


def load_trained(name: str) -> Any:
    """A trained miniature, in float32, evaluation mode, without gradients."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    module = auto.from_pretrained(find_checkpoint(name), dtype=torch.float32)
    return module.eval().requires_grad_(False)


def draw_mixers(parent: Any, seed: int) -> nn.ModuleList:
    """A fresh Gated DeltaNet mixer for every layer of the parent.

    Law: the weights of a layer's mixer depend on the seed and the layer alone, not on which layers are replaced.

    Args:
        parent: The attention miniature.
        seed: Seed of the weights.
    """
    blank = _make_module(parent, kept=())
    mixers = nn.ModuleList(layer.linear_attn for layer in blank.model.layers)
    for layer, mixer in enumerate(mixers):
        draw_weights(mixer, torch.Generator().manual_seed(1000 * seed + layer))
    return mixers


def make_student(parent: Any, kept: Collection[int], mixers: Mixers) -> Any:
    """The parent with Gated DeltaNet in the layers that are not kept; all other weights are copies of the parent's.

    Args:
        parent: The attention miniature.
        kept: Layers that stay attention.
        mixers: Weights of the mixers that replace attention.

    Returns:
        The module, in training mode, with gradients on.
    """
    student = _make_module(parent, kept)
    replaced = set(range(len(student.model.layers))) - set(kept)
    left = student.load_state_dict(parent.state_dict(), strict=False)
    for layer in replaced:
        student.model.layers[layer].linear_attn.load_state_dict(mixers[layer])
    _check_copied(left, replaced)
    return student.train()


def _make_module(parent: Any, kept: Collection[int]) -> Any:
    """A module of the parent's configuration but for the kinds of its layers."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(parent.config)
    kinds = ["full_attention" if layer in kept else "linear_attention" for layer in range(config.num_hidden_layers)]
    config.layer_types = kinds
    auto: Any = AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):  # Transformers draws weights of its own, which are replaced
        return auto.from_config(config, dtype=torch.float32)


def _check_copied(left: Any, replaced: Collection[int]) -> None:
    """Nothing but the mixers of replaced layers is left uncopied, on either side."""
    ours = tuple(f"model.layers.{layer}.linear_attn." for layer in replaced)
    theirs = tuple(f"model.layers.{layer}.self_attn." for layer in replaced)
    lost = [name for name in left.missing_keys if not name.startswith(ours)]
    lost += [name for name in left.unexpected_keys if not name.startswith(theirs)]
    if lost:
        raise AssertionError(f"weights outside the replaced mixers were not copied: {lost}")
