"""Every text model family of the installed transformers, tiny, offline, and with no parameter at its default.

The families are read from transformers' own tables, so a family that a release adds appears by itself.
Sizes are set by the names of the configuration's attributes, and where a family needs more, by
`tiny_settings.OVERRIDES`. Parameters are drawn as `parameters` says.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from tests.support.models import long_settings as long
from tests.support.models import tiny_settings as tiny
from tests.support.models.parameters import undefaulted

CAUSAL: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
# Transformers lists models there too that hear audio and write with a decoder alone.
ENCODER_DECODER: tuple[str, ...] = tuple(
    name for name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES if CONFIG_MAPPING[name].is_encoder_decoder
)
UNBUILDABLE: Mapping[str, str] = tiny.UNBUILDABLE
NOT_CAUSAL: Mapping[str, str] = tiny.NOT_CAUSAL


# ---------------------------------------------------------------- configurations


def tiny_config(name: str, *, encoder_decoder: bool = False, is_long: bool = False) -> PretrainedConfig:
    """The configuration of a family's tiny model.

    Args:
        name: Model type, one of `CAUSAL`, or of `ENCODER_DECODER` where that is asked for.
        encoder_decoder: Whether the model of encoder and decoder is meant, not the decoder alone.
        is_long: Whether windows and the like reach further than a short probe; see `long_settings`.
    """
    overrides = dict(tiny.OVERRIDES.get(name, {})) | dict(long.OVERRIDES.get(name, {}) if is_long else {})
    sizes = long.SIZES if is_long else tiny.SIZES
    if name == "encoder-decoder":
        parts = (_tiny(CONFIG_MAPPING["bert"], {}, sizes), _tiny(CONFIG_MAPPING["bert"], {"is_decoder": True}, sizes))
        return CONFIG_MAPPING[name].from_encoder_decoder_configs(*parts, decoder_start_token_id=1, pad_token_id=0)
    config_class = CONFIG_MAPPING[name]
    if not encoder_decoder and "is_decoder" in _fields(config_class):
        overrides = {"is_decoder": True} | overrides
    config = _tiny(config_class, overrides, sizes)
    if name in tiny.STAND_INS:
        part, model_type, settings = tiny.STAND_INS[name]
        substitute = CONFIG_MAPPING[model_type]
        vars(config)[part] = _tiny(substitute, _settings_of_part(part, substitute) | dict(settings), sizes)
    wanted = _model_class(name, encoder_decoder).config_class
    parts = [getattr(config, part, None) for part in config.sub_configs]
    return next((part for part in parts if type(part) is wanted), config)


@cache
def _model_class(name: str, encoder_decoder: bool) -> type[Any]:
    auto = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    return auto._model_mapping[CONFIG_MAPPING[name]]


def _fields(config_class: type[PretrainedConfig]) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(config_class)}


def _tiny(
    config_class: type[PretrainedConfig], overrides: Mapping[str, Any], sizes: Mapping[str, Any]
) -> PretrainedConfig:
    """A configuration with sizes by attribute; a dotted override is handed to the part it names."""
    defaults = _defaults(config_class)
    settings: dict[str, Any] = {}
    for name, field in _fields(config_class).items():
        value = defaults.get(name)
        if isinstance(value, PretrainedConfig):
            inner = {key.partition(".")[2]: new for key, new in overrides.items() if key.startswith(f"{name}.")}
            settings[name] = _tiny(type(value), _settings_of_part(name, type(value)) | inner, sizes)
        elif name in tiny.CONSTANTS:
            settings[name] = tiny.CONSTANTS[name]
        elif name in sizes and _is_number(field.default):
            settings[name] = sizes[name]
        elif name in tiny.WHERE_NONE and field.default is None:
            settings[name] = tiny.WHERE_NONE[name]
        elif _is_per_layer(value, defaults):
            settings[name] = _shortened(value)
    settings |= _related(defaults, settings)
    settings |= {key: new for key, new in overrides.items() if "." not in key}
    return config_class(**copy.deepcopy(settings))  # some change the lists they are given


def _defaults(config_class: type[PretrainedConfig]) -> dict[str, Any]:
    try:
        default = config_class()
    except ValueError:  # the defaults contradict each other
        return {}
    renamed = {name: vars(default).get(stored) for name, stored in config_class.attribute_map.items()}
    return renamed | vars(default)


def _related(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that have to follow others: heads of latent attention, and experts in groups."""
    related: dict[str, Any] = {}
    if "kv_lora_rank" in settings and "num_key_value_heads" in settings:
        related["num_key_value_heads"] = settings["num_attention_heads"]
    if "head_dim" in settings and defaults.get("head_dim") == defaults.get("qk_rope_head_dim"):
        related["head_dim"] = settings["qk_rope_head_dim"]
    if (defaults.get("n_group") or 1) > 1:
        related |= {name: 8 for name in ("n_routed_experts", "num_experts", "num_local_experts") if name in settings}
    return related


