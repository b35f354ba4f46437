"""How fast this machine is, measured in a few milliseconds: what turns arithmetic and bytes into seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import torch

from layertracer.tracing._batching.process_memory import give_back
from layertracer.tracing._planning.pass_cost import Effort

_WIDTH, _ROWS = 576, 256
"""Sizes of the product of matrices that is timed, those of a small model's pass."""
_N_ENTRIES = (2**20, 2**21)
"""Of tensors that an allocator has at hand, and of such that the system gives and takes back each time: on a CPU the
latter are several times slower, and a pass has both."""
_N_SMALL = 200
_SHORTEST_S, _FEWEST_RUNS = 0.005, 4


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
def _measure(device: torch.device, dtype: torch.dtype, n_threads: int) -> Rates:
    del n_threads  # one of the keys under which the answer is kept
    dtype = dtype if dtype.is_floating_point else torch.float32
    rows, weights = torch.ones(_ROWS, _WIDTH, device=device, dtype=dtype), torch.ones(_WIDTH, 4 * _WIDTH, device=device)
    weights = weights.to(dtype)
    few = torch.ones(8, device=device, dtype=dtype)
    return Rates(
        flops=2 * _ROWS * _WIDTH * 4 * _WIDTH / _time(lambda: rows @ weights, device),
        traffic=1 / fmean(_seconds_per_byte(n_entries, device, dtype) for n_entries in _N_ENTRIES),
        operators=_N_SMALL / _time(lambda: [few + few for _ in range(_N_SMALL)], device),
    )


def _seconds_per_byte(n_entries: int, device: torch.device, dtype: torch.dtype) -> float:
    """What an elementwise operator takes for each byte that it reads or writes."""
    give_back()  # what was measured before must not be there as well
    entries = torch.ones(n_entries, device=device, dtype=dtype)
    return _time(lambda: torch.nn.functional.silu(entries) * entries, device) / (5 * entries.nbytes)


def _time(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run, the best of a few."""
    best, spent, n_runs = float("inf"), 0.0, 0
    run()
    while spent < _SHORTEST_S or n_runs < _FEWEST_RUNS:
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        took = time.perf_counter() - began
        best, spent, n_runs = min(best, took), spent + took, n_runs + 1
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
