"""Seconds, memory, and the speed of the machine's own matrix products."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RATE_ROWS = (64, 256, 1024)
"""Rows of the products that the machine's rate is measured with; the fastest counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took.

    Attributes:
        wall_s: Seconds on the clock.
        cpu_s: Seconds of processor time, of all threads.
        peak_bytes: Largest resident memory of the process during the run.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


def measure(run: Callable[[], T]) -> tuple[T, Cost]:
    """A result and what it took."""
    resident_bytes()  # hands back what an earlier run left, so that each run pays for its own memory
    _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return result, Cost(wall_s=wall_s, cpu_s=cpu_s, peak_bytes=_peak_bytes())


def can_forget_peak() -> bool:
    """Whether the kernel lets a process measure its peak anew; without that, a peak is that of the whole process."""
    return _forget_peak()


def resident_bytes() -> int:
    """Resident memory, after everything that is free has been given back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return _of_status("VmRSS") or _life_peak_bytes()


def _forget_peak() -> bool:
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_bytes() -> int:
    return _of_status("VmHWM") or _life_peak_bytes()


def _of_status(field: str) -> int:
    """A size out of the kernel's account of this process, in bytes; 0 where there is none."""
    if not _STATUS.exists():
        return 0
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _life_peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def product_rate(shapes: Sequence[tuple[int, int]]) -> dict[int, float]:
    """Speed of `torch.mm` with weights of given shapes [out, in], in 10⁹ operations a CPU second, by number of rows.

    The weights of one layer in turn, as a model uses them; the best of three passes.
    """
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator).t() for shape in shapes]
    rates = {}
    for n_rows in _RATE_ROWS:
        inputs = [torch.randn(n_rows, weight.shape[0], generator=generator) for weight in weights]
        n_flop = sum(2 * n_rows * weight.numel() for weight in weights)
        n_passes = min(100, max(1, int(1e9 / n_flop)))  # enough to be seen by a clock of processor time
        seconds = []
        for _ in range(4):
            began = time.process_time()
            for _ in range(n_passes):
                for given, weight in zip(inputs, weights, strict=True):
                    torch.mm(given, weight)
            seconds.append((time.process_time() - began) / n_passes)
        rates[n_rows] = n_flop / min(seconds[1:]) / 1e9
    return rates
