"""Costs of spans, measured by running the model's own code on one row and on two, under a meter."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from layertracer.models import Layer, Network, flatten, grouped_heads, replacing_forward
from layertracer.tracing._passes.cached_ladder import CachedLadder, RowEdits
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._planning.guessed_costs import guess_tail_flops
from layertracer.tracing._planning.length_steps import foresee, probed_bytes, shorter
from layertracer.tracing._planning.op_meter import Meter, Reading
from layertracer.tracing._planning.token_spans import Quantity, SpanCosts, TokenSpan, between, fit_lines

Prepare = Callable[[], Callable[[], object]]
"""Gets everything ready, and returns what runs the model."""


class _IsOver(Exception):  # noqa: N818 - not an error: it ends a forward whose tail is not asked for
    """Raised when the last layer has run."""


@dataclass(slots=True, kw_only=True)
class CostProbe:
    """A model's costs, measured when they are first asked for and kept.

    Attributes:
        network: The model.
        uses_ladder: Whether it is traced by the ladder, so that its tail runs on single positions.
    """

    network: Network
    uses_ladder: bool = True
    _known: dict[TokenSpan, SpanCosts] = field(default_factory=dict, init=False)
    _caches: dict[int, RowCache] = field(default_factory=dict, init=False)
    _tail_flops: float | None = field(default=None, init=False)

    def measure(
        self, spans: Collection[TokenSpan], cached: CachedLadder | None, *, room_bytes: float = math.inf
    ) -> dict[TokenSpan, SpanCosts]:
        """The costs of some spans, measured at the ends of their range of lengths, and between them estimated.

        Args:
            spans: Which ones.
            cached: How rows go on from what they remember; None where none do.
            room_bytes: What may be live meanwhile; where two rows of a span would take more, its costs are foreseen
                from those of shorter ones.

        Raises:
            Whatever the model raises on prompts of these lengths.
        """
        found: dict[TokenSpan, SpanCosts] = {}
        try:
            for form in sorted({form_of(span) for span in spans}):
                alike = [span for span in spans if form_of(span) == form]
                corners = self._corners(alike, cached, room_bytes)
                found |= {span: between(corners, span.n_before, span.n_own) for span in alike}
        finally:
            self._caches.clear()
        return found

    def tail_flops(self) -> float:
        """Floating-point operations of the tail for one position."""
        if self._tail_flops is None:
            if not self.uses_ladder:
                return guess_tail_flops(self.network)  # it cannot be run on single positions
            tail = Tail(self.network)
            rows = tail.zero_row()
            with Meter() as meter:
                tail(rows)
            self._tail_flops = float(meter.reading().flops)
        return self._tail_flops

    def _corners(
        self, alike: Collection[TokenSpan], cached: CachedLadder | None, room_bytes: float
    ) -> dict[tuple[int, int], SpanCosts]:
        """Costs at the corners of the rectangle that holds all pairs of tokens before and own tokens."""
        some = next(iter(alike))
        n_before = {span.n_before for span in alike}
        n_own = {span.n_own for span in alike}
        longest = self.network.max_length or max(n_before) + max(n_own)
        corners = {}
        for before in {min(n_before), max(n_before)}:
            for own in {min(n_own), max(n_own)}:
                fitting = max(1, min(before, longest - own)) if before else 0
                corner = TokenSpan(
                    n_before=fitting,
                    n_own=own,
                    cached=some.cached,
                    n_source=max(span.n_source for span in alike),
                    through_tail=some.through_tail,
                )
                corners[before, own] = self._within(corner, cached, room_bytes)
        return corners

    def _within(self, span: TokenSpan, cached: CachedLadder | None, room_bytes: float) -> SpanCosts:
        """The costs of a span: measured if they fit into the room, else foreseen from as much of it as does."""
        if span in self._known:
            return self._known[span]
        known: list[tuple[TokenSpan, SpanCosts]] = []
        for part in shorter(span, least_before=1 if cached is None else cached.continuation.shortest):
            if known and probed_bytes(foresee(known, part)) > room_bytes:
                return foresee(known, span)
            known.append((part, self._run_both(part, cached)))
            if probed_bytes(foresee(known[-1:], span)) <= room_bytes:  # even if it grows with the square
                break
        else:
            if known and probed_bytes(foresee(known, span)) > room_bytes:
                return foresee(known, span)
        self._known[span] = self._run_both(span, cached)
        return self._known[span]

    def _run_both(self, span: TokenSpan, cached: CachedLadder | None) -> SpanCosts:
        runs = [_Run(network=self.network, span=span) for _ in range(2)]
        for n_rows, run in enumerate(runs, start=1):
            call = self._call_with_cache(span, cached, n_rows) if cached and span.cached else None
            with grouped_heads(self.network.device):
                run.measure(call or self._call(span, n_rows), stops=not (span.cached or span.through_tail))
        remembered = np.zeros(self.network.anatomy.n_layers)
        for layer in self.network.anatomy.layers:
            if cached is not None and span.n_before:
                remembered[layer.index] = cached.state.layer_bytes(layer.index, span.n_before)
        return SpanCosts(
            lines=fit_lines(runs[0].table, runs[1].table),
            stream_bytes=runs[0].stream_bytes,
            memory_bytes=remembered,
        )

    def _call(self, span: TokenSpan, n_rows: int) -> Prepare:
        network, ids = self._ids(span, n_rows)
        return lambda: lambda: network.call(ids)

    def _call_with_cache(self, span: TokenSpan, cached: CachedLadder, n_rows: int) -> Prepare:
        _, ids = self._ids(span, n_rows)
        if not span.n_before:
            return lambda: lambda: cached.state.call.remember(ids)
        before = self._remember(ids[:1, : span.n_before], cached).cache
        own, with_positions = ids[:, span.n_before :], cached.continuation.with_positions

        def prepare() -> Callable[[], object]:
            memory, _ = cached.state.repeated(before, n_rows)
            return lambda: cached.state.call.remember(own, memory, with_positions=with_positions)

        return prepare

    def _remember(self, ids: Tensor, cached: CachedLadder) -> RowCache:
        """What one row remembers of that many tokens."""
        n_tokens = ids.shape[1]
        if n_tokens not in self._caches:
            self._caches[n_tokens] = cached.read(ids, RowEdits.nothing(), before=None)
        return self._caches[n_tokens]

    def _ids(self, span: TokenSpan, n_rows: int) -> tuple[Network, Tensor]:
        network, ids = self.network.probe(batch=n_rows, length=span.n_before + span.n_own)
        if span.n_source:
            network, _ = self.network.probe(batch=n_rows, length=span.n_source)
        return network, ids


def form_of(span: TokenSpan) -> tuple[bool, ...]:
    """Between spans of one form, costs grow smoothly with their lengths."""
    return span.cached, span.n_before > 0, span.through_tail


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run under the meter, taken apart into its phases."""

    network: Network
    span: TokenSpan
    stream_bytes: float = 0.0
    table: Float[np.ndarray, "quantity phase"] = field(init=False)
    _meter: Meter = field(default_factory=Meter, init=False)
    _began: Reading = field(init=False)

    def measure(self, prepare: Prepare, *, stops: bool) -> None:
        """Run the model; the last layer ends it where nobody asks for its tail.

        What is prepared is live when the run begins, and may be released in it.
        """
        layers = self.network.anatomy.layers
        self.table = np.zeros((len(Quantity), len(layers) + 2))
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(replacing_forward(layer.module, self._metered(layer, stops=stops)))
            stack.enter_context(suppress(_IsOver))
            stack.enter_context(self._meter)
            call = prepare()
            self._begin()
            result = call()
            self._end(len(layers) + 1)
            del result

    def _metered(self, layer: Layer, *, stops: bool) -> Callable[..., Any]:
        forward, wiring = layer.module.forward, layer.wiring
        is_last = layer.index == self.network.anatomy.n_layers - 1

        def metered(*args: Any, **kwargs: Any) -> Any:
            if layer.index == 0:
                stream = flatten((args, kwargs)).values[wiring.stream_in]
                self.stream_bytes = stream.nbytes / stream.shape[wiring.batch_axis]
                self._end(0)
            self._begin()
            output = forward(*args, **kwargs)
            self._end(1 + layer.index)
            if is_last and stops:
                raise _IsOver
            self._begin()
            return output

        return metered

    def _begin(self) -> None:
        self._meter.let_down()
        self._began = self._meter.reading()

    def _end(self, phase: int) -> None:
        began, now = self._began, self._meter.reading()
        self.table[Quantity.PEAK, phase] = now.peak - began.live
        self.table[Quantity.KEPT, phase] = now.live - began.live
        self.table[Quantity.FLOPS, phase] = now.flops - began.flops
        self.table[Quantity.TRAFFIC, phase] = now.traffic - began.traffic
        self.table[Quantity.OPERATORS, phase] = now.n_operators - began.n_operators
