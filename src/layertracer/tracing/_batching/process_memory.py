"""What a process takes beyond the tensors that are live in it.

An allocator keeps what was freed, in pieces that do not always fit what is asked for next; and whatever the tensors
are, a trace loads code, measures rates, and keeps its prompts and its numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import psutil

from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt

_LEAST_BYTES = 40 * 2**20
"""Of the smallest trace of the smallest model: code that is loaded, and the tensors that rates are measured with, which
are gone before it begins."""
_STANDING_BYTES = 16 * 2**20
"""What is there beside the tensors of a pass: code that is loaded, and what kernels keep for themselves."""
_SLACK, _KEPT_SLACK = 2.0, 3.0
"""How many times the live bytes a process grows by on a CPU, at most as good as always; see `benchmarks/memory.py`. The
one where large tensors go back to the system at once, the other where its allocator keeps them."""
_LARGE_BYTES, _HEAP_BYTES = 2**20, 2 * 2**20
"""Tensors that are taken from the system and go back to it, and how much may be free at the end of the heap. The blocks
in which logits become numbers are smaller: they would cost a fault of every page each time."""
_MOST_IN_HEAP = 32 * 2**20
"""Up to where an allocator moves the first by itself, and half of the second, as larger tensors are freed."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_FEW = 4
"""The least bytes hold little more: a quarter of what is live counts beside them, so that a budget close to them leaves
little room."""
_PROMPT_BYTES, _TOKEN_BYTES = 6000, 120
"""Of a prompt and of each of its tokens in Python's own objects, from what is encoded to what is kept."""
_COPIES = 3
"""How often the numbers of all prompts are there: as they are filled in, picked out and put into the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGrowth:
    """What a process grows by, for the bytes that are live at most.

    Attributes:
        standing_bytes: Beside what is live.
        slack: For each byte that is live.
        least_bytes: Where next to nothing is live.
        kept_slack: As `slack`, where the allocator keeps large tensors that were freed.
    """

    standing_bytes: int = 0
    slack: float = 1.0
    least_bytes: int = 0
    kept_slack: float = 1.0

    def of(self, live_bytes: float) -> int:
        """What it grows by."""
        return int(max(self.least_bytes + live_bytes / _FEW, self.standing_bytes + self.slack * live_bytes))

    def within(self, budget_bytes: int, live_bytes: float) -> ProcessGrowth:
        """How it grows: keeping what was freed, which is faster, where there is room for that."""
        keeping = replace(self, slack=max(self.slack, self.kept_slack))
        return keeping if keeping.of(live_bytes) <= budget_bytes else self

    def live_within(self, budget_bytes: int) -> int:
        """How much may be live for it to grow by no more than that; 0 where nothing may."""
        beside_the_least = (budget_bytes - self.least_bytes) * _FEW
        return max(0, int(min(beside_the_least, (budget_bytes - self.standing_bytes) / self.slack)))


def growth_of_trace(
    network: Network, prompts: Sequence[Prompt], *, n_draws: int, n_top: int, bank_bytes: int = 0
) -> ProcessGrowth:
    """How a trace of some prompts grows; on an accelerator, only tensors count, and its allocator wastes little.

    Args:
        network: The model.
        prompts: All prompts.
        n_draws: Draws of the perturbation.
        n_top: Most probable tokens that are kept for each prompt and layer.
        bank_bytes: Values that masked dimensions may become.
    """
    if network.device.type != "cpu":
        return ProcessGrowth()
    numbers = 4 * network.anatomy.n_layers * (3 + 2 * n_top + n_draws)
    per_prompt = _PROMPT_BYTES + _COPIES * numbers
    n_tokens = sum(len(prompt.ids) for prompt in prompts)
    more = bank_bytes + len(prompts) * per_prompt + n_tokens * _TOKEN_BYTES
    return ProcessGrowth(
        standing_bytes=_STANDING_BYTES + more, slack=_SLACK, least_bytes=_LEAST_BYTES + more, kept_slack=_KEPT_SLACK
    )


class Keeper:
    """Keeps what an allocator holds on to within bounds.

    Args:
        growth_bytes: What the process may grow by, from now on, before it is asked to give back what is free.
    """

    def __init__(self, growth_bytes: int) -> None:
        give_back()
        self._process = psutil.Process()
        self._most_bytes = self._process.memory_info().rss + growth_bytes

    def keep(self) -> None:
        """What was freed goes back to the system where too much is held, and large tensors do from then on."""
        if self._process.memory_info().rss > self._most_bytes:
            _return_large()

    @contextmanager
    def between_layers(self, network: Network) -> Iterator[None]:
        """Keeps on before every layer that runs in the block, and before what is outside of them: the logits.

        Each layer of a ladder has more rows than the one before, so that no piece that one has freed is large enough
        for the next: without this a pass of 30 layers held four times what was live.
        """
        if network.device.type != "cpu":
            yield
            return
        outside = (module for module in network.outer_modules if next(module.children(), None) is None)
        with ExitStack() as stack:
            for module in (*(layer.module for layer in network.anatomy.layers), *outside):
                handle = module.register_forward_pre_hook(lambda *_: self.keep())
                stack.callback(handle.remove)
            stack.callback(_keep_large)
            yield


def give_back() -> None:
    """Have the allocator return what it keeps to the system, where it is one that can be asked."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def returning_large_tensors(*, applies: bool = True) -> Iterator[None]:
    """Takes large tensors from the system and gives them back at once, where the allocator can be told to.

    It otherwise learns from each tensor that is freed to keep larger ones: pieces of many lengths then lie side by
    side, and a process held four times what was live. What comes fresh from the system costs a fault of every page.

    Args:
        applies: Whether anything is done at all.
    """
    if not applies:
        yield
        return
    _return_large()
    try:
        yield
    finally:
        _keep_large()


def _return_large() -> None:
    _set_thresholds(_LARGE_BYTES, _HEAP_BYTES)
    give_back()


def _keep_large() -> None:
    _set_thresholds(_MOST_IN_HEAP, 2 * _MOST_IN_HEAP)


def _set_thresholds(mapped_bytes: int, heap_bytes: int) -> None:
    with suppress(OSError, AttributeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_MMAP_THRESHOLD, mapped_bytes)
        allocator.mallopt(_TRIM_THRESHOLD, heap_bytes)
