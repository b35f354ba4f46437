"""Rows of a batch: expanding arguments to them, and one order of axes for the stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from layertracer.models import BatchAxis, Leaves, Wiring


def to_rows_first(stream: Tensor, wiring: Wiring) -> Tensor:
    """The stream as [row, position, …, width], a view."""
    return stream.movedim((wiring.batch_axis, wiring.position_axis), (0, 1))


def from_rows_first(rows: Tensor, wiring: Wiring) -> Tensor:
    """[row, position, …, width] in the model's own order of axes, a view."""
    return rows.movedim((0, 1), (wiring.batch_axis, wiring.position_axis))


def stream_positions(wiring: Wiring, positions: Sequence[int], *, length: int) -> list[int]:
    """Where the tokens at `positions` of a prompt stand along the stream's axis: `n_parallel` entries for each."""
    return [
        wiring.n_leading + which * length + position for position in positions for which in range(wiring.n_parallel)
    ]


def gather_rows(rows: Tensor, wiring: Wiring, read: Sequence[int], *, length: int) -> Tensor:
    """The tokens that are read out of [row, stream position, …, width], a copy.

    Returns:
        [row, read, …, width]; where a token has several entries, [row, read, entry, …, width].
    """
    which = evenly_spaced(read)
    tokens = rows.narrow(1, wiring.n_leading, wiring.n_parallel * length)
    if wiring.n_parallel == 1:
        return tokens[:, which].clone()
    by_token: Tensor = tokens.unflatten(1, (wiring.n_parallel, length))
    return by_token[:, :, which].transpose(1, 2).contiguous()


def evenly_spaced(positions: Sequence[int]) -> slice:
    """Positions at equal distances, or none, as a slice; a list of them would have to go to the device first.

    Example:
        >>> evenly_spaced([3, 4, 5]), evenly_spaced([2])
        (slice(3, 6, 1), slice(2, 3, 1))
    """
    if not positions:
        return slice(0, 0)
    step = positions[1] - positions[0] if len(positions) > 1 else 1
    assert list(positions) == list(range(positions[0], positions[-1] + 1, step))  # as prompts are laid out
    return slice(positions[0], positions[-1] + 1, step)


def as_prompts(rows: Tensor, wiring: Wiring) -> Tensor:
    """Tokens [row, …, width], as `read_rows` gives them, as the stream of prompts of one token each."""
    stream = rows.unsqueeze(1) if wiring.n_parallel == 1 else rows
    leading = stream.new_zeros(len(rows), wiring.n_leading, *stream.shape[2:])
    return from_rows_first(torch.cat((leading, stream), dim=1) if wiring.n_leading else stream, wiring)


SourcesOf = Callable[[range, int], Sequence[int]]
"""Given some groups of rows and how many groups are there, which of these each of them is copied from."""


def expand_leaves(
    leaves: Leaves,
    axes: Sequence[BatchAxis | None],
    *,
    n_clean: int,
    n_rows: int,
    may_view: bool = True,
    sources_of: SourcesOf | None = None,
) -> list[Any]:
    """Arguments for a batch of `n_rows`, whose rows repeat the `n_clean` prompts in order.

    What the model already computed for all rows, and what does not grow with the batch, stays.

    Args:
        leaves: The arguments.
        axes: Their batch axes.
        n_clean: How many rows the prompts are.
        n_rows: How many there are to be.
        may_view: Whether rows that are alike may share their memory: not where a layer writes into its arguments.
        sources_of: Which groups of rows the further ones are copied from; None where all are copies of the prompts'.
    """
    return [
        _expand(leaf, axis, n_clean=n_clean, n_rows=n_rows, may_view=may_view, sources_of=sources_of)
        if isinstance(leaf, Tensor) and axis is not None
        else leaf
        for leaf, axis in zip(leaves.values, axes, strict=True)
    ]


def _expand(
    leaf: Tensor,
    axis: BatchAxis,
    *,
    n_clean: int,
    n_rows: int,
    may_view: bool,
    sources_of: SourcesOf | None,
) -> Tensor:
    n_present = leaf.shape[axis.axis] // axis.per_row
    missing = n_rows - n_present
    if missing <= 0 or n_present < n_clean:
        return leaf
    if may_view and n_present == n_clean and axis.per_row == 1 and _all_rows_alike(leaf, axis.axis):
        # Masks and rotary tables of prompts of one length are alike: nothing needs to be copied.
        sizes = list(leaf.shape)
        sizes[axis.axis] = n_rows
        return leaf.narrow(axis.axis, 0, 1).expand(sizes)
    n_there = n_present // n_clean
    if sources_of is not None and n_there > 1:
        sources = sources_of(range(n_there, n_rows // n_clean), n_there)
        return append_rows(leaf, copied_groups(leaf, axis.axis, sources, size=n_clean * axis.per_row), axis.axis)
    clean = leaf.narrow(axis.axis, 0, n_clean * axis.per_row)
    return append_rows(leaf, repeat_rows(clean, axis.axis, missing // n_clean), axis.axis)


def copied_groups(leaf: Tensor, axis: int, sources: Sequence[int], *, size: int) -> Tensor:
    """Groups of `size` rows copied, one behind the other."""
    return torch.cat([leaf.narrow(axis, source * size, size) for source in sources], dim=axis)


def _all_rows_alike(leaf: Tensor, axis: int) -> bool:
    if leaf.stride(axis) == 0 or leaf.shape[axis] == 1:
        return True
    # On an accelerator the comparison would wait for the device; a copy is cheaper there.
    return leaf.device.type == "cpu" and bool((leaf == leaf.narrow(axis, 0, 1)).all())


def repeat_rows(leaf: Tensor, axis: int, times: int) -> Tensor:
    """The whole batch repeated `times` times along its axis."""
    repeats = [1] * leaf.ndim
    repeats[axis] = times
    return leaf.repeat(repeats)


def append_rows(leaf: Tensor, rows: Tensor, axis: int) -> Tensor:
    """More rows behind those that are there."""
    return torch.cat((leaf, rows), dim=axis)
