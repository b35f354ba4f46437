"""One call of a layer made again and again, with a token's vector exchanged and its attention narrowed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layertracer._types import Window
from layertracer.models import Layer, Leaves, Role, call_again, cloned
from layertracer.tracing._batching.rows import to_rows_first
from layertracer.tracing._sites.attention_reach import narrowing
from layertracer.tracing._sites.branch_output import watching
from layertracer.tracing._sites.protocol import LayerRun

_LEAK = 1e-5
"""Of the change at the position itself, what may change elsewhere by rounding: experts are given other batches."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How much changes at each position when a token's vector is exchanged.

    Attributes:
        added: In what the mixer adds; in what leaves the layer where that is not known.
        leaving: In what leaves the layer.
    """

    added: Tensor
    leaving: Tensor


@dataclass(slots=True)
class Repeats:
    """One call of a layer, repeated with a token's vector exchanged, its attention narrowed.

    Attributes:
        layer: The layer.
        forward: Its own forward.
        given: What it was called with.
        n_calls: How often it called its attention in the last run.
    """

    layer: Layer
    forward: Callable[..., Any]
    given: Leaves
    n_calls: int = 0
    _unchanged: dict[tuple[Window | None, bool], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def _stream(self) -> Tensor:
        stream: Tensor = self.given.values[self.layer.wiring.stream_in]
        return stream

    @property
    def n_positions(self) -> int:
        """How many tokens the text has."""
        return int(self._stream.shape[self.layer.wiring.position_axis])

    def is_same_with_all_seen(self) -> bool:
        """Whether watching changes nothing, where everything is seen."""
        plain = call_again(self.forward, self.given, cloned(self.given.values)).values[self.layer.wiring.stream_out]
        _, leaving = self._run(self._stream, window=None, evenly=False)
        plain = to_rows_first(plain, self.layer.wiring).flatten(2)[0]
        difference = (leaving.double() - plain.double()).abs().max()
        eps = torch.finfo(plain.dtype).eps
        return bool(difference <= 16 * eps * plain.abs().max())

    def changes(self, position: int, *, window: Window | None, evenly: bool) -> Changes:
        """How much changes where, when the vector at a position is exchanged."""
        key = window, evenly
        if key not in self._unchanged:
            self._unchanged[key] = self._run(self._stream, window=window, evenly=evenly)
        stream = self._stream.clone()
        rows = to_rows_first(stream, self.layer.wiring)
        rows[:, position] = 1 - 3 * rows[:, position].flip(-1)
        ran = self._run(stream, window=window, evenly=evenly)
        added, leaving = (
            (one.double() - other.double()).abs().amax(dim=-1).cpu()
            for one, other in zip(ran, self._unchanged[key], strict=True)
        )
        return Changes(added, leaving)

    def leaks(self, changes: Changes, hidden: Tensor) -> bool:
        """Whether anything changes where nothing may."""
        eps = torch.finfo(self._stream.dtype).eps
        share = max(_LEAK, 4 * eps)
        return any(bool((one[hidden] > share * one.max()).any()) for one in (changes.added, changes.leaving))

    def _run(self, stream: Tensor, *, window: Window | None, evenly: bool) -> tuple[Tensor, Tensor]:
        """What the mixer adds and what leaves the layer, [position, width] each."""
        wiring, added = self.layer.wiring, list[Tensor]()
        values = cloned(self.given.values)
        values[wiring.stream_in] = stream.clone()

        def reach_of(full: Tensor) -> Tensor | None:
            return None if window is None else full.new_tensor((window.size, window.sinks)).expand(full.shape)

        def note(addition: Tensor, role: Role) -> None:
            if role == "mixer":
                added.append(to_rows_first(addition.clone(), wiring).flatten(2)[0])

        run = LayerRun(self.layer, values[wiring.stream_in])
        with ExitStack() as stack:
            if self.layer.additions.of("mixer"):
                stack.enter_context(watching(self.layer, values[wiring.stream_in], note))
            watcher = stack.enter_context(narrowing(run, reach_of, evenly=evenly))
            leaving = call_again(self.forward, self.given, values).values[wiring.stream_out]
        self.n_calls = watcher.n_seen
        left = to_rows_first(leaving, wiring).flatten(2)[0].clone()
        return torch.cat(added, dim=-1) if added else left, left
