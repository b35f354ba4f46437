"""The ladder pass: one forward of the model's own code for every lens row and every perturbed row.

The batch starts as clean prompts, which stay the first rows to the end. At each layer the clean rows
are kept as a rung, copied once per draw, perturbed, and appended to the batch; the appended rows ride
on through the later layers. What leaves the last layer, cut to the positions that are read, goes to
the model's own tail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from layertracer._errors import AnatomyError
from layertracer.models import (
    BatchAxis,
    Layer,
    Leaves,
    Network,
    Role,
    Signature,
    Wiring,
    batch_axes,
    observe_calls,
    put_back,
    signature_of,
    take_apart,
)
from layertracer.tracing._branches import refuse_unseen, role_at, watching
from layertracer.tracing._perturb import Perturber
from layertracer.tracing._rows import append_rows, expand_leaves, from_rows_first, read_rows, repeat_rows, to_rows_first
from layertracer.tracing._tail import replacing_forward

Variants = Mapping[int, Sequence[int]]
"""Which draws of which layers one pass computes."""


@dataclass(slots=True, kw_only=True)
class LadderRows:
    """What one pass yields, at the positions that are read.

    Attributes:
        embedding: The stream that enters the first layer, [prompt, read, …, width].
        rungs: What leaves each layer, one [prompt, read, …, width] a layer.
        perturbed: What leaves the last layer in the perturbed rows, [variant, prompt, read, …, width].
        variants: Layer and draw of each variant.
    """

    embedding: Tensor
    rungs: list[Tensor]
    perturbed: Tensor
    variants: list[tuple[int, int]]


class _PassIsOver(Exception):  # noqa: N818 - not an error: it ends a forward whose tail is not needed
    """Raised when the last layer has run."""


@dataclass(slots=True, kw_only=True)
class LadderPass:
    """One pass over one batch of prompts of equal length.

    Attributes:
        network: The model.
        ids: Token ids [prompt, position].
        read: Positions that are read.
        perturber: What is done; None for the lens rows alone.
        variants: Which draws of which layers.
        axes: Batch axes of the layers' arguments that are known so far; shared between passes.
    """

    network: Network
    ids: Tensor
    read: Sequence[int]
    perturber: Perturber | None
    variants: Variants
    axes: ArgumentAxes
    _rungs: list[Tensor] = field(init=False, default_factory=list)
    _embedding: Tensor | None = field(init=False, default=None)
    _rows: Tensor | None = field(init=False, default=None)

    def run(self) -> LadderRows:
        """Run the pass.

        Raises:
            Whatever the model raises; its layers are as they were before.
        """
        layers = self.network.anatomy.layers
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(replacing_forward(layer.module, self._stand_in(layer)))
            with suppress(_PassIsOver):
                self.network.call(self.ids)
        assert self._rows is not None and self._embedding is not None  # the last layer has run
        variants = [(layer.index, draw) for layer in layers for draw in self.variants.get(layer.index, ())]
        rows = self._rows[self._n_clean :]
        return LadderRows(
            embedding=self._embedding,
            rungs=self._rungs,
            perturbed=rows.unflatten(0, (len(variants), self._n_clean)) if variants else rows[:0].unsqueeze(0),
            variants=variants,
        )

    @property
    def _n_clean(self) -> int:
        return self.ids.shape[0]

    def _stand_in(self, layer: Layer) -> Callable[..., Any]:
        """What runs in place of the layer's forward: the layer, with rows appended before or after."""
        # Additions are not seen in compiled code.
        forward = layer.module.forward if self._is_watched(layer) else self.network.forward_of(layer)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            leaves = take_apart((args, kwargs))
            stream = leaves.values[layer.wiring.stream_in]
            if layer.index == 0:
                self._embedding = self._read_clean(stream, layer.wiring)
            # A copy: a layer may add to the stream in place.
            entering = self._clean(stream, layer.wiring).clone()
            stream = self._append_at_entrance(layer, stream)
            n_rows = stream.shape[layer.wiring.batch_axis]
            axes = self.axes.inputs(layer, leaves, length=self.ids.shape[1])
            values = expand_leaves(leaves, axes, n_clean=self._n_clean, n_rows=n_rows)
            values[layer.wiring.stream_in] = stream
            args, kwargs = put_back((args, kwargs), leaves.rebuilt(values))
            output = self._run_layer(layer, partial(forward, *args, **kwargs), stream=stream, entering=entering)
            return self._finish(layer, output, entering)

        return stand_in

    def _is_watched(self, layer: Layer) -> bool:
        """Whether what the layer adds to its stream is changed."""
        draws, perturber = self.variants.get(layer.index), self.perturber
        return bool(draws) and perturber is not None and perturber.site != "block_output"

    def _append_at_entrance(self, layer: Layer, stream: Tensor) -> Tensor:
        """For a site inside the layer, the copies of the clean rows come in with the others."""
        draws = self.variants.get(layer.index, ())
        if not draws or self.perturber is None or self.perturber.site == "block_output":
            return stream
        clean = stream.narrow(layer.wiring.batch_axis, 0, self._n_clean)
        axis = layer.wiring.batch_axis
        return append_rows(stream, repeat_rows(clean, axis, len(draws)), axis)

    def _run_layer(self, layer: Layer, forward: Callable[[], Any], *, stream: Tensor, entering: Tensor) -> Any:
        """The layer itself; for a site inside it, with the additions to the stream changed in the last rows."""
        draws, perturber = self.variants.get(layer.index, ()), self.perturber
        if perturber is None or not draws or perturber.site == "block_output":
            return forward()
        wanted = role_at(perturber.site)
        seen: list[Role] = []

        def edit(added: Tensor, role: Role) -> Tensor | None:
            if role != wanted:
                return None
            seen.append(role)
            # Of the copies, not of the clean rows: an earlier addition of the same part may have changed them already.
            copies = to_rows_first(added, layer.wiring)[-len(draws) * self._n_clean :].unflatten(0, (len(draws), -1))
            rows = [
                perturber(values, entering=entering, layer=layer.index, draws=[draw])[0]
                for draw, values in zip(draws, copies, strict=True)
            ]
            return from_rows_first(torch.cat(rows), layer.wiring)

        with watching(layer, stream, edit):
            output = forward()
        refuse_unseen(layer, wanted, seen=bool(seen))
        return output

    def _finish(self, layer: Layer, output: Any, entering: Tensor) -> Any:
        """The layer's output with its rung kept and, for the block's output, perturbed copies appended."""
        leaves = take_apart(output)
        wiring = layer.wiring
        stream = leaves.values[wiring.stream_out]
        self._rungs.append(self._read_clean(stream, wiring))
        draws = self.variants.get(layer.index, ())
        if draws and self.perturber is not None and self.perturber.site == "block_output":
            rows = self.perturber(self._clean(stream, wiring), entering=entering, layer=layer.index, draws=draws)
            stream = append_rows(stream, from_rows_first(rows.flatten(0, 1), wiring), wiring.batch_axis)
        if layer.index == self.network.anatomy.n_layers - 1:
            self._rows = self._read(to_rows_first(stream, wiring), wiring)
            raise _PassIsOver
        n_rows = stream.shape[wiring.batch_axis]
        values = expand_leaves(leaves, wiring.outputs, n_clean=self._n_clean, n_rows=n_rows)
        values[wiring.stream_out] = stream
        return leaves.rebuilt(values)

    def _clean(self, stream: Tensor, wiring: Wiring) -> Tensor:
        """The clean rows, [prompt, position, …, width], a view."""
        return to_rows_first(stream.narrow(wiring.batch_axis, 0, self._n_clean), wiring)

    def _read_clean(self, stream: Tensor, wiring: Wiring) -> Tensor:
        """The clean rows at the positions that are read, a copy."""
        return self._read(self._clean(stream, wiring), wiring)

    def _read(self, rows: Tensor, wiring: Wiring) -> Tensor:
        """Rows at the positions that are read, a copy; on one device, on whichever the layer computes."""
        return read_rows(rows, wiring, self.read, length=self.ids.shape[1]).to(self.network.device)


