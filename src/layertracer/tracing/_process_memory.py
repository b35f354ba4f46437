"""What a process takes beyond the tensors that are live in it.

An allocator keeps what was freed, in pieces that do not always fit what is asked for next; and whatever the tensors
are, a trace loads code, measures rates, and keeps its prompts and its numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psutil

from layertracer.models import Network
from layertracer.tracing._prompts import Prompt

_LEAST_BYTES = 40 * 2**20
"""Of the smallest trace of the smallest model: code that is loaded, and the tensors that rates are measured with, which
are gone before it begins."""
_STANDING_BYTES = 16 * 2**20
"""What is there beside the tensors of a pass: code that is loaded, and what kernels keep for themselves."""
_SLACK = 2.0
"""How many times the live bytes a process grows by on a CPU, at most as good as always; see `benchmarks/memory.py`."""
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
    """

    standing_bytes: int = 0
    slack: float = 1.0
    least_bytes: int = 0

    def of(self, live_bytes: float) -> int:
        """What it grows by."""
        return int(max(self.least_bytes + live_bytes / _FEW, self.standing_bytes + self.slack * live_bytes))

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
    return ProcessGrowth(standing_bytes=_STANDING_BYTES + more, slack=_SLACK, least_bytes=_LEAST_BYTES + more)


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
        """What was freed goes back to the system where too much is held."""
        if self._process.memory_info().rss > self._most_bytes:
            give_back()

    @contextmanager
    def between_layers(self, network: Network) -> Iterator[None]:
        """Keeps on before every layer that runs in the block.

        Each layer of a ladder has more rows than the one before, so that no piece that one has freed is large enough
        for the next: without this a pass of 30 layers held four times what was live.
        """
        with ExitStack() as stack:
            for layer in network.anatomy.layers if network.device.type == "cpu" else ():
                handle = layer.module.register_forward_pre_hook(lambda *_: self.keep())
                stack.callback(handle.remove)
            yield


def give_back() -> None:
    """Have the allocator return what it keeps to the system, where it is one that can be asked."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
