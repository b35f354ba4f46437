"""Where a model runs and in which floating-point type."""

from __future__ import annotations

import torch

from layertracer._errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types in which a model can be loaded, by name."""

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
    except RuntimeError as error:
        raise UsageError(_unknown_device(device)) from error
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
    if dtype == "auto":
        return torch.float32 if device is None or device.type == "cpu" else None
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in DTYPES.values():
        raise UsageError(
            f"dtype={str(dtype)!r} is not a type that a model can be loaded in. Use 'auto', "
            f"{', '.join(map(repr, DTYPES))}."
        )
    return chosen


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
    except (RuntimeError, NotImplementedError):
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