class ArgumentAxes:
    """The batch axes of the layers' arguments, for every form in which they have been seen.

    Masks and tables may be absent in a short prompt and present in a long one. A new form is looked
    into by running two batches of its length.

    Args:
        network: The model.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[tuple[int, Signature], tuple[BatchAxis | None, ...]] = {
            (layer.index, layer.wiring.signature): layer.wiring.inputs for layer in network.anatomy.layers
        }
        self._looked_into: set[int] = set()

    def look_into(self, length: int) -> None:
        """Learn the axes of prompts of this length, where it may bring arguments in a form not seen before."""
        if length in self._looked_into:
            return
        layers = self._network.anatomy.layers
        records = []
        for batch in (2, 3):
            network, ids = self._network.probe(batch=batch, length=length)
            records.append(observe_calls([layer.module for layer in layers], partial(network.call, ids)))
        for layer, one, other in zip(layers, *records, strict=True):
            signature = signature_of(one.inputs)
            if (layer.index, signature) not in self._known:
                self._known[layer.index, signature] = batch_axes(one.inputs, other.inputs)
        self._looked_into.add(length)

    def inputs(self, layer: Layer, leaves: Leaves, *, length: int) -> tuple[BatchAxis | None, ...]:
        """The batch axes of one call's arguments."""
        signature = signature_of(leaves)
        if (layer.index, signature) not in self._known:
            raise UnfamiliarArguments(length)
        return self._known[layer.index, signature]


class UnfamiliarArguments(Exception):  # noqa: N818 - not an error: it says that a length is to be looked into
    """A layer was called with arguments in a form not seen before."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length


def climb(
    network: Network,
    ids: Tensor,
    *,
    read: Sequence[int],
    perturber: Perturber | None,
    variants: Variants,
    axes: ArgumentAxes,
) -> LadderRows:
    """One pass of the ladder over prompts of equal length.

    Args:
        network: The model.
        ids: Token ids [prompt, position].
        read: Positions that are read.
        perturber: What is done to its layers; None for the lens rows alone.
        variants: Which draws of which layers.
        axes: Batch axes known so far; a form of arguments not seen before is looked into.

    Raises:
        AnatomyError: If the layers are called in a form that batches of two and three do not show.
    """

    def ladder() -> LadderPass:
        return LadderPass(network=network, ids=ids, read=read, perturber=perturber, variants=variants, axes=axes)

    try:
        return ladder().run()
    except UnfamiliarArguments as unfamiliar:
        axes.look_into(unfamiliar.length)
    try:
        return ladder().run()
    except UnfamiliarArguments as still:
        raise AnatomyError(
            f"{network.name!r} calls its layers with other kinds of arguments in this batch of {len(ids)} prompts of "
            f"{still.length} tokens than in batches of two and three, so that their batch axes are not known. Trace "
            "prompts of another length, or more of them at once."
        ) from None
