"""Ladder pass: one forward of the model's own code for every lens row and every perturbed row.

The batch starts as clean prompts, which stay the first rows to the end. At each layer the clean rows
are kept as a lens row, copied once per draw, perturbed, and appended to the batch; the appended rows ride
on through the later layers. What leaves the last layer, cut to the positions that are read, goes to
the model's own tail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
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
    Wiring,
    flatten,
    grouped_heads,
    replacing_forward,
    unflatten_into,
)
from layertracer.tracing._batching.rows import (
    append_rows,
    copied_groups,
    expand_leaves,
    from_rows_first,
    gather_rows,
    repeat_rows,
    to_rows_first,
)
from layertracer.tracing._observers.protocol import Observer
from layertracer.tracing._passes.argument_axes import ArgumentAxes, CachedRun, UnfamiliarArguments
from layertracer.tracing._passes.layer_edits import LayerEdits
from layertracer.tracing._passes.row_cache import OpenCache, RowCache
from layertracer.tracing._passes.row_groups import Edit, RowGroups, Variant, single_edits
from layertracer.tracing._perturbers.protocol import Perturber
from layertracer.tracing._sites.protocol import SITES, EditRows, LayerRun, layers_with, run_edited, watching_sites

Variants = Mapping[int, Sequence[int]]
"""Which draws of which layers one pass computes."""


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
        perturbers: What is done; none for the lens rows alone.
        variants: The variants of each prompt.
        base_edits: What is done to the base rows themselves.
        axes: Batch axes of the layers' arguments that are known so far; shared between passes.
        cached: How the model's cache is used; None without one.
        observers: What looks at the base rows, before anything is done to them.
        prompts: The prompts' indices in the task, for perturbers that ask.
    """

    network: Network
    ids: Tensor
    read: Sequence[int]
    perturbers: Sequence[Perturber | None]
    variants: Sequence[Variant]
    axes: ArgumentAxes
    base_edits: Sequence[Edit] = ()
    cached: CachedRun | None = None
    observers: Sequence[Observer] = ()
    prompts: tuple[int, ...] = ()
    _groups: RowGroups = field(init=False)
    _seen_at: Mapping[str, Collection[int]] = field(init=False)
    _lens_rows: list[Tensor] = field(init=False, default_factory=list)
    _embedding: Tensor | None = field(init=False, default=None)
    _rows: Tensor | None = field(init=False, default=None)
    _open: OpenCache | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Find out which rows come in where."""
        self._groups = RowGroups.of(self.perturbers, self.variants, self.base_edits)
        self._seen_at = {one.site: frozenset(layers_with(one.site, self.network)) for one in self.observers}

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
        order = self._groups.order
        rows = self._rows[self._n_base :]
        return LadderRows(
            embedding=self._embedding,
            lens_rows=self._lens_rows,
            perturbed=rows.unflatten(0, (len(order), self._n_base)) if order else rows[:0].unsqueeze(0),
            variants=[self.variants[number].key for number in order],
            cache=cache,
        )

    def _call(self) -> RowCache | None:
        """Run the model; what its rows remember in the end, where that is wanted."""
        if self.cached is None:
            with suppress(_PassIsOver):
                self.network.call(self.ids)
            return None
        cached = self.cached
        self._open = None if cached.before is None else cached.before.open(self._n_base)
        before = None if self._open is None else self._open.cache
        with suppress(_PassIsOver):
            cache = cached.state.call.remember(
                self.ids, before, with_positions=cached.with_positions, few_logits=cached.few_logits
            )
            kept = cache if self._open is None else self._open.with_shared(cache)
            return RowCache(state=cached.state, cache=kept, n_prompts=self._n_base)
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
    def _n_base(self) -> int:
        return self.ids.shape[0]

    def _stand_in(self, layer: Layer) -> Callable[..., Any]:
        """What runs in place of the layer's forward: the layer, with rows appended before or after."""
        sites = self._watched(layer)
        # Additions are not seen in compiled code.
        forward = layer.module.forward if sites else self.network.forward_of(layer)
        wiring = layer.wiring

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            leaves = flatten((args, kwargs))
            stream = leaves.values[wiring.stream_in]
            if layer.index == 0:
                self._embedding = self._read_base(stream, wiring)
            edits = self._edits_of(layer, forward, leaves)
            stream = self._append_at_entrance(layer, stream)
            n_rows = stream.shape[wiring.batch_axis]
            axes = self.axes.inputs(layer, leaves, length=self.ids.shape[1], cached=self.cached)
            # With a cache, layers may write into their arguments.
            may_view = self.cached is None
            values = self._expanded(leaves, axes, n_rows=n_rows, may_view=may_view)
            run = LayerRun(layer, stream)
            with watching_sites(run, {site: partial(edits.inside, site) for site in sites}):
                values[wiring.stream_in] = run.stream
                args, kwargs = unflatten_into((args, kwargs), leaves.rebuilt(values))
                if self._open is not None:
                    self._open.enter(layer.index, n_rows=n_rows)
                output = forward(*args, **kwargs)
            if self._open is not None:
                self._open.leave(layer.index, keep=not self._is_over_at_last_layer)
            return self._finish(layer, output, edits)

        return stand_in

    def _expanded(self, leaves: Leaves, axes: Sequence[BatchAxis | None], *, n_rows: int, may_view: bool) -> list[Any]:
        """A layer's arguments, or what it returned, for all rows."""
        return expand_leaves(
            leaves,
            axes,
            n_clean=self._n_base,
            n_rows=n_rows,
            may_view=may_view,
            sources_of=self._sources_of if self._groups.have_parents else None,
        )

    def _sources_of(self, groups: range, n_there: int) -> Sequence[int]:
        return [self._groups.source_of(group, n_there=n_there) for group in groups]

    def _edits_of(self, layer: Layer, forward: Callable[..., Any], leaves: Leaves) -> LayerEdits:
        """What is done in one call of a layer."""
        rows, n = to_rows_first(leaves.values[layer.wiring.stream_in], layer.wiring), self._n_base
        edited = {one.group for one in self._groups.edits.get(layer.index, ())} | {0}
        n_there = len(rows) // n
        from_group = {group: self._groups.source_of(group, n_there=n_there) for group in edited}
        # Copies: a layer may add to the stream in place. Group 0 stands for those that are copied from it here.
        entering = {
            group: rows[source * n : (source + 1) * n].clone()
            for group, source in from_group.items()
            if source or not group
        }
        return LayerEdits(
            groups=self._groups,
            observers=[one for one in self.observers if layer.index in self._seen_at[one.site]],
            layer=layer,
            n_base=n,
            entering=entering,
            first=self._first,
            prompts=self.prompts,
            rerun=None if self.cached is not None else partial(self._rerun, layer, forward, leaves),
        )

    def _rerun(
        self, layer: Layer, forward: Callable[..., Any], leaves: Leaves, rows: Tensor, edits: Mapping[str, EditRows]
    ) -> object:
        """Call a layer once more, with another stream [row, position, …, width]."""
        axes = self.axes.inputs(layer, leaves, length=self.ids.shape[1], cached=None)
        values = expand_leaves(leaves, axes, n_clean=self._n_base, n_rows=len(rows), may_view=False)
        values[layer.wiring.stream_in] = from_rows_first(rows.clone(), layer.wiring)
        args, kwargs = leaves.rebuilt(values)
        return run_edited(layer, forward, args, kwargs, edits)

    def _watched(self, layer: Layer) -> list[str]:
        """The sites at which something is looked at or changed before the layer's output is there."""
        names = self._groups.sites(layer.index)
        names += [name for name, layers in self._seen_at.items() if layer.index in layers]
        return [name for name in dict.fromkeys(names) if SITES[name].joins == "entrance"]

    def _append_at_entrance(self, layer: Layer, stream: Tensor) -> Tensor:
        """For a site inside the layer, the copies of the base rows come in with the others."""
        n_groups = self._groups.entering.get(layer.index, 0)
        if not n_groups:
            return stream
        axis = layer.wiring.batch_axis
        if self._groups.have_parents:
            n_there = stream.shape[axis] // self._n_base
            sources = self._sources_of(range(n_there, n_there + n_groups), n_there)
            return append_rows(stream, copied_groups(stream, axis, sources, size=self._n_base), axis)
        return append_rows(stream, repeat_rows(stream.narrow(axis, 0, self._n_base), axis, n_groups), axis)

    def _finish(self, layer: Layer, output: Any, edits: LayerEdits) -> Any:
        """The layer's output with its lens row kept and, for sites in it, perturbed copies appended."""
        leaves = flatten(output)
        wiring = layer.wiring
        stream = self._edit_at_exit(layer, leaves.values[wiring.stream_out], edits)
        self._lens_rows.append(self._read_base(stream, wiring))
        if layer.index == self.network.anatomy.n_layers - 1:
            self._rows = self._read(to_rows_first(stream, wiring), wiring)
            if self._is_over_at_last_layer:
                raise _PassIsOver
            return unflatten_into(output, self._base_output(leaves, wiring))
        n_rows = stream.shape[wiring.batch_axis]
        axes = self.axes.outputs(layer, leaves, cached=self.cached)
        values = self._expanded(leaves, axes, n_rows=n_rows, may_view=self.cached is None)
        values[wiring.stream_out] = stream
        # In the model's own lists: what later layers find there is exchanged when they run.
        return unflatten_into(output, leaves.rebuilt(values))

    def _edit_at_exit(self, layer: Layer, stream: Tensor, edits: LayerEdits) -> Tensor:
        """What leaves a layer, edited where it is to be, with the rows appended that come in here."""
        wiring = layer.wiring
        base = to_rows_first(stream.narrow(wiring.batch_axis, 0, self._n_base), wiring)
        edits.show(base)
        rows, coming_in = edits.at_exit(to_rows_first(stream, wiring))
        parts = [stream if rows is None else from_rows_first(rows, wiring)]
        parts += [from_rows_first(one, wiring) for one in coming_in]
        return torch.cat(parts, dim=wiring.batch_axis) if coming_in else parts[0]

    def _base_output(self, leaves: Leaves, wiring: Wiring) -> Any:
        """A layer's output with the base rows of the stream alone; what else it hands on may be its memory."""
        stream = leaves.values[wiring.stream_out]
        return leaves.replaced(wiring.stream_out, stream.narrow(wiring.batch_axis, 0, self._n_base))

    def _read_base(self, stream: Tensor, wiring: Wiring) -> Tensor:
        """The base rows at the positions that are read, a copy."""
        return self._read(to_rows_first(stream.narrow(wiring.batch_axis, 0, self._n_base), wiring), wiring)

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
    perturbers = () if perturber is None else (perturber,)
    return run_pass(
        LadderPass(
            network=network,
            ids=ids,
            read=read,
            perturbers=perturbers,
            variants=single_edits(variants) if perturbers else (),
            axes=axes,
        )
    )


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
