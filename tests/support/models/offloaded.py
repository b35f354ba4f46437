"""Models whose weights accelerate loads when they are needed, and how often it does."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload, disk_offload
from torch import Tensor, nn

OFFLOADS = ("main memory", "disk")


def offloaded(module: nn.Module, where: str, folder: Path) -> nn.Module:
    """A copy of a module, offloaded as a whole; it computes on the CPU."""
    twin, device = copy.deepcopy(module), torch.device("cpu")
    if where == "disk":
        disk_offload(twin, str(folder), execution_device=device)
    else:
        cpu_offload(twin, execution_device=device)
    assert {parameter.device.type for parameter in twin.parameters()} == {"meta"}
    return twin


class CountingWeights(Mapping[str, Tensor]):
    """A map of weights that counts how often each is asked for.

    Args:
        weights: The map.
        prefix: Name of the module that asks, with a dot.
        loads: Where it is counted, by the parameter's full name.
    """

    def __init__(self, weights: Mapping[str, Tensor], prefix: str, loads: Counter[str]) -> None:
        self._weights, self._prefix, self._loads = weights, prefix, loads

    def __getitem__(self, name: str) -> Tensor:
        """The weight, counted."""
        self._loads[f"{self._prefix}{name}"] += 1
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._weights)

    def __len__(self) -> int:
        """Number of weights."""
        return len(self._weights)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a weight; asking for that is no load."""
        return name in self._weights


def count_loads(module: nn.Module) -> Counter[str]:
    """Counts from now on how often each offloaded parameter is loaded."""
    loads: Counter[str] = Counter()
    for path, part in module.named_modules():
        hook: Any = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):
            if getattr(one, "offload", False):
                one.weights_map = CountingWeights(one.weights_map, f"{path}." if path else "", loads)
    return loads
