"""Rows of a vocabulary's length, a block at a time.

An elementwise operation on a tensor that does not fit into a core's cache waits for memory; a dozen of them in a row,
each with a fresh result, wait a dozen times. On a CPU the reductions therefore take a few rows at a time through all of
their steps. On other devices a block is everything: there a small kernel costs as much as a large one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence

import torch

_NUMBERS_PER_CORE = 2**17
"""Half a MiB of float32, of which the four or so that are in use at a time stay in a cache of 2 MiB. With half or twice
as many the reductions take about as long, with eight times as many half as long again."""

Index = tuple[slice | int, ...]
"""Where a block is, among the leading axes."""


def block_size(device: torch.device) -> int:
    """Numbers in a block, at most; a row may be longer."""
    return _NUMBERS_PER_CORE * torch.get_num_threads() if device.type == "cpu" else sys.maxsize


def blocks(shape: Sequence[int], row_size: int, device: torch.device) -> Iterator[Index]:
    """Where the blocks of a tensor are, in the order of its rows.

    Args:
        shape: The tensor's leading axes; every combination of them is one row.
        row_size: Numbers in a row.
        device: Where the tensor is.

    Yields:
        What the leading axes are indexed with. A row is never divided.
    """
    size = block_size(device)
    if math.prod(shape) * row_size <= size:
        yield (slice(None),) * len(shape)
    elif len(shape) == 0:
        yield ()
    elif (inner_size := math.prod(shape[1:]) * row_size) > size and len(shape) > 1:
        for first in range(shape[0]):
            for rest in blocks(shape[1:], row_size, device):
                yield first, *rest
    else:
        step = max(1, size // inner_size)
        for start in range(0, shape[0], step):
            yield (slice(start, start + step), *[slice(None)] * (len(shape) - 1))


def spans(row_size: int, device: torch.device) -> Iterator[slice]:
    """Equal spans of a row, none longer than a block."""
    step = math.ceil(row_size / math.ceil(row_size / block_size(device)))
    for start in range(0, row_size, step):
        yield slice(start, start + step)
