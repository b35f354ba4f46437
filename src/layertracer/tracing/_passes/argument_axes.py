"""Batch axes of layers' arguments in every form they come in, with the model's own KV cache or without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from layertracer.models import (
    PROBE_BATCHES,
    BatchAxis,
    Layer,
    Leaves,
    Network,
    Signature,
    StateMap,
    batch_axes,
    observe_calls,
    signature_of,
)
from layertracer.tracing._passes.row_cache import RowCache


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRun:
    """How a pass runs with the model's own cache.

    Attributes:
        state: The cache, understood.
        before: What the rows remember of the tokens before; None at the beginning of a prompt.
        with_positions: Whether the model is told which positions the tokens have.
        keep: Whether what is remembered afterwards is wanted.
        few_logits: Whether the model may then compute logits at the last position alone.
    """

    state: StateMap
    before: RowCache | None
    with_positions: bool
    keep: bool
    few_logits: bool = True

    @property
    def n_before(self) -> int:
        """How many tokens come before."""
        return 0 if self.before is None else self.before.cache.n_tokens


class ArgumentAxes:
    """The batch axes of the layers' arguments, for every form in which they have been seen.

    Masks and tables may be absent in a short prompt and present in a long one, and differ after a prefix that the
    model remembers. A new form is looked into by running two batches of its length.

    Args:
        network: The model.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[tuple[int, _Form, Signature], tuple[BatchAxis | None, ...]] = {
            (layer.index, form, layer.wiring.signature): layer.wiring.inputs
            for layer in network.anatomy.layers
            for form in ("whole", "first")
        }
        self._outputs: dict[tuple[int, _Form, Signature], tuple[BatchAxis | None, ...]] = {}
        self._looked_into: set[tuple[_Form, int, int]] = set()

    def look_into(self, length: int, cached: CachedRun | None = None) -> None:
        """Learn the axes of prompts of this length, where it may bring arguments in a form not seen before."""
        n_before = 0 if cached is None else cached.n_before
        form = _form(cached)
        if (form, n_before, length) in self._looked_into:
            return
        layers = self._network.anatomy.layers
        records = []
        for batch in PROBE_BATCHES:
            network, ids = self._network.probe(batch=batch, length=n_before + length)
            run: Callable[[], object] = partial(network.call, ids)
            if cached is not None:
                memory = cached.state.call.remember(ids[:, :n_before]) if n_before else None
                run = partial(cached.state.call, ids[:, n_before:], memory, with_positions=cached.with_positions)
            records.append(observe_calls([layer.module for layer in layers], run))
        for layer, one, other in zip(layers, *records, strict=True):
            key = layer.index, form, signature_of(one.inputs)
            if key not in self._known:
                self._known[key] = batch_axes(one.inputs, other.inputs)
            assert one.outputs is not None and other.outputs is not None  # both probes have ended
            self._outputs[layer.index, form, signature_of(one.outputs)] = batch_axes(one.outputs, other.outputs)
        self._looked_into.add((form, n_before, length))

    def inputs(
        self, layer: Layer, leaves: Leaves, *, length: int, cached: CachedRun | None
    ) -> tuple[BatchAxis | None, ...]:
        """The batch axes of one call's arguments."""
        key = layer.index, _form(cached), signature_of(leaves)
        if key not in self._known:
            raise UnfamiliarArguments(length)
        return self._known[key]

    def outputs(self, layer: Layer, leaves: Leaves, *, cached: CachedRun | None) -> tuple[BatchAxis | None, ...]:
        """The batch axes of what one call returned; those of the probes at load where nothing else was seen."""
        return self._outputs.get((layer.index, _form(cached), signature_of(leaves)), layer.wiring.outputs)


_Form = Literal["whole", "first", "after"]
"""A pass over whole prompts without a cache, over what prompts begin with, and over what follows."""


def _form(cached: CachedRun | None) -> _Form:
    if cached is None:
        return "whole"
    return "after" if cached.n_before else "first"


class UnfamiliarArguments(Exception):  # noqa: N818 - not an error: it says that a length is to be looked into
    """A layer was called with arguments in a form not seen before."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length
