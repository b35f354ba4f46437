"""Devices and floating-point types."""

from __future__ import annotations

import pytest
import torch

from layertracer import UsageError
from layertracer.models._loading.placement import resolve_device, resolve_dtype


class TestPlacement:
    """Devices and types."""

    def test_auto_is_a_device_that_is_there(self) -> None:
        """device='auto' is a GPU where there is one, else the CPU."""
        device = resolve_device("auto")
        assert resolve_device(device) == device
        assert device.type == "cuda" if torch.cuda.is_available() else device.type in {"cpu", "mps"}

    @pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta", "cpu:"])
    def test_unknown_device(self, device: str) -> None:
        """A device that means nothing is an error with the devices of this machine."""
        with pytest.raises(UsageError, match=r"Unknown device .*one of: cpu"):
            resolve_device(device)

    def test_absent_device(self) -> None:
        """A GPU that this machine lacks is an error with the number that it has."""
        n_gpus = torch.cuda.device_count()
        with pytest.raises(UsageError, match=rf"'cuda:{n_gpus}' is not there: this machine has {n_gpus} cuda device"):
            resolve_device(f"cuda:{n_gpus}")

    def test_auto_type(self) -> None:
        """dtype='auto' is float32 on the CPU and the checkpoint's own on a GPU."""
        assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
        assert resolve_dtype("auto", torch.device("cuda")) is None

    @pytest.mark.parametrize("dtype", ["float64", "int8", "fp8", torch.int8, torch.float64])
    def test_unknown_type(self, dtype: str | torch.dtype) -> None:
        """A type that no model is loaded in is an error with those that are."""
        with pytest.raises(UsageError, match="'auto', 'float32', 'bfloat16', 'float16'"):
            resolve_dtype(dtype)
