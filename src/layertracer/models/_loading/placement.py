"""Device and floating-point type in which a model runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from layertracer._errors import UnknownNameError, UsageError, printable_cause

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types in which a model can be loaded, by name."""

_SHORT_NAMES = {"fp32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}

_DEVICE_KINDS = ("cpu", "cuda", "mps", "xpu")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device that is meant, checked to exist.

    Args:
        device: "auto" (a CUDA GPU, else an Apple GPU that works, else the CPU), "cpu", "cuda", "cuda:1", "mps",
            "xpu", or a `torch.device`.

    Raises:
        UsageError: If the name means nothing, or this machine has no such device.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return _best_device()
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(_unknown_device(device)) from printable_cause(error)
    if wanted.type not in _DEVICE_KINDS:
        raise UsageError(_unknown_device(device))
    n_devices = _count_devices(wanted.type)
    if (wanted.index or 0) >= n_devices:
        raise UsageError(
            f"device={str(device)!r} is not there: this machine has {n_devices} {wanted.type} device(s), counted from "
            f"0. Use device='auto', or one of: {', '.join(_names_of_devices())}."
        )
    return wanted


def resolve_dtype(dtype: str | torch.dtype = "auto", device: torch.device | None = None) -> torch.dtype | None:
    """The floating-point type that is meant; None means the checkpoint's own.

    "auto" is float32 on the CPU, where bfloat16 is slow on most machines and costs precision for nothing, and the
    checkpoint's own type on every other device.

    Args:
        dtype: "auto", "float32", "bfloat16", "float16", or one of these as a `torch.dtype`.
        device: Where the model will run; None is the CPU.

    Raises:
        UsageError: If it is any other type.

    Example:
        >>> resolve_dtype("auto", torch.device("cpu"))
        torch.float32
    """
    if isinstance(dtype, str):
        dtype = dtype.strip().lower().removeprefix("torch.")
        dtype = _SHORT_NAMES.get(dtype, dtype)
    if dtype == "auto":
        return torch.float32 if device is None or device.type == "cpu" else None
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not any(chosen is known for known in DTYPES.values()):
        raise UsageError(
            f"dtype={str(dtype)!r} is not a type that a model can be loaded in. Use 'auto', "
            f"{', '.join(map(repr, DTYPES))}."
        )
    return chosen


DeviceMap: TypeAlias = str | Mapping[str, int | str | torch.device]
"""How a model is spread: a strategy of accelerate, or the place of every part by its name."""

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways in which accelerate spreads a model over GPUs, main memory and disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a model's weights go.

    Attributes:
        device: Where it runs; with a map, the device that decides about the floating-point type.
        device_map: How it is spread, as transformers takes it; None for a single device.
        offload_folder: Folder for weights that are offloaded to disk; None where none is given.
    """

    device: torch.device
    device_map: DeviceMap | None = None
    offload_folder: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` is told."""
        if self.device_map is not None:
            folder = {} if self.offload_folder is None else {"offload_folder": str(self.offload_folder)}
            return {"device_map": self.device_map, **folder}
        # Straight onto a GPU, past the main memory; on the CPU there is nothing to place.
        return {} if self.device.type == "cpu" else {"device_map": {"": self.device}}

    @property
    def description(self) -> str:
        """The place in words, for messages."""
        return str(self.device) if self.device_map is None else "the devices of its device_map"


def resolve_placement(
    device: str | torch.device = "auto",
    *,
    device_map: DeviceMap | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> Placement:
    """The places that are meant, checked to exist.

    Args:
        device: See `resolve_device`; with a map it must be left at "auto".
        device_map: One of `STRATEGIES`, or for every part of the model, by its name, a device or "disk".
        offload_folder: Where weights that are offloaded to disk are kept, if they cannot be read from the checkpoint.

    Raises:
        UsageError: If a name means nothing, this machine has no such device, or two options say the same thing.
    """
    if device_map is None:
        if offload_folder is not None:
            raise UsageError(
                "offload_folder is for weights that a device_map offloads to disk, and there is no device_map. Add "
                "device_map='auto', or leave it out."
            )
        return Placement(device=resolve_device(device))
    if device != "auto":
        raise UsageError(f"device={str(device)!r} and a device_map both say where the model goes. Give one of them.")
    folder = None if offload_folder is None else Path(offload_folder).expanduser()
    if isinstance(device_map, str):
        if device_map not in STRATEGIES:
            raise UnknownNameError.among("device_map", device_map, STRATEGIES)
        return Placement(device=_best_device(), device_map=device_map, offload_folder=folder)
    places = {part: _resolve_place(place) for part, place in device_map.items()}
    if not places:
        raise UsageError("device_map is empty. Give a place for every part of the model, or device_map='auto'.")
    main = next((place for place in places.values() if isinstance(place, torch.device)), torch.device("cpu"))
    return Placement(device=main, device_map=places, offload_folder=folder)


def _resolve_place(place: int | str | torch.device) -> str | torch.device:
    """One entry of a map; accelerate knows the main memory and the disk by their names only."""
    if place == "disk":
        return "disk"
    accelerator = torch.accelerator.current_accelerator()
    kind = "cuda" if accelerator is None else accelerator.type
    device = resolve_device(f"{kind}:{place}" if isinstance(place, int) else place)
    return "cpu" if device.type == "cpu" else device


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available() and _computes(torch.device("mps")):
        return torch.device("mps")
    return torch.device("cpu")


def _computes(device: torch.device) -> bool:
    """Whether the device computes what a readout needs: some that report themselves available do not."""
    try:
        return bool(torch.ones(2, device=device).log_softmax(0).isfinite().all())
    except (RuntimeError, NotImplementedError):  # what an operator raises that the device does not have
        return False


def _count_devices(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "xpu":
        return torch.xpu.device_count() if torch.xpu.is_available() else 0
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    return 1


def _names_of_devices() -> list[str]:
    counts = {kind: _count_devices(kind) for kind in _DEVICE_KINDS}
    return [kind if kind in {"cpu", "mps"} else f"{kind}:{index}" for kind, n in counts.items() for index in range(n)]


def _unknown_device(device: str | torch.device) -> str:
    return f"Unknown device {str(device)!r}. Use device='auto', or one of: {', '.join(_names_of_devices())}."
