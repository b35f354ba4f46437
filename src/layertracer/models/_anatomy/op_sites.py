"""Where in a layer's code an operator runs, so that the same one is found again in another run.

A place is a module's call, an operator, and how many of them the module's own code had run before.
Only operators on tensors by row and position are counted: how many others there are may depend on
the tokens (a loop over the experts that were hit).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from layertracer.models._calling.hooks import hooking

_MOST_AXES_OF_ONE_POSITION = 3


class Place(NamedTuple):
    """Where an operator runs.

    Attributes:
        module: The module whose own code runs it.
        call: How many calls of that module came before in the layer.
        operator: Its name.
        ordinal: How many operators of that name that call had run before on tensors by row and position.
    """

    module: nn.Module
    call: int
    operator: str
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamShape:
    """The shape of a stream, and how other tensors are seen in it.

    Attributes:
        shape: Its shape.
        batch_axis: Axis of the batch.
        position_axis: Axis of the position.
    """

    shape: torch.Size
    batch_axis: int
    position_axis: int

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
        rows, positions = self.shape[self.batch_axis], self.shape[self.position_axis]
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

    @property
    def _own_axes(self) -> tuple[int, ...]:
        return tuple(sorted({self.batch_axis, self.position_axis, len(self.shape) - 1}))


@dataclass(slots=True)
class _Frame:
    module: nn.Module
    call: int
    counts: Counter[str] = field(default_factory=Counter)


class Places:
    """Keeps count of where a layer's run is.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._calls: Counter[nn.Module] = Counter()
        self._frames = [_Frame(layer, 0)]
        self.counts: dict[tuple[nn.Module, int], Counter[str]] = {(layer, 0): self._frames[0].counts}
        """How many operators of each name every call has run on tensors by row and position."""
        self._is_paused = False
        self.callers: dict[nn.Module, set[nn.Module]] = {}
        """From inside which modules each module was called."""

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules whose calls have begun and not ended, outermost first."""
        return tuple(frame.module for frame in self._frames)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing that runs in the block is counted: a layer may be run again in the middle of itself."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def next(self, operator: str) -> Place:
        """The place of an operator that runs now."""
        frame = self._frames[-1]
        ordinal = frame.counts[operator]
        frame.counts[operator] += 1
        return Place(frame.module, frame.call, operator, ordinal)

    @contextmanager
    def following(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """The calls of these modules are told apart for the length of the block."""

        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            del args, kwargs
            if self._is_paused:
                return
            self.callers.setdefault(module, set()).add(self._frames[-1].module)
            frame = _Frame(module, self._calls[module])
            self._calls[module] += 1
            self.counts[module, frame.call] = frame.counts
            self._frames.append(frame)

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            del module, args, kwargs, output
            if not self._is_paused:
                self._frames.pop()

        with hooking(dict.fromkeys(modules), before=begin, after=end):
            yield
