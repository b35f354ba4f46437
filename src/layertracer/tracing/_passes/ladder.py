"""Ladder pass: one forward of the model's own code for every lens row and every perturbed row.

The batch starts as clean prompts, which stay the first rows to the end. At each layer the clean rows
are kept as a lens row, copied once per draw, perturbed, and appended to the batch; the appended rows ride
on through the later layers. What leaves the last layer, cut to the positions that are read, goes to
the model's own tail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from layertracer._errors import AnatomyError
from layertracer.models import (
    Layer,
    Leaves,
    Network,
    Role,
    Wiring,
    flatten,
    grouped_heads,
    replacing_forward,
    unflatten_into,
)
from layertracer.tracing._batching.rows import (
    append_rows,
    expand_leaves,
    from_rows_first,
    gather_rows,
    repeat_rows,
    to_rows_first,
)
from layertracer.tracing._passes.argument_axes import ArgumentAxes, CachedRun, UnfamiliarArguments
from layertracer.tracing._passes.row_cache import OpenCache, RowCache
from layertracer.tracing._perturbers.perturbers import Perturber
from layertracer.tracing._sites.branch_output import refuse_unseen, role_at, watching

Variants = Mapping[int, Sequence[int]]
"""Which draws of which layers one pass computes."""

SeeClean = Callable[[int, Tensor], None]
"""Given a layer and what stands at the site in the clean rows, [prompt, position, …, width]; it must not keep it."""


@dataclass(slots=True, kw_only=True)
class LadderRows:
    """What one pass yields, at the positions that are read.

    Attributes:
        embedding: The stream that enters the first layer, [prompt, read, …, width].
        lens rows: What leaves each layer, one [prompt, read, …, width] a layer.
        perturbed: What leaves the last layer in the perturbed rows, [variant, prompt, read, …, width].
        variants: Layer and draw of each variant.
        cache: What the rows remember by now, where that was asked for.
    """

    embedding: Tensor
    lens_rows: list[Tensor]
    perturbed: Tensor
    variants: list[tuple[int, int]]
    cache: RowCache | None = None

    @classmethod
    def joined(cls, parts: Sequence[LadderRows]) -> LadderRows:
        """The rows of passes over consecutive spans of the same prompts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            embedding=torch.cat([part.embedding for part in parts], dim=1),
            lens_rows=[
                torch.cat(lens_rows, dim=1) for lens_rows in zip(*(part.lens_rows for part in parts), strict=True)
            ],
            perturbed=torch.cat([part.perturbed for part in parts], dim=2),
            variants=parts[-1].variants,
            cache=parts[-1].cache,
        )


class _PassIsOver(Exception):  # noqa: N818 - not an error: it ends a forward whose tail is not needed
    """Raised when the last layer has run."""


