"""How fast this machine is, measured in a few milliseconds: what turns arithmetic and bytes into seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from layertracer.tracing._pass_cost import Effort

_WIDTH, _ROWS = 576, 256
"""Sizes of the product of matrices that is timed, those of a small model's pass."""
_N_ENTRIES = 2**22
_N_SMALL = 200
_SHORTEST_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device does in a second.

    Attributes:
        flops: Floating-point operations of a product of matrices.
        traffic: Bytes that an elementwise operator reads and writes.
        operators: Operators on next to no data.
    """

    flops: float
    traffic: float
    operators: float

    def seconds(self, effort: Effort, *, weight_bytes: float) -> float:
        """Estimate of the time that some work takes; each pass reads that many bytes of weights."""
        moved = effort.traffic + effort.n_passes * weight_bytes
        return effort.flops / self.flops + moved / self.traffic + effort.n_operators / self.operators


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The rates of a device for one type of number, with as many threads as PyTorch uses now."""
    return _measure(device, dtype, torch.get_num_threads())


@lru_cache
@torch.inference_mode()
def _measure(device: torch.device, dtype: torch.dtype, n_threads: int) -> Rates:
    del n_threads  # one of the keys under which the answer is kept
    dtype = dtype if dtype.is_floating_point else torch.float32
    rows, weights = torch.ones(_ROWS, _WIDTH, device=device, dtype=dtype), torch.ones(_WIDTH, 4 * _WIDTH, device=device)
    weights = weights.to(dtype)
    entries, few = torch.ones(_N_ENTRIES, device=device, dtype=dtype), torch.ones(8, device=device, dtype=dtype)
    return Rates(
        flops=2 * _ROWS * _WIDTH * 4 * _WIDTH / _time(lambda: rows @ weights, device),
        traffic=5 * entries.nbytes / _time(lambda: torch.nn.functional.silu(entries) * entries, device),
        operators=_N_SMALL / _time(lambda: [few + few for _ in range(_N_SMALL)], device),
    )


def _time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, the best of a few."""
    best, spent = float("inf"), 0.0
    run()
    while spent < _SHORTEST_S:
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + max(took, 1e-6)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
