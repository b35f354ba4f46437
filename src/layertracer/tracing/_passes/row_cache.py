"""KV cache of a ladder pass: what its rows remember of the tokens before it, in the model's own cache.

Rows come in groups: the clean prompts first, then one group for each variant that was perturbed so
far. A layer remembers as many groups as reach it, so that each layer's tensors have a number of rows
of their own. What was read once for all prompts is given to each of them when its layer runs, and not
before: never are all layers' memories there for all prompts at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layertracer.models import (
    BatchAxis,
    LayerCache,
    StateMap,
    StatePiece,
    TensorPlace,
    UnusableCacheError,
    copy_with,
    find_places,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCache:
    """What the rows of a pass remember.

    Attributes:
        state: Which tensor of the cache is which layer's.
        cache: The cache.
        n_prompts: Rows of each group: the prompts of a batch, or one for a prefix that all of them share.
    """

    state: StateMap
    cache: LayerCache
    n_prompts: int

    def open(self, n_prompts: int) -> OpenCache:
        """A copy to be read on by a batch of `n_prompts`; this one stays as it is."""
        layers = self.state.layers_with
        shared = {piece.path for layer in layers for piece in self.state.pieces(layer) if piece.layer_axis}
        rows = {
            path: self._clean_rows(place.tensor, axes.batch, n_prompts, is_shared=path in shared)
            for path, place in find_places(self.cache.caches).items()
            if (axes := self.state.axes.get(path)) is not None and axes.batch is not None
        }
        tensors = {path: place.tensor for path, place in find_places(self.cache.caches).items()}
        caches = copy_with(self.cache.caches, tensors | rows)
        return OpenCache(
            cache=LayerCache(caches=caches, n_tokens=self.cache.n_tokens),
            before=self,
            n_prompts=n_prompts,
            places=find_places(caches),
            tensors=tensors,
        )

    def _clean_rows(self, tensor: Tensor, axis: BatchAxis, n_prompts: int, *, is_shared: bool) -> Tensor:
        """The clean group for that many prompts, a view: what the model reads off its cache before its layers run.

        A tensor of all layers is copied, since they write into it.
        """
        clean = tensor.narrow(axis.axis, 0, self.n_prompts * axis.per_row)
        if self.n_prompts == n_prompts or axis.per_row > 1:
            return clean
        sizes = list(clean.shape)
        sizes[axis.axis] = n_prompts
        return clean.expand(sizes).clone() if is_shared else clean.expand(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCache:
    """A memory that a pass goes on from.

    Attributes:
        cache: What is given to the model.
        before: Where it comes from.
        n_prompts: Prompts of the pass.
        places: Where the tensors of the cache stand.
        tensors: What stood there, by path.
    """

    cache: LayerCache
    before: RowCache
    n_prompts: int
    places: Mapping[str, TensorPlace]
    tensors: Mapping[str, Tensor]
    _shared: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def enter(self, layer: int, *, n_rows: int) -> None:
        """Give a layer its memory for the rows that reach it, just before it runs.

        Raises:
            UnusableCacheError: If the layer remembers another number of groups than reach it.
        """
        for piece in self.before.state.pieces(layer):
            if piece.path in self.places:
                rows = self._spread(self.tensors[piece.path], piece, layer=layer, n_groups=n_rows // self.n_prompts)
                self._put(piece.path, rows)

    def leave(self, layer: int, *, keep: bool) -> None:
        """Take a layer's memory back once it has run; where it is to be kept, only out of a tensor of all layers."""
        for piece in self.before.state.pieces(layer):
            if piece.path not in self.places or (keep and piece.layer_axis is None):
                continue
            if keep and piece.layer_axis is not None:
                written = find_places(self.cache.caches)[piece.path].tensor
                self._shared.setdefault(piece.path, {})[layer] = written.select(*piece.layer_axis).clone()
            self._put(piece.path, self.places[piece.path].tensor)

    def with_shared(self, cache: LayerCache) -> LayerCache:
        """What is remembered after a pass, with what every layer wrote into the tensors that all of them share."""
        tensors = {path: place.tensor for path, place in find_places(cache.caches).items()}
        for path, by_layer in self._shared.items():
            tensors[path] = self._assembled(tensors[path], by_layer, path)
        return LayerCache(caches=copy_with(cache.caches, tensors), n_tokens=cache.n_tokens) if self._shared else cache

    def _assembled(self, tensor: Tensor, by_layer: Mapping[int, Tensor], path: str) -> Tensor:
        pieces = {layer: piece for layer in by_layer for piece in self.before.state.pieces(layer) if piece.path == path}
        axis = next(iter(pieces.values())).batch.axis
        sizes = list(tensor.shape)
        sizes[axis] = max(self._rows_of(written, pieces[layer]) for layer, written in by_layer.items())
        whole = tensor.new_zeros(sizes)
        for layer, written in by_layer.items():
            own = whole.select(*(pieces[layer].layer_axis or (0, 0)))
            own.narrow(_without(axis, pieces[layer]), 0, self._rows_of(written, pieces[layer])).copy_(written)
        return whole

    @staticmethod
    def _rows_of(written: Tensor, piece: StatePiece) -> int:
        return written.shape[_without(piece.batch.axis, piece)]

    def _put(self, path: str, tensor: Tensor) -> None:
        put = self.places[path].put
        if put is None:
            raise UnusableCacheError(f"the cache's {path} cannot be exchanged")
        put(tensor)

    def _spread(self, tensor: Tensor, piece: StatePiece, *, layer: int, n_groups: int) -> Tensor:
        """[group of before × prompt of before] as [group × prompt], a copy: layers write into their memory."""
        axis, per_row, n_prompts = piece.batch.axis, piece.batch.per_row, self.before.n_prompts
        groups = tensor.unflatten(axis, (-1, n_prompts, per_row))
        if piece.layer_axis is not None and groups.shape[axis] > n_groups:
            groups = groups.narrow(axis, 0, n_groups)  # as many as reach the last layer, in the order they came
        if groups.shape[axis] not in (1, n_groups):
            raise UnusableCacheError(
                f"layer {layer} remembers {groups.shape[axis]} groups of rows where {n_groups} reach it"
            )
        sizes = list(groups.shape)
        sizes[axis], sizes[axis + 1] = n_groups, self.n_prompts
        spread: Tensor = groups.expand(sizes).clone(memory_format=torch.contiguous_format).flatten(axis, axis + 2)
        return spread


def _without(axis: int, piece: StatePiece) -> int:
    """An axis once that of the layers is gone."""
    return axis - int(piece.layer_axis is not None and axis > piece.layer_axis[0])
