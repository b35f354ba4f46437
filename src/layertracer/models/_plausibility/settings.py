"""Configuration held against its weights before the model is built: whether they can fill what it asks for.

A configuration is a few hundred bytes, and what it asks for may have no end: a million layers take hours to build, and
sizes without weights take all memory for numbers that would be random.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from layertracer._errors import ModelLoadError, OutOfMemoryError, printable_name
from layertracer.tasks import TookTooLong, within

_LAYERS = re.compile(
    r"^((num|n)_(\w+_)?(layers?|blocks?)|(encoder|decoder)_(layers?|depth)|layers?|depths?|(\w+\.)?block_count)$"
)
"""Settings that count layers; others merely end so, such as the layers up to which a window is used."""

_STACKS = frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers", "block_count"})
_WRITTEN_OUT, _MOST_POSITIONS = "max_seq_len", 10**8
"""Setting of models that write out a bias for every position of their longest text (MPT)."""

_EXPERTS = re.compile(r"((num|n)_\w*experts?|codebooks?|expert_count)$")
_SURE_LAYERS, _SURE_EXPERTS = 1_000, 100_000
"""So many may share their weights or be stored as one tensor; no known model has more (16,384 experts in Doge)."""

_PER_BYTE = 8
"""Parameters of one bit; none are stored in less."""

_SURE_PARAMETERS = 2**26
"""So many fit anywhere; where they lack weights, the report of loading says which."""

_SURE_BUFFERS_BYTES = 2**32
_BUILDING_S = 60.0
"""The skeleton of the largest models takes two seconds."""

_SHARED = "Expected the config.json that belongs to these weights. Copy the checkpoint again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the files of a checkpoint hold.

    Attributes:
        n_bytes: Their size.
        n_tensors: Number of their tensors; None where only reading them would tell.
    """

    n_bytes: int
    n_tensors: int | None = None


def refuse_countless_parts(settings: Mapping[str, Any], held: Held, label: str) -> None:
    """Refuse settings that ask for far more layers or experts than there are tensors.

    Layers may share their weights (ALBERT stores one for all), and experts may be one tensor: what is refused is more
    than any model has.

    Raises:
        ModelLoadError: With the setting.
    """
    for name, value in settings.items():
        if name in _STACKS and isinstance(value, int) and value <= 0:
            raise ModelLoadError(
                f"{label}: its configuration asks for {name} = {value}, and a model without layers cannot be traced. "
                f"{_SHARED}"
            )
        if name == _WRITTEN_OUT and isinstance(value, int | float) and value > _MOST_POSITIONS:
            raise ModelLoadError(
                f"{label}: its configuration asks for {name} = {shown_number(int(value))}, and a table of so many "
                f"positions would fill the memory. {_SHARED}"
            )
    n_held = held.n_bytes if held.n_tensors is None else held.n_tensors
    for name, value in numbers_in(settings):
        is_layers = _LAYERS.search(name) is not None
        sure = _SURE_LAYERS if is_layers else _SURE_EXPERTS if _EXPERTS.search(name) else None
        if sure is not None and value > max(sure, n_held):
            what = "bytes" if held.n_tensors is None else "tensors"
            raise ModelLoadError(
                f"{label}: its configuration asks for {printable_name(name)} = {shown_number(value)}, and its files "
                f"hold {n_held:,} {what}. {_SHARED}"
            )


def refuse_unfillable(
    build: Callable[[], nn.Module], held: Held, label: str, *, memory_bytes_per_parameter: int | None = None
) -> None:
    """Refuse a configuration whose model could not be filled from the files, or could not be held.

    Args:
        build: Builds the model; it is called where no memory is taken for weights.
        held: What the files hold.
        label: What the user calls the checkpoint.
        memory_bytes_per_parameter: What one parameter takes in main memory; None where the model is not put there.

    Raises:
        ModelLoadError: If it has absurdly more parameters or buffers, or takes too long to build.
        OutOfMemoryError: If it is larger than this machine's memory.
    """
    try:
        module = within(_BUILDING_S, lambda: _skeleton(build))
    except TookTooLong:
        raise ModelLoadError(
            f"{label}: the model that its configuration asks for was not built within {_BUILDING_S:.0f} s, without any "
            f"weights. {_SHARED}"
        ) from None
    except Exception:  # noqa: BLE001 - what loading raises in the same place says more of it
        return
    n_parameters = sum(parameter.numel() for parameter in module.parameters())
    if n_parameters > max(_SURE_PARAMETERS, _PER_BYTE * held.n_bytes):
        raise ModelLoadError(
            f"{label}: its configuration asks for {n_parameters:.3g} parameters, and its files hold "
            f"{held.n_bytes:,} bytes. {_SHARED}"
        )
    buffers_bytes = sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    if buffers_bytes > max(_SURE_BUFFERS_BYTES, 4 * held.n_bytes):
        raise ModelLoadError(
            f"{label}: its configuration asks for tables of {buffers_bytes / 1e9:,.1f} GB beside the weights, and its "
            f"files hold {held.n_bytes:,} bytes. {_SHARED}"
        )
    if memory_bytes_per_parameter is not None:
        _refuse_larger_than_memory(n_parameters * memory_bytes_per_parameter, label)


def _skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def _refuse_larger_than_memory(needed: int, label: str) -> None:
    there = psutil.virtual_memory().total + psutil.swap_memory().total
    if needed > there:
        raise OutOfMemoryError(
            f"{label} does not fit on cpu: its weights take {needed / 1e9:,.1f} GB, and this machine has "
            f"{there / 1e9:,.1f} GB. Use dtype='bfloat16', another device, device_map='auto' (all GPUs, main memory "
            "and disk), or a smaller model."
        )


def numbers_in(settings: object) -> Iterator[tuple[str, int]]:
    """Every whole number among settings and settings within them, by the name that it stands under."""
    pending = [("", settings)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Mapping):
            pending += [(str(key), one) for key, one in value.items()]
        elif isinstance(value, list):
            pending += [(name, one) for one in value]
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > _SURE_LAYERS:
            yield name, int(min(value, 10**30))


def shown_number(value: int) -> str:
    """A number with its thousands set apart, or in powers of ten where it has more than fifteen digits."""
    return f"{value:,}" if value < 10**15 else f"{value:.3g}"