def _settings_of_part(name: str, config_class: type[PretrainedConfig]) -> dict[str, Any]:
    """What keeps a part small that sees or hears."""
    is_sensory = any(word in name for word in ("vision", "audio", "vq_"))
    fields = _fields(config_class)
    return {key: value for key, value in tiny.SENSORY.items() if is_sensory and key in fields}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_per_layer(value: object, defaults: Mapping[str, Any]) -> bool:
    return isinstance(value, list | tuple) and len(value) == defaults.get("num_hidden_layers")


def _shortened(per_layer: list[Any] | tuple[Any, ...]) -> list[Any]:
    """The first layers of a list, with no run longer than two, so that every kind comes early."""
    runs = [list(run)[:2] for _, run in itertools.groupby(per_layer)]
    short = list(itertools.chain.from_iterable(runs))
    return (short + [short[-1]] * tiny.N_LAYERS)[: tiny.N_LAYERS]


# ---------------------------------------------------------------- models


def build(name: str, *, encoder_decoder: bool = False, seed: int = 0, is_long: bool = False) -> nn.Module:
    """A fresh tiny model in float32 and evaluation mode, which has not been run yet.

    That it has not been run matters: RWKV divides its own weights at its first evaluation.

    Args:
        name: Model type, one of `CAUSAL`, or of `ENCODER_DECODER` where that is asked for.
        encoder_decoder: Whether the model of encoder and decoder is meant, not the decoder alone.
        seed: Seed of all parameters.
        is_long: Whether windows and the like reach further than a short probe; see `long_settings`.
    """
    return copy.deepcopy(_built(name, encoder_decoder, seed, is_long))


@cache
def _built(name: str, encoder_decoder: bool, seed: int, is_long: bool) -> nn.Module:
    module = _default_module(name, encoder_decoder=encoder_decoder, is_long=is_long)
    return undefaulted(
        module,
        lambda trial, ids: logits_of(name, trial, ids, encoder_decoder=encoder_decoder),
        embedding_std=tiny.EMBEDDING_STD.get(name, 0.6),
        seed=seed,
    )


def _default_module(name: str, *, encoder_decoder: bool, is_long: bool) -> nn.Module:
    config = tiny_config(name, encoder_decoder=encoder_decoder, is_long=is_long)
    if _softcaps_attention(config):
        config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):  # transformers draws its own initial values from the global generator
        torch.manual_seed(0)
        module = _model_class(name, encoder_decoder)(config)
    return module.float().eval()


def _softcaps_attention(config: PretrainedConfig) -> bool:
    """Whether attention has a softcap, which only the eager implementation applies."""
    parts = [config, *(getattr(config, part, None) for part in config.sub_configs)]
    return any(getattr(part, "attn_logit_softcapping", None) for part in parts)


# ---------------------------------------------------------------- inputs and outputs


def example_inputs(
    name: str, ids: Tensor, *, encoder_decoder: bool = False, decoder_ids: Tensor | None = None
) -> dict[str, Any]:
    """Keyword arguments of one forward pass on token ids.

    A model with codebooks gets the ids once per codebook, each time shifted, as [batch x codebook, position].

    Args:
        name: Model type.
        ids: Token ids [batch, position].
        encoder_decoder: Whether the model of encoder and decoder is meant.
        decoder_ids: Token ids of the decoder [batch, position], those of the encoder unless given.
    """
    inputs: dict[str, Any] = {"input_ids": ids}
    if name in tiny.CODEBOOKS:
        books = torch.arange(tiny.CODEBOOKS[name], device=ids.device)[None, :, None]
        inputs["input_ids"] = ((ids[:, None] + 7 * books) % tiny.D_VOCAB).flatten(0, 1)
    if encoder_decoder:
        inputs["decoder_input_ids"] = ids if decoder_ids is None else decoder_ids
    if _understands_use_cache(name, encoder_decoder):
        inputs["use_cache"] = False
    return inputs


@cache
def _understands_use_cache(name: str, encoder_decoder: bool) -> bool:
    arguments = inspect.signature(_model_class(name, encoder_decoder).forward).parameters
    return "use_cache" in arguments or any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())


@torch.no_grad()
def logits_of(
    name: str,
    module: nn.Module,
    ids: Tensor,
    *,
    encoder_decoder: bool = False,
    decoder_ids: Tensor | None = None,
) -> Tensor:
    """Logits [batch, position, d_vocab], whatever the module wraps them in.

    Of a model with codebooks, which returns [batch x codebook, position, d_vocab], those of the first codebook.

    Args:
        name: Model type.
        module: A model of that family.
        ids: Token ids [batch, position].
        encoder_decoder: Whether the model of encoder and decoder is meant.
        decoder_ids: Token ids of the decoder [batch, position], those of the encoder unless given.
    """
    output = module(**example_inputs(name, ids, encoder_decoder=encoder_decoder, decoder_ids=decoder_ids))
    return output.logits[:: tiny.CODEBOOKS.get(name, 1)]
