"""Weights of a checkpoint that the model has no place for: what a user is told of them.

transformers leaves them out and says so in a table of its own, which also lists what never took part: buffers that are
computed today, towers for images, heads of other tasks. A layer that config.json does not count is no such thing.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from layertracer.models._loading.loading_report import some_of

logger = logging.getLogger("layertracer")

_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb|rotary_pos_emb|rope)\.|\.(inv_freq|cos_cached|sin_cached|masked_bias|_extra_state)$"
    r"|(^|\.)position_ids$|(^|\.)h\.\d+\.attn(\.attention)?\.bias$|\.attention\.bias$"
)
"""Tables that were once kept with the weights and are computed now: rotations, masks, positions."""

_OTHER_HEADS = re.compile(r"^(score|classifier|v_head|value_head|qa_outputs|pooler|cls|reward_head|summary)\.")
_OTHER_SENSES = re.compile(
    r"(^|\.)(vision|visual|image|img|audio|video|speech|multi_modal|multimodal|mm_|siglip|vqmodel|embed_vision"
    r"|embed_audio|talker|token2wav|code2wav|resampler|connector|patch_embed)\w*(\.|$)"
)
_EXTRA_PREDICTIONS = re.compile(r"(^|\.)(mtp|nextn|eagle|medusa)\w*(\.|$)")
_N_EXTRA_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules")
"""In a configuration: how many blocks behind the last layer predict further tokens."""


def describe_unused(module: nn.Module, unused: Iterable[str], raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """What to tell the user of weights that were left out; what never takes part is logged quietly.

    Args:
        module: The model.
        unused: Names of the weights without a place.
        raw_config: The checkpoint's config.json.
    """
    names = sorted(unused)
    harmless = [name for name in names if _is_harmless(name)]
    beyond = _layers_beyond(module, set(names) - set(harmless))
    extra = {name for name, place in beyond.items() if _predicts_further(place, raw_config)}
    if harmless or extra:
        quiet = sorted({*harmless, *extra})
        logger.info("Not used: %d weight(s) that take no part in the next token: %s.", len(quiet), some_of(quiet))
    layers = {name: place for name, place in beyond.items() if name not in extra}
    others = [name for name in names if name not in beyond and not _is_harmless(name)]
    notes = [_describe_layers(layers)] if layers else []
    if others:
        notes.append(
            f"The checkpoint holds {len(others)} weight(s) that {type(module).__name__} does not use: "
            f"{some_of(others)}. The model that they were trained in may be another one than this code builds, and "
            "every number may be off: look for a newer transformers, or for code of its own (trust_remote_code=True)."
        )
    return tuple(notes)


def _is_harmless(name: str) -> bool:
    return any(kind.search(name) for kind in (_BUFFERS, _OTHER_HEADS, _OTHER_SENSES, _EXTRA_PREDICTIONS))


def _layers_beyond(module: nn.Module, names: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """For each weight of a layer that a list of layers does not have: the list, its length, and the layer's index."""
    lists = {path: len(part) for path, part in module.named_modules() if isinstance(part, nn.ModuleList)}
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    lists |= {
        path.removeprefix(prefix): n for path, n in lists.items()
    }  # as weights of a model without a head are called
    found = {}
    for name in names:
        parts = name.split(".")
        for n, part in enumerate(parts):
            path = ".".join(parts[:n])
            if part.isdigit() and path in lists and int(part) >= lists[path]:
                found[name] = (path, lists[path], int(part))
                break
    return found


def _predicts_further(place: tuple[str, int, int], raw_config: Mapping[str, Any]) -> bool:
    """Whether a layer behind the last is one of those that the configuration counts as predictions."""
    text = raw_config.get("text_config")
    configs = [raw_config, *([text] if isinstance(text, Mapping) else [])]
    counts = [config.get(key) for config in configs for key in _N_EXTRA_LAYERS]
    _, length, index = place
    return index < length + max((count for count in counts if isinstance(count, int)), default=0)


def _describe_layers(layers: Mapping[str, tuple[str, int, int]]) -> str:
    indices: dict[tuple[str, int], set[int]] = defaultdict(set)
    for path, length, index in layers.values():
        indices[path, length].add(index)
    said = [
        f"{path} has {length} layer(s), as config.json says, and the weights go up to layer {max(found)} (from 0)"
        for (path, length), found in sorted(indices.items())
    ]
    return (
        f"The checkpoint holds more layers than its config.json asks for: {'; '.join(said)}. Those beyond are left "
        "out. If the model was not meant to be cut, use the config.json that belongs to these weights."
    )
