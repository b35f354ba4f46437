"""Memory budget: how many rows fit into memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from layertracer._errors import OutOfMemoryError, UsageError
from layertracer.models import Network, execution_devices
from layertracer.tracing._batching.memory_limits import free_bytes

_UNITS: Mapping[str, int] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
SHARE_OF_FREE = 0.8
"""How much of what may still be taken is used where nobody says."""
_ENOUGH_ON_CPU = 64 * 2**20
_ENOUGH_POSITIONS = 2048
"""On a CPU larger passes are slower: tensors beyond 32 MiB are taken from the system and given back each time, which
cost a tenth more on SmolLM2. A wide model still gets enough positions for its products of matrices."""
_LARGEST_CHUNK = 256 * 2**20
"""Largest chunk of logits; larger ones are no faster."""


def parse_memory(text: str | int) -> int:
    """A memory size in bytes.

    Example:
        >>> parse_memory("8GiB"), parse_memory("500MB")
        (8589934592, 500000000)

    Raises:
        UsageError: If it is no positive number with a unit of B, kB, MB, GB, KiB, MiB or GiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(text), flags=re.IGNORECASE)
    n_bytes = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if n_bytes <= 0:
        raise UsageError(
            f"Memory must be a positive size such as 8GiB or 500MB, got {text!r}. Give a number and a unit."
        )
    return n_bytes


def default_budget_bytes(network: Network) -> int:
    """Most of what is free; where a model is spread over several GPUs, of what is free on the fullest one.

    On a CPU, that is what the machine and every limit of this process leave: a container's, a scheduler's, a shell's.
    """
    accelerators = [device for device in execution_devices(network.module) if device.type == "cuda"]
    if accelerators:
        return int(min(torch.cuda.mem_get_info(device)[0] for device in accelerators) * SHARE_OF_FREE)
    return int(free_bytes() * SHARE_OF_FREE)


def enough_bytes(network: Network) -> int | None:
    """How much the inside of a layer may take on a CPU before larger passes are slower; None on other devices."""
    if network.device.type != "cpu":
        return None
    return max(_ENOUGH_ON_CPU, _ENOUGH_POSITIONS * row_bytes(network, 1))


def fast_bytes(network: Network, budget_bytes: int | None = None) -> int:
    """What a pass without perturbed copies may take: the budget, or less where less is faster."""
    budget_bytes = default_budget_bytes(network) if budget_bytes is None else budget_bytes
    enough = enough_bytes(network)
    return budget_bytes if enough is None else min(budget_bytes, enough)


def chunk_bytes(budget_bytes: int) -> int:
    """What a chunk of logits may take: a quarter of the budget, since rows and memories are there beside it."""
    return min(budget_bytes // 4, _LARGEST_CHUNK)


def row_bytes(network: Network, length: int) -> int:
    """Estimate of what one row of a pass takes at the busiest moment, in bytes.

    The stream and its copies, the widest projection inside a layer with its activations, and attention
    weights where they are written out.
    """
    anatomy = network.anatomy
    itemsize = torch.empty((), dtype=network.dtype).element_size()
    widest = max((_widest(layer.module) for layer in anatomy.layers), default=anatomy.d_model)
    heads = max(1, anatomy.d_model // 64)
    return length * (6 * anatomy.d_model + 3 * widest) * itemsize + 2 * heads * length * length * itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """How much goes into one pass.

    Attributes:
        n_prompts: Prompts at a time.
        n_variants: Perturbed copies of each, at most.
        n_states: Copies of each in one step of the pass over the layers' caches, at most.
        multiple: How many prompts must stay together.
        shortage: 2 to the power of how often memory ran out.
    """

    n_prompts: int
    n_variants: int
    n_states: int = 1
    multiple: int = 1
    shortage: int = 1

    @property
    def is_smallest(self) -> bool:
        """Whether nothing is left to halve."""
        return self.n_prompts <= self.multiple and self.n_variants == 1 and self.n_states == 1

    def halved(self) -> PassPlan:
        """Half the prompts; where there is only one, half its perturbed copies."""
        if self.n_prompts > self.multiple:
            n_groups = self.n_prompts // self.multiple // 2
            return replace(self, n_prompts=max(1, n_groups) * self.multiple, shortage=2 * self.shortage)
        n_variants, n_states = max(1, self.n_variants // 2), max(1, self.n_states // 2)
        return replace(self, n_variants=n_variants, n_states=n_states, shortage=2 * self.shortage)

    def passes(self, variants: Sequence[tuple[int, int]]) -> tuple[Mapping[int, Sequence[int]], ...]:
        """Draws by layer for each pass; late layers come together, since their copies ride the shortest way.

        Args:
            variants: Layers and draws, by layer.
        """
        chunks: list[dict[int, list[int]]] = []
        for start in range(0, len(variants), self.n_variants):
            chunk: dict[int, list[int]] = {}
            for layer, draw in variants[start : start + self.n_variants]:
                chunk.setdefault(layer, []).append(draw)
            chunks.append(chunk)
        return tuple(chunks) or ({},)


def out_of_memory(network: Network, length: int) -> OutOfMemoryError:
    """The error for a prompt of which not even one perturbed copy fits."""
    needed = 2 * row_bytes(network, length) / 2**20
    return OutOfMemoryError(
        f"Out of memory with one prompt of {length} tokens and one perturbed copy of it (about {needed:.0f} MiB beyond "
        f"the weights of {network.name!r}). Use shorter prompts, a smaller model, or a machine with more memory."
    )


def plan_pass(bytes_per_row: int, *, n_variants: int, n_prompts: int, budget_bytes: int) -> PassPlan:
    """The largest pass within the budget: all perturbed copies of as many prompts as fit, else fewer copies of one."""
    n_rows = max(1, budget_bytes // bytes_per_row)
    fitting = n_rows // (1 + n_variants)
    if fitting >= 1:
        return PassPlan(n_prompts=min(n_prompts, fitting), n_variants=max(1, n_variants))
    return PassPlan(n_prompts=1, n_variants=max(1, n_rows - 1))


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, where each one that is smaller fits too; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _widest(module: nn.Module) -> int:
    return max((parameter.shape[0] for parameter in module.parameters() if parameter.ndim == 2), default=0)
