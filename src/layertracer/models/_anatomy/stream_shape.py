"""Shape of a residual stream: where rows and positions are in it, and in what is computed from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from layertracer.models._anatomy.wiring import Wiring

_MOST_AXES_OF_ONE_POSITION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamShape:
    """Shape of a residual stream, and how other tensors are seen in it.

    Attributes:
        shape: Its shape.
        batch_axis: Axis of the batch.
        position_axis: Axis of the position.
    """

    shape: torch.Size
    batch_axis: int
    position_axis: int

    @classmethod
    def of(cls, stream: Tensor, wiring: Wiring) -> StreamShape:
        """The shape of a layer's stream."""
        return cls(shape=stream.shape, batch_axis=wiring.batch_axis, position_axis=wiring.position_axis)

    @property
    def n_rows(self) -> int:
        """Size of the batch."""
        return self.shape[self.batch_axis]

    @property
    def last_changed(self) -> list[int]:
        """The position in the middle up to which a trial changes each row: another one in each."""
        return [min(self.n_positions // 2 + row, self.n_positions - 2) for row in range(self.n_rows)]

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return self.shape[self.position_axis]

    def view(self, tensor: Tensor) -> Tensor | None:
        """A tensor as one that can be added to the stream; None where it has no row and position for each of its own.

        Batch and position may be flattened into one; of several streams side by side it may be one.
        """
        if tensor.ndim < 2 or tensor.shape[-1] != self.shape[-1] or not tensor.is_floating_point():
            return None
        if tensor.numel() == self.shape.numel():
            return tensor.reshape(self.shape)
        if tensor.ndim == len(self._own_axes) and all(
            size == self.shape[axis] for size, axis in zip(tensor.shape, self._own_axes, strict=True)
        ):
            for axis in range(len(self.shape)):
                if axis not in self._own_axes:
                    tensor = tensor.unsqueeze(axis)
            return tensor
        return None

    def by_position(self, tensor: Tensor) -> Tensor | None:
        """A tensor as [row, position, …]; None where it holds nothing of each row and position."""
        seen = self.view(tensor)
        if seen is not None:
            return seen.movedim((self.batch_axis, self.position_axis), (0, 1))
        rows, positions = self.n_rows, self.n_positions
        sizes = tuple(tensor.shape)
        if positions == 1 and tensor.ndim > _MOST_AXES_OF_ONE_POSITION:
            return None  # of a single position, masks and scores [row, head, 1, 1] would seem to be by position too
        if tensor.ndim == len(self.shape) and (sizes[self.batch_axis], sizes[self.position_axis]) == (rows, positions):
            moved: Tensor = tensor.movedim((self.batch_axis, self.position_axis), (0, 1))
            return moved
        if sizes[:2] == (rows, positions):
            return tensor
        if sizes[:2] == (positions, rows):
            return tensor.transpose(0, 1)
        if sizes[:1] == (rows * positions,):
            first, second = (rows, positions) if self.batch_axis < self.position_axis else (positions, rows)
            unflat: Tensor = tensor.unflatten(0, (first, second))
            return unflat if self.batch_axis < self.position_axis else unflat.transpose(0, 1)
        return None

    def holds_positions(self, tensor: Tensor) -> bool:
        """Whether a tensor holds something of every row and position."""
        return tensor.ndim >= 1 and self.by_position(tensor) is not None

    def activations(self, leaf: Tensor) -> Tensor | None:
        """What a part is given or returns, as [row, position, …]; None for other tensors, masks among them.

        Stricter than `by_position`: an argument that only happens to have such sizes must not be changed.
        """
        if not torch.is_floating_point(leaf):
            return None
        fits = leaf.ndim > max(self.batch_axis, self.position_axis) and leaf.ndim > 2
        if fits and (leaf.shape[self.batch_axis], leaf.shape[self.position_axis]) == (self.n_rows, self.n_positions):
            return leaf.movedim((self.batch_axis, self.position_axis), (0, 1))
        is_flat = leaf.ndim == 2 and leaf.shape[0] == self.n_rows * self.n_positions
        if is_flat and (self.batch_axis, self.position_axis) == (0, 1):
            return leaf.view(self.n_rows, self.n_positions, -1)
        return None

    def activations_or_heads(self, leaf: Tensor) -> Tensor | None:
        """As `activations`, also for what has an axis of heads between: keys and values of another layer."""
        found = self.activations(leaf)
        has_heads = found is None and leaf.ndim == 4 and torch.is_floating_point(leaf)
        if has_heads and (leaf.shape[0], leaf.shape[2]) == (self.n_rows, self.n_positions):
            return leaf.transpose(1, 2)
        return found

    @property
    def _own_axes(self) -> tuple[int, ...]:
        return tuple(sorted({self.batch_axis, self.position_axis, len(self.shape) - 1}))
