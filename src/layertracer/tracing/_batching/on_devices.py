"""Tensors that are copied to a device once, however often they are needed there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class OnDevices:
    """A tensor with its copies on other devices.

    Masks and fills belong to the layers, which may compute on several devices. A copy to an accelerator makes the
    program wait for it, so that there is one for each device and not one for each layer or pass.

    Args:
        tensor: The tensor; it is not changed afterwards.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._copies: dict[torch.device, Tensor] = {tensor.device: tensor}

    @property
    def shape(self) -> torch.Size:
        """Its shape."""
        return self._tensor.shape

    def on(self, device: torch.device) -> Tensor:
        """The tensor on a device."""
        if device not in self._copies:
            self._copies[device] = self._tensor.to(device)
        return self._copies[device]


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the CPU; the program waits for an accelerator once for all of them."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.device.type != "cpu"}:
        torch.accelerator.synchronize(device)
    return copies
