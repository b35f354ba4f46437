"""Tensors of a .gguf file: whether all are in the model, and all weights of the model come from the file.

transformers passes over tensors that it has no place for, in silence: a bias, a norm, sinks, scales, or a whole layer
that the metadata do not count. What is left is another model.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from layertracer._errors import ModelLoadError
from layertracer.models._gguf.rotation import ROPE_FACTORS
from layertracer.models._gguf.settings import GgufFacts, without_flags
from layertracer.models._loading.loading_report import some_of
from layertracer.models._plausibility.settings import refuse_unfillable

_HARMLESS = re.compile(r"^(v|mm|a)\.|^cls\.|\.(attn_rot_embd|rope_freqs)\.")
"""Towers for images and sound beside a language model, heads of classifiers, and tables that follow from settings."""

_LAYER = re.compile(r"(?:^|\.)(?:blk|layers)\.(\d+)\.")
_LAYER_NUMBER = re.compile(r"\.\d+\.")


def check_tensors(module: Any, facts: GgufFacts, label: str) -> None:
    """Refuse a file of which a tensor has no place in the model, or half fills a weight, or which is far too small.

    Args:
        module: A model of that configuration; its weights are not looked at.
        facts: What the file says.
        label: What the user calls it.

    Raises:
        ModelLoadError: With the names of the tensors.
    """
    refuse_unfillable(lambda: module, facts.held, label)
    places = _places(module, facts.architecture)
    if places is None:  # then transformers reports what it could not place, apart from layers behind the last
        refuse_unused(module, _beyond(facts.tensors, module), facts, label)
        return
    _refuse_half_filled(places, facts.tensors, label)
    unused = {name for name in facts.tensors if not _has_place(name, places, facts.architecture)}
    refuse_unused(module, unused, facts, label)


def refuse_unused(module: Any, names: Iterable[str], facts: GgufFacts, label: str) -> None:
    """Refuse a model that leaves out what the next token depends on.

    Args:
        module: The model.
        names: Tensors without a place.
        facts: What the file says.
        label: What the user calls it.

    Raises:
        ModelLoadError: With the names of the tensors.
    """
    unused = set(names) - facts.neutral - set(ROPE_FACTORS)  # the last become settings, or are named there
    refused = {name for name in unused if not _HARMLESS.search(name)} - _extra_predictions(unused, module)
    if refused:
        raise ModelLoadError(
            f"{label} holds {len(refused)} tensor(s) that transformers' {type(module).__name__} has no place for: "
            f"{some_of(sorted(refused))}.{_extra_layers(refused, module)} Without them it would be another model, and "
            "every number wrong. Load the original checkpoint in safetensors."
        )


def fill_absent_biases(module: nn.Module, report: Mapping[str, Any]) -> dict[str, Any]:
    """Zeros for the biases that a setting made places for together with those that the file holds.

    A bias that the file holds for another layer, or that the architecture has whatever its settings say, stays missing.

    Returns:
        The report without those that were filled.
    """
    missing = set(report.get("missing_keys") or ())
    absent = {key for key in missing if _is_bias_of_map(module, key)}
    if absent:
        names = dict(module.named_parameters())
        # One of zeros says no more than an absent one.
        held = {_LAYER_NUMBER.sub(".*.", key) for key, value in names.items() if key not in missing and value.any()}
        needed = _names_without_settings(module)
        filled = {key for key in absent if key not in needed and _LAYER_NUMBER.sub(".*.", key) not in held}
        with torch.no_grad():
            for key in filled:
                names[key].zero_()
        missing -= filled
    return {**report, "missing_keys": missing}


def _is_bias_of_map(module: nn.Module, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    return name == "bias" and isinstance(module.get_submodule(parent), nn.Linear)


def _names_without_settings(module: Any) -> set[str]:
    """The parameters of a model of that configuration in which no setting makes places for biases."""
    with torch.device("meta"):  # its weights are not looked at
        return {name for name, _ in type(module)(without_flags(module.config)).named_parameters()}


def _places(module: Any, architecture: str) -> Mapping[str, str] | None:
    """From a tensor's name in the file to the weight that transformers puts it into; None where it reports itself."""
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils  # comes without types
    if _reports_itself(architecture):
        return None
    processor = reader.TENSOR_PROCESSORS.get(architecture, reader.TensorProcessor)
    places: Mapping[str, str] = reader.get_gguf_hf_weights_map(module, processor(config=module.config.to_dict()))
    return places


def _reports_itself(architecture: str) -> bool:
    try:
        newer: Any = importlib.import_module("transformers.integrations.gguf")
        return bool(newer.is_gguf_arch_supported(architecture))
    except (ImportError, AttributeError):  # before 5.20 there is one reader for all
        return False


def _has_place(name: str, places: Mapping[str, str], architecture: str) -> bool:
    """Experts are known without their suffix, and the head of GPT-2 without its name."""
    return (
        name in places or name.removesuffix(".weight") in places or (architecture == "gpt2" and name == "output.weight")
    )


def _refuse_half_filled(places: Mapping[str, str], tensors: Iterable[str], label: str) -> None:
    """Several tensors become one weight of all experts; where one is absent, transformers leaves zeros."""
    held = {name.removesuffix(".weight") for name in tensors}
    filled = {weight for name, weight in places.items() if name.removesuffix(".weight") in held}
    absent = {
        name
        for name, weight in places.items()
        if "_exps" in name and weight in filled and name.removesuffix(".weight") not in held
    }
    if absent:
        raise ModelLoadError(
            f"{label} lacks {len(absent)} tensor(s) of its experts: {some_of(sorted(absent))}. They would be "
            "zeros, and every number wrong. Download the file again."
        )


def _extra_predictions(names: Iterable[str], module: Any) -> set[str]:
    """Tensors of blocks behind the last layer that predict further tokens, and take no part in the next one."""
    behind = _beyond(names, module)
    blocks = {_layer_of(name) for name in behind if ".nextn." in name}
    return {name for name in behind if _layer_of(name) in blocks}


def _beyond(names: Iterable[str], module: Any) -> set[str]:
    return {name for name in names if (index := _layer_of(name)) is not None and index >= _n_layers(module)}


def _extra_layers(names: Iterable[str], module: Any) -> str:
    layers = {_layer_of(name) or 0 for name in _beyond(names, module)}
    if not layers:
        return ""
    return f" Its metadata count {_n_layers(module)} layers, and it holds layer {max(layers)} (from 0)."


def _layer_of(name: str) -> int | None:
    found = _LAYER.search(name)
    return None if found is None else int(found[1])


def _n_layers(module: Any) -> int:
    return int(module.config.num_hidden_layers)
