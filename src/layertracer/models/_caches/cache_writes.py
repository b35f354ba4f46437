"""Cache writes: which layer writes what in a model's cache, seen by comparing the cache before and after each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layertracer.models._calling.hooks import hooking
from layertracer.models._calling.object_graph import find_tensors


@dataclass(slots=True, kw_only=True)
class Writes:
    """Writes to one tensor of a cache.

    Attributes:
        by_layer: For each layer that wrote, which entries changed; None once the tensor itself was replaced by one of
            another shape.
    """

    by_layer: dict[int, Tensor | None] = field(default_factory=dict)

    def add(self, layer: int, before: Tensor | None, now: Tensor) -> None:
        """Note what a layer changed."""
        if before is None or before.shape != now.shape:
            self.by_layer[layer] = None
            return
        changed = ~((before == now) | (before.isnan() & now.isnan()))
        if not bool(changed.any()):
            return
        earlier = self.by_layer.get(layer, changed)
        self.by_layer[layer] = None if earlier is None else earlier | changed

    def layer_axis(self) -> tuple[int, dict[int, int]] | None:
        """The axis along which every layer wrote to an entry of its own, and those entries; None without such."""
        masks = [mask for mask in self.by_layer.values() if mask is not None]
        if len(masks) < len(self.by_layer) or not masks:
            return None
        for axis in range(masks[0].ndim):
            others = [other for other in range(masks[0].ndim) if other != axis]
            entries = [mask.sum(dim=others).nonzero().flatten().tolist() for mask in masks]
            flat = [own[0] for own in entries if len(own) == 1]
            if len(flat) == len(masks) == len(set(flat)):
                return axis, dict(zip(self.by_layer, flat, strict=True))
        return None


def observe_writes(layers: Sequence[nn.Module], cache: Any, run: Callable[[], object]) -> dict[str, Writes]:
    """Which tensors of `cache` change while each of the `layers` runs, or before the next one begins, by path."""
    index_of = {layer: index for index, layer in enumerate(layers)}
    known = {path: tensor.clone() for path, tensor in find_tensors(cache).items()}
    writes: dict[str, Writes] = {}
    last: list[int] = []

    def note_writes() -> None:
        for path, tensor in find_tensors(cache).items():
            if tensor.is_floating_point() and _differs(known.get(path), tensor):
                if last:
                    writes.setdefault(path, Writes()).add(last[-1], known.get(path), tensor)
                known[path] = tensor.clone()

    def begin(layer: nn.Module, args: Any, kwargs: Any) -> None:
        del layer, args, kwargs
        note_writes()  # some models put away what a layer returned after it has ended

    def end(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        del args, kwargs, output
        last.append(index_of[layer])
        note_writes()

    with hooking(layers, before=begin, after=end):
        run()
    note_writes()
    return writes


def _differs(before: Tensor | None, now: Tensor) -> bool:
    return before is None or before.shape != now.shape or not torch.equal(before, now)
