"""Proof of windows: which layers' mixers can be given one, shown by what reaches what.

Of every layer, on a text longer than the window: a token's vector is exchanged where it enters the layer, and the layer
runs again. What its mixer adds at the other positions must then change exactly where it did before and the window lets
the token through; nothing that leaves the layer may change elsewhere. So that what is seen shows however little a
trained model attends to it, the same is done with attention that weighs alike all that it sees. Names decide nothing:
a layer that also carries tokens on by a convolution, a recurrence or a selection of its own is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from layertracer._errors import SiteError
from layertracer._types import Window
from layertracer.models import (
    Layer,
    Leaves,
    Network,
    Role,
    call_again,
    cloned,
    flatten,
    is_out_of_memory,
    keeping_loaded,
    replacing_forward,
)
from layertracer.tracing._batching.rows import to_rows_first
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._sites.attention_reach import narrowing, visible_keys
from layertracer.tracing._sites.branch_output import watching
from layertracer.tracing._sites.protocol import LayerRun

_MOST_SIZE, _MOST_SINKS = 48, 8
"""Windows are proved at this size at most: each costs a dozen runs of every layer over a text that is longer."""
_BEYOND = 8
"""How much longer."""
_SHARE = 1e-3
"""Of the largest change at another position, what counts as one; where nothing is carried, nothing changes at all."""
_LEAK = 1e-5
"""Of the change at the position itself, what may change elsewhere by rounding: experts are given other batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowProof:
    """Which layers' mixers can be given a window.

    Attributes:
        placeable: Those that can, in order.
        refused: Why the others cannot, by layer.
        n_calls: How often each of the first calls its attention.
    """

    placeable: tuple[int, ...]
    refused: Mapping[int, str]
    n_calls: Mapping[int, int]


def proved_window(window: Window) -> Window:
    """The window that is put to the proof in place of one: the same, or a smaller one where that is large."""
    return Window(min(window.size, _MOST_SIZE), sinks=min(window.sinks, _MOST_SINKS))


def prove_windows(network: Network, window: Window) -> WindowProof:
    """Which layers of a model can be given a window, shown on a text that is longer than it.

    Args:
        network: The model, without an encoder.
        window: The window.
    """
    proved = proved_window(window)
    length = proved.n_seen + _BEYOND
    if network.max_length is not None:
        length = min(length, network.max_length)
    network, ids = network.probe(batch=1, length=length)
    trials = [_Trial(layer=layer, window=proved) for layer in network.anatomy.layers]
    with ExitStack() as stack:
        for trial in trials:
            stack.enter_context(replacing_forward(trial.layer.module, trial.standing_in()))
        network.call(ids)
    refused = {trial.layer.index: trial.refusal for trial in trials if trial.refusal}
    return WindowProof(
        placeable=tuple(trial.layer.index for trial in trials if not trial.refusal),
        refused=refused,
        n_calls={trial.layer.index: trial.n_calls for trial in trials if not trial.refusal},
    )


@dataclass(frozen=True, slots=True)
class _Changes:
    """How much changes at each position when a token's vector is exchanged.

    Attributes:
        added: In what the mixer adds; in what leaves the layer where that is not known.
        leaving: In what leaves the layer.
    """

    added: Tensor
    leaving: Tensor


@dataclass(slots=True, kw_only=True)
class _Trial:
    """The proof of one layer.

    Attributes:
        layer: The layer.
        window: The window.
        refusal: Why it cannot be given one; empty where it can.
        n_calls: How often it calls its attention.
    """

    layer: Layer
    window: Window
    refusal: str = field(init=False, default="")
    n_calls: int = field(init=False, default=0)

    def standing_in(self) -> Callable[..., Any]:
        """The layer's forward, in which it is tried as well."""
        forward = self.layer.module.forward

        def tried(*args: Any, **kwargs: Any) -> Any:
            given = flatten((args, kwargs))
            before = Leaves(cloned(given.values), given.spec)
            output = forward(*args, **kwargs)
            after = flatten((args, kwargs)).values
            with keeping_loaded(self.layer.module.modules()):
                self.refusal = self._try(_Repeats(self.layer, forward, before))
            given.rebuilt(after)  # what the trials wrote into shared mappings is undone
            return output

        return tried

    def _try(self, repeats: _Repeats) -> str:
        """Why the layer cannot be given a window; nothing where it can."""
        wiring = self.layer.wiring
        if wiring.n_leading or wiring.n_parallel != 1:
            return "its stream holds other entries than one for each token"
        try:
            return self._find_refusal(repeats)
        except SiteError:
            return f"its mixer ({self.layer.mixer}) calls no attention that could be given a window"
        except Exception as error:
            if is_out_of_memory(error) or is_of_callers_making(error):
                raise
            return f"it cannot run with a window ({first_line(error)})"

    def _find_refusal(self, repeats: _Repeats) -> str:
        length = repeats.n_positions
        visible = visible_keys(torch.tensor((self.window.size, self.window.sinks)).expand(length, 2))
        if visible is None:
            return "no text that the model can read is longer than the window"
        if not repeats.is_same_with_all_seen():
            return "it gives something else where its attention is watched and sees everything"
        is_farther = False
        for changed in _positions(self.window, length):
            others = torch.arange(length) != changed
            allowed = visible[:, changed] & others
            own = _is_reached(repeats.changes(changed, window=None, evenly=True).added, others)
            even = repeats.changes(changed, window=self.window, evenly=True)
            usual = repeats.changes(changed, window=self.window, evenly=False)
            if repeats.leaks(even, others & ~allowed) or repeats.leaks(usual, others & ~allowed):
                return "with a window, what it adds at a position still depends on tokens outside the window"
            if not torch.equal(_is_reached(even.added, others), own & allowed):
                return "with a window, what it adds at a position does not depend on all tokens in the window"
            is_farther |= bool((own & ~allowed).any())
        self.n_calls = repeats.n_calls
        return "" if is_farther else "by itself it sees no farther than the window"


def _positions(window: Window, length: int) -> list[int]:
    """The tokens that are exchanged: the first, the last sink, the first one behind it, and others up to the end."""
    wanted = (0, window.sinks - 1, window.sinks, window.sinks + 2, length // 2, length - 3)
    return sorted({min(max(0, position), length - 1) for position in wanted})


def _is_reached(change: Tensor, others: Tensor) -> Tensor:
    """At which other positions something changes."""
    largest = change[others].max()
    return others & (change > _SHARE * largest) & bool(largest > 0)


@dataclass(slots=True)
class _Repeats:
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

    def changes(self, position: int, *, window: Window | None, evenly: bool) -> _Changes:
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
        return _Changes(added, leaving)

    def leaks(self, changes: _Changes, hidden: Tensor) -> bool:
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
