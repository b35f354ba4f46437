"""KV cache and recurrent states, mapped: which tensors of a model's cache are which layer's, and what their axes are.

No table of names. The cache is walked for tensors. An axis is the batch where it grows with the
batch, and the position where it grows with the prompt. What changes in the cache while a layer runs
is that layer's memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from layertracer._errors import AnatomyError
from layertracer.models._anatomy.wiring import PROBE_BATCHES, BatchAxis, batch_axis
from layertracer.models._caches.cache_writes import Writes, observe_writes
from layertracer.models._caches.cached_call import CachedCall, LayerCache, UnusableCacheError, find_cached_call
from layertracer.models._calling.object_graph import copy_with, find_tensors
from layertracer.models._calling.probes import probe_ids
from layertracer.models._network import Network

_PROBE_LENGTHS = (2, 12)
_LONG = 40
"""A length at which a memory that takes in several tokens at once has grown too."""
_N_STEPS = 4
"""Tokens read one at a time while it is watched who writes: some memories take in several tokens at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAxes:
    """What the axes of one tensor of a cache are.

    Attributes:
        batch: The axis of the rows; None where it does not grow with the batch.
        position: The axis that grows with the prompt; None where none does.
        shape: The whole shape in one probe.
    """

    batch: BatchAxis | None
    position: int | None
    shape: tuple[int, ...]

    def explains(self, tensor: Tensor) -> bool:
        """Whether a tensor differs from that of the probe in its numbers of rows and of positions only."""
        free = {self.position, None if self.batch is None else self.batch.axis}
        return tensor.ndim == len(self.shape) and all(
            size == own or axis in free for axis, (size, own) in enumerate(zip(tensor.shape, self.shape, strict=True))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePiece:
    """A tensor of the cache, or a slice of one, that is a layer's memory.

    Attributes:
        path: Path of the tensor, see `find_tensors`.
        batch: Its axis of the rows.
        position: Its axis of the positions; None where the whole tensor of a row is one slot.
        layer_axis: Its axis of the layers and the entry of this layer; None where the tensor is one layer's own.
        slot_size: Number of entries of one slot of one row.
        slot_bytes: Their size.
    """

    path: str
    batch: BatchAxis
    position: int | None
    layer_axis: tuple[int, int] | None
    slot_size: int
    slot_bytes: int

    def slots(self, tensor: Tensor) -> Tensor:
        """The layer's memory as [row, slot, …], a view: what is written there is written into the cache."""
        batch, position = self.batch.axis, self.position
        if self.layer_axis is not None:
            axis, entry = self.layer_axis
            tensor = tensor.select(axis, entry)
            batch -= int(batch > axis)
            position = None if position is None else position - int(position > axis)
        if position is None:
            tensor, position = tensor.unsqueeze(tensor.ndim), tensor.ndim
        tensor = tensor.movedim((batch, position), (0, 1))
        if self.batch.per_row == 1:
            return tensor
        heads_apart: Tensor = tensor.unflatten(0, (-1, self.batch.per_row))
        return heads_apart.movedim(2, 1)


class StateMap:
    """A model's cache, understood: its layers' memories, and how to give it to more rows.

    Args:
        network: The model.

    Raises:
        UnusableCacheError: If it returns no cache that it takes back, or the cache cannot be understood.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._shapes: dict[str, dict[tuple[int, int], tuple[int, ...]]] = {}
        self._axes: dict[str, CacheAxes] = {}
        self._pieces: dict[int, list[StatePiece]] = {layer.index: [] for layer in network.anatomy.layers}
        self.call: CachedCall = find_cached_call(network.call, self._probe(2, 3))
        self._observe(PROBE_BATCHES[0], min(_LONG, network.max_length or _LONG))
        for length in _PROBE_LENGTHS:
            self._learn_axes(length)
        self._learn_owners(_PROBE_LENGTHS[-1])

    def pieces(self, layer: int) -> Sequence[StatePiece]:
        """The memory of a layer; empty where it keeps none."""
        return self._pieces[layer]

    @property
    def axes(self) -> Mapping[str, CacheAxes]:
        """The axes of every tensor of the cache, by path."""
        return self._axes

    @property
    def layers_with(self) -> list[int]:
        """Layers that keep a memory of their own."""
        return [layer for layer, pieces in self._pieces.items() if pieces]

    @property
    def layers_without(self) -> list[int]:
        """Layers that keep no memory of their own."""
        return [layer for layer, pieces in self._pieces.items() if not pieces]

    def row_bytes(self, length: int) -> int:
        """Size of what one row remembers of a prompt of that many tokens, at most."""
        return sum(self.layer_bytes(layer, length) for layer in self._pieces)

    def layer_bytes(self, layer: int, length: int) -> int:
        """Size of what one row remembers of a prompt of that many tokens in one layer, at most."""
        return sum(piece.slot_bytes * (1 if piece.position is None else length) for piece in self._pieces[layer])

    def read(self, ids: Tensor) -> LayerCache:
        """What the model remembers of `ids` [prompt, position].

        Raises:
            UnusableCacheError: If it remembers it in a form that probes of that length do not explain.
        """
        cache = self.call(ids)[1]
        if self._unexplained(cache):
            self._learn_axes(ids.shape[1])
            self._learn_owners(ids.shape[1])
        if unknown := self._unexplained(cache):
            raise UnusableCacheError(f"the axes of {unknown[0]} are not known for prompts of {ids.shape[1]} tokens")
        return cache

    def repeated(self, cache: LayerCache, times: int) -> tuple[LayerCache, dict[str, Tensor]]:
        """A copy of `cache` in which all rows stand `times` times, one after the other, and its tensors by path."""
        tensors = {
            path: self._repeat(tensor, self._axes.get(path), times)
            for path, tensor in find_tensors(cache.caches).items()
        }
        return LayerCache(caches=copy_with(cache.caches, tensors), n_tokens=cache.n_tokens), tensors

    def _repeat(self, tensor: Tensor, axes: CacheAxes | None, times: int) -> Tensor:
        repeats = [1] * tensor.ndim
        if axes is not None and axes.batch is not None:
            repeats[axes.batch.axis] = times
        return tensor.repeat(repeats)

    def _unexplained(self, cache: LayerCache) -> list[str]:
        tensors = find_tensors(cache.caches)
        known = {path: axes for path, axes in self._axes.items() if path in tensors}
        return [path for path, tensor in tensors.items() if path not in known or not known[path].explains(tensor)]

    def _probe(self, batch: int, length: int) -> Tensor:
        return probe_ids(self._network.anatomy.plain_tokens, batch=batch, length=length, device=self._network.device)

    def _observe(self, batch: int, length: int) -> None:
        """Note the shapes of the cache's tensors after that many tokens."""
        for path, tensor in find_tensors(self.call(self._probe(batch, length))[1].caches).items():
            self._shapes.setdefault(path, {})[batch, length] = tuple(tensor.shape)

    def _learn_axes(self, length: int) -> None:
        """The axes of every tensor of the cache after that many tokens."""
        few, more = PROBE_BATCHES
        for batch, n_tokens in ((few, length), (more, length), (few, length + 1)):
            self._observe(batch, n_tokens)
        for path, shapes in self._shapes.items():
            if (few, length) in shapes and (more, length) in shapes:
                self._axes[path] = CacheAxes(
                    batch=self._batch_axis(path, shapes[few, length], shapes[more, length]),
                    position=self._position_axis(path, [shape for (batch, _), shape in shapes.items() if batch == few]),
                    shape=shapes[few, length],
                )

    def _batch_axis(self, path: str, smaller: tuple[int, ...], larger: tuple[int, ...]) -> BatchAxis | None:
        try:
            return batch_axis(smaller, larger)
        except AnatomyError as error:
            raise UnusableCacheError(f"the batch axis of {path} is not known: {error}") from error

    def _position_axis(self, path: str, shapes: Sequence[tuple[int, ...]]) -> int | None:
        if len({len(shape) for shape in shapes}) > 1:
            raise UnusableCacheError(f"{path} has another number of axes after other numbers of tokens")
        growing = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
        if len(growing) > 1:
            raise UnusableCacheError(f"{path} grows along {len(growing)} axes with the prompt")
        return growing[0] if growing else None

    def _learn_owners(self, length: int) -> None:
        """Whose memory each tensor is."""
        cache = self.call(self._probe(1, length))[1]  # one row and one token at a time is what every cache can do
        step = self._probe(1, 1)

        def run() -> None:
            for _ in range(_N_STEPS):
                self.call(step, cache)

        written = observe_writes([layer.module for layer in self._network.anatomy.layers], cache.caches, run)
        pieces: dict[int, list[StatePiece]] = {layer: [] for layer in self._pieces}
        for path, tensor in find_tensors(cache.caches).items():
            axes = self._axes.get(path)
            if axes is None or axes.batch is None or not tensor.is_floating_point():
                continue
            for layer, layer_axis in self._owners(path, written).items():
                pieces[layer].append(_piece(path, tensor, axes, axes.batch, layer_axis))
        for layer, found in pieces.items():
            seen = {piece.path for piece in found}
            self._pieces[layer] = [piece for piece in self._pieces[layer] if piece.path not in seen] + found

    def _owners(self, path: str, written: Mapping[str, Writes]) -> Mapping[int, tuple[int, int] | None]:
        """The layers that keep their memory in a tensor, and where in it."""
        by_layer = written[path].by_layer if path in written else {}
        if len(by_layer) == 1:
            return dict.fromkeys(by_layer)
        if not by_layer:
            raise UnusableCacheError(f"no layer was seen to write to {path}")
        found = written[path].layer_axis()
        if found is None:
            raise UnusableCacheError(f"layers {', '.join(map(str, by_layer))} all write to {path}")
        axis, entries = found
        return {layer: (axis, entry) for layer, entry in entries.items()}


def _piece(
    path: str, tensor: Tensor, axes: CacheAxes, batch: BatchAxis, layer_axis: tuple[int, int] | None
) -> StatePiece:
    outside = {batch.axis, axes.position, None if layer_axis is None else layer_axis[0]}
    slot_size = batch.per_row * math.prod(size for axis, size in enumerate(tensor.shape) if axis not in outside)
    return StatePiece(
        path=path,
        batch=batch,
        position=axes.position,
        layer_axis=layer_axis,
        slot_size=slot_size,
        slot_bytes=slot_size * tensor.element_size(),
    )
