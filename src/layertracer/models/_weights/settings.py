"""Settings beside the weights that a network computes with: configuration, scales, rotary tables, adapters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layertracer.models._weights.digests import digest_values

_NO_MATTER = re.compile(
    r"^_|drop|init|^(torch_)?dtype$|version|name_or_path|^architectures$|^auto_map$|attn_implementation|^output_|"
    r"^return_dict|^use_cache$|^use_return_dict$|^tie_|id2label|label2id|num_labels|problem_type|task_specific|"
    r"finetuning_task|tokenizer_class|^(bos|eos|pad|sep|unk|cls|mask)_token_id$|^is_decoder$|pruned_heads|"
    r"chunk_size_feed_forward|^pretraining_tp$|^n_ctx$|^n_positions$|^feed_forward_length$|^transformers_|router_aux_loss|aux_loss_coef|gradient_checkpointing"
)
"""Names of settings that no forward in evaluation reads, or whose effect lies in the weights' names and types."""

_UNSET = {"partial_rotary_factor": 1}
"""Values that are the same as none at all."""

_RUNNING_TYPES = ("dynamic", "longrope")
"""Kinds of rotary positions whose table changes with the length of what is read."""

_ADAPTER_STATE = ("active_adapters", "active_adapter", "disable_adapters", "_adapters_disabled", "merged_adapters")


def describe_settings(module: nn.Module) -> Iterator[str]:
    """Lines that say what a network computes with beside its weights, in an order of their own.

    Laws: the same before and after a run; the same for a model and for one that its files were written from. Numbers
    are given to six digits, since files hold some of them in float32; a whole number is the same in every type.

    Args:
        module: Any network.
    """
    to_dict = getattr(getattr(module, "config", None), "to_dict", None)
    if callable(to_dict):
        yield from sorted(_flatten("config", _quietly(to_dict) or {}))
    for path, part in sorted(module.named_modules(), key=lambda named: named[0]):
        yield from (f"{path!r}\t{line}" for line in (*_scales(part), *_adapter_state(part), *_other_rotations(part)))


def _flatten(name: str, value: Any) -> Iterator[str]:
    """A line for every value within a value; of what is unset or empty there is none."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not (isinstance(key, str) and (_NO_MATTER.search(key) or _UNSET.get(key) == one)):
                yield from _flatten(f"{name}.{key}", one)
    elif isinstance(value, list | tuple | set | frozenset):
        inside = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        for index, one in enumerate(inside):
            yield from _flatten(f"{name}[{index}]", one)
    elif value is not None:
        yield f"{name!r}\t{_say(value)}"


def _say(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.6g}"
    # What an object of a class of its own says of itself may hold its address.
    return repr(value) if isinstance(value, str | bool | int) else type(value).__name__


def _scales(part: nn.Module) -> Iterator[str]:
    """Numbers that a module keeps as plain attributes: what it adds to a variance, multiplies by or caps at."""
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return
    for name, value in sorted(vars(part).items()):
        if type(value) is float and not _NO_MATTER.search(name):
            yield f"{name!r}\t{_say(value)}"


def _adapter_state(part: nn.Module) -> Iterator[str]:
    """Which adapters of peft act in a module, and by how much; nothing where it has none."""
    for name in _ADAPTER_STATE:
        try:
            value = getattr(part, name, None)
        except Exception:  # noqa: BLE001 - a property of somebody's own class
            continue
        if isinstance(value, str | bool | list | tuple):  # some models have methods of these names
            yield from _flatten(name, value)
    scaling = vars(part).get("scaling")
    if isinstance(scaling, Mapping):
        yield from sorted(_flatten("scaling", scaling))


def _other_rotations(part: nn.Module) -> Iterator[str]:
    """Tables of rotary frequencies that are not what the configuration makes of them, as rounded or exchanged ones."""
    names = [name for name in part._non_persistent_buffers_set if name.endswith("inv_freq") and "original" not in name]
    if not names or any(kind in str(getattr(part, "rope_type", "")) for kind in _RUNNING_TYPES):
        return
    fresh = _quietly(lambda: _built_anew(part))
    for name in sorted(names):
        table, expected = part._buffers.get(name), getattr(fresh, name, None)
        if isinstance(table, Tensor) and not table.is_meta and not _are_close(table, expected):
            yield f"{name!r}\t{table.dtype}\t{digest_values(table)}"


def _built_anew(part: Any) -> Any:
    with torch.device("cpu"):
        return type(part)(part.config)


def _are_close(table: Tensor, expected: object) -> bool:
    """Whether two tables differ by no more than devices do."""
    if not isinstance(expected, Tensor) or table.shape != expected.shape:
        return False
    return torch.allclose(table.detach().cpu().double(), expected.double(), rtol=1e-5, atol=0.0)


def _quietly(ask: Callable[[], Any]) -> Any:
    """What a model's own code says; None where it fails, for a record must not be lost to it."""
    try:
        return ask()
    except Exception:  # noqa: BLE001 - somebody's own classes raise whatever they like
        return None