@dataclass(slots=True, kw_only=True)
class LadderPass:
    """One pass over one batch of prompts of equal length, or over a span of them.

    Attributes:
        network: The model.
        ids: Token ids [prompt, position].
        read: Positions that are read, counted from the first of `ids`.
        perturber: What is done; None for the lens rows alone.
        variants: Which draws of which layers.
        axes: Batch axes of the layers' arguments that are known so far; shared between passes.
        cached: How the model's cache is used; None without one.
        see: Called with what stands in the clean rows at the perturber's site; None where nobody asks.
    """

    network: Network
    ids: Tensor
    read: Sequence[int]
    perturber: Perturber | None
    variants: Variants
    axes: ArgumentAxes
    cached: CachedRun | None = None
    see: SeeClean | None = None
    _lens_rows: list[Tensor] = field(init=False, default_factory=list)
    _embedding: Tensor | None = field(init=False, default=None)
    _rows: Tensor | None = field(init=False, default=None)
    _open: OpenCache | None = field(init=False, default=None)

    def run(self) -> LadderRows:
        """Run the pass.

        Raises:
            Whatever the model raises; its layers are as they were before.
        """
        layers = self.network.anatomy.layers
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(replacing_forward(layer.module, self._stand_in(layer)))
            stack.enter_context(grouped_heads(self.network.device))
            cache = self._call()
        assert self._rows is not None and self._embedding is not None  # the last layer has run
        variants = [(layer.index, draw) for layer in layers for draw in self.variants.get(layer.index, ())]
        rows = self._rows[self._n_clean :]
        return LadderRows(
            embedding=self._embedding,
            lens_rows=self._lens_rows,
            perturbed=rows.unflatten(0, (len(variants), self._n_clean)) if variants else rows[:0].unsqueeze(0),
            variants=variants,
            cache=cache,
        )

    def _call(self) -> RowCache | None:
        """Run the model; what its rows remember in the end, where that is wanted."""
        if self.cached is None:
            with suppress(_PassIsOver):
                self.network.call(self.ids)
            return None
        cached = self.cached
        self._open = None if cached.before is None else cached.before.open(self._n_clean)
        before = None if self._open is None else self._open.cache
        with suppress(_PassIsOver):
            cache = cached.state.call.remember(
                self.ids, before, with_positions=cached.with_positions, few_logits=cached.few_logits
            )
            kept = cache if self._open is None else self._open.with_shared(cache)
            return RowCache(state=cached.state, cache=kept, n_prompts=self._n_clean)
        return None

    @property
    def _is_over_at_last_layer(self) -> bool:
        """Whether nobody needs what comes after the last layer."""
        return self.cached is None or not self.cached.keep

    @property
    def _first(self) -> int:
        """Position in the prompt of the first of `ids`."""
        return 0 if self.cached is None else self.cached.n_before

    @property
    def _n_clean(self) -> int:
        return self.ids.shape[0]

    def _stand_in(self, layer: Layer) -> Callable[..., Any]:
        """What runs in place of the layer's forward: the layer, with rows appended before or after."""
        # Additions are not seen in compiled code.
        forward = layer.module.forward if self._is_watched(layer) else self.network.forward_of(layer)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            leaves = flatten((args, kwargs))
            stream = leaves.values[layer.wiring.stream_in]
            if layer.index == 0:
                self._embedding = self._read_clean(stream, layer.wiring)
            # A copy: a layer may add to the stream in place.
            entering = self._clean(stream, layer.wiring).clone()
            stream = self._append_at_entrance(layer, stream)
            n_rows = stream.shape[layer.wiring.batch_axis]
            axes = self.axes.inputs(layer, leaves, length=self.ids.shape[1], cached=self.cached)
            # With a cache, layers may write into their arguments.
            may_view = self.cached is None
            values = expand_leaves(leaves, axes, n_clean=self._n_clean, n_rows=n_rows, may_view=may_view)
            values[layer.wiring.stream_in] = stream
            args, kwargs = unflatten_into((args, kwargs), leaves.rebuilt(values))
            if self._open is not None:
                self._open.enter(layer.index, n_rows=n_rows)
            output = self._run_layer(layer, partial(forward, *args, **kwargs), stream=stream, entering=entering)
            if self._open is not None:
                self._open.leave(layer.index, keep=not self._is_over_at_last_layer)
            return self._finish(layer, output, entering)

        return stand_in

    def _is_watched(self, layer: Layer) -> bool:
        """Whether what the layer adds to its stream is looked at or changed."""
        if self.perturber is None or self.perturber.site == "block_output":
            return False
        is_seen = self.see is not None and bool(layer.additions.of(role_at(self.perturber.site)))
        return is_seen or bool(self.variants.get(layer.index))

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
        if perturber is None or not self._is_watched(layer):
            return forward()
        wanted = role_at(perturber.site)
        seen: list[Role] = []

        def edit(added: Tensor, role: Role) -> Tensor | None:
            if role != wanted:
                return None
            seen.append(role)
            if self.see is not None:
                self.see(layer.index, self._clean(added, layer.wiring))
            if not draws:
                return None
            # Of the copies, not of the clean rows: an earlier addition of the same part may have changed them already.
            copies = to_rows_first(added, layer.wiring)[-len(draws) * self._n_clean :].unflatten(0, (len(draws), -1))
            rows = [
                perturber(values, entering=entering, layer=layer.index, draws=[draw], first=self._first)[0]
                for draw, values in zip(draws, copies, strict=True)
            ]
            return from_rows_first(torch.cat(rows), layer.wiring)

        with watching(layer, stream, edit):
            output = forward()
        refuse_unseen(layer, wanted, seen=bool(seen))
        return output

    def _finish(self, layer: Layer, output: Any, entering: Tensor) -> Any:
        """The layer's output with its lens row kept and, for the block's output, perturbed copies appended."""
        leaves = flatten(output)
        wiring = layer.wiring
        stream = leaves.values[wiring.stream_out]
        self._lens_rows.append(self._read_clean(stream, wiring))
        stream = self._append_at_exit(layer, stream, entering)
        if layer.index == self.network.anatomy.n_layers - 1:
            self._rows = self._read(to_rows_first(stream, wiring), wiring)
            if self._is_over_at_last_layer:
                raise _PassIsOver
            return unflatten_into(output, self._clean_output(leaves, wiring))
        n_rows = stream.shape[wiring.batch_axis]
        axes = self.axes.outputs(layer, leaves, cached=self.cached)
        values = expand_leaves(leaves, axes, n_clean=self._n_clean, n_rows=n_rows, may_view=self.cached is None)
        values[wiring.stream_out] = stream
        # In the model's own lists: what later layers find there is exchanged when they run.
        return unflatten_into(output, leaves.rebuilt(values))

    def _append_at_exit(self, layer: Layer, stream: Tensor, entering: Tensor) -> Tensor:
        """For the block's output, perturbed copies of the clean rows are appended when the layer has run."""
        if self.perturber is None or self.perturber.site != "block_output":
            return stream
        draws, wiring = self.variants.get(layer.index, ()), layer.wiring
        clean = self._clean(stream, wiring)
        if self.see is not None:
            self.see(layer.index, clean)
        if not draws:
            return stream
        rows = self.perturber(clean, entering=entering, layer=layer.index, draws=draws, first=self._first)
        return append_rows(stream, from_rows_first(rows.flatten(0, 1), wiring), wiring.batch_axis)

    def _clean_output(self, leaves: Leaves, wiring: Wiring) -> Any:
        """A layer's output with the clean rows of the stream alone; what else it hands on may be its memory."""
        stream = leaves.values[wiring.stream_out]
        return leaves.replaced(wiring.stream_out, stream.narrow(wiring.batch_axis, 0, self._n_clean))

    def _clean(self, stream: Tensor, wiring: Wiring) -> Tensor:
        """The clean rows, [prompt, position, …, width], a view."""
        return to_rows_first(stream.narrow(wiring.batch_axis, 0, self._n_clean), wiring)

    def _read_clean(self, stream: Tensor, wiring: Wiring) -> Tensor:
        """The clean rows at the positions that are read, a copy."""
        return self._read(self._clean(stream, wiring), wiring)

    def _read(self, rows: Tensor, wiring: Wiring) -> Tensor:
        """Rows at the positions that are read, a copy; on one device, on whichever the layer computes."""
        return gather_rows(rows, wiring, self.read, length=self.ids.shape[1]).to(self.network.device)


def run_ladder(
    network: Network,
    ids: Tensor,
    *,
    read: Sequence[int],
    perturber: Perturber | None,
    variants: Variants,
    axes: ArgumentAxes,
) -> LadderRows:
    """One pass of the ladder over prompts of equal length, without a cache.

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
    return run_pass(LadderPass(network=network, ids=ids, read=read, perturber=perturber, variants=variants, axes=axes))


def run_pass(ladder: LadderPass) -> LadderRows:
    """A pass; where its layers' arguments come in a form not seen before, that is looked into first.

    Raises:
        AnatomyError: If the layers are called in a form that batches of two and three do not show.
        UnusableCacheError: If a layer's memory does not have the rows that reach it.
    """
    try:
        return replace(ladder).run()
    except UnfamiliarArguments as unfamiliar:
        ladder.axes.look_into(unfamiliar.length, ladder.cached)
    try:
        return replace(ladder).run()
    except UnfamiliarArguments as still:
        raise AnatomyError(
            f"{ladder.network.name!r} calls its layers with other kinds of arguments in this batch of "
            f"{len(ladder.ids)} prompts of {still.length} tokens than in batches of two and three, so that their batch "
            "axes are not known. Trace prompts of another length, or more of them at once."
        ) from None
