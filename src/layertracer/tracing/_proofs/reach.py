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
    cloned,
    flatten,
    is_out_of_memory,
    keeping_loaded,
    replacing_forward,
)
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._proofs.exchanged_tokens import Repeats
from layertracer.tracing._sites.attention_reach import visible_keys

_MOST_SIZE, _MOST_SINKS = 48, 8
"""Windows are proved at this size at most: each costs a dozen runs of every layer over a text that is longer."""
_BEYOND = 8
"""How much longer."""
_SHARE = 1e-3
"""Of the largest change at another position, what counts as one; where nothing is carried, nothing changes at all."""
_LEAKS = "with a window, what it adds at a position still depends on tokens outside the window"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowProof:
    """Which layers' mixers can be given a window.

    Attributes:
        placeable: Those that can, in order.
        refused: Why the others cannot, by layer.
        n_calls: How often each of the first calls its attention.
        length: On how many tokens it was shown.
    """

    placeable: tuple[int, ...]
    refused: Mapping[int, str]
    n_calls: Mapping[int, int]
    length: int


def check_length(network: Network, window: Window, ids: Tensor, n_calls: Mapping[int, int]) -> None:
    """Hold what was proved against a text that is longer than any before: attention may change its ways with length.

    Args:
        network: The model.
        window: The window, shorter than the text.
        ids: Token ids [1, position].
        n_calls: How often each layer that can be given a window calls its attention.

    Raises:
        SiteError: If a layer calls its attention otherwise here, or a token outside the window reaches it.
    """
    trials = [_Trial(layer=network.anatomy.layers[layer], window=window, n_calls=n_calls[layer]) for layer in n_calls]
    with ExitStack() as stack:
        for trial in trials:
            stack.enter_context(replacing_forward(trial.layer.module, trial.standing_in(_Trial.find_leak)))
        network.call(ids)
    for trial in trials:
        if trial.refusal:
            raise SiteError(
                f"{window.describe().capitalize()} in layer {trial.layer.index} ({trial.layer.path}) was proved right "
                f"on shorter texts, and is not on one of {ids.shape[1]} tokens: {trial.refusal}. Use shorter rows, or "
                "a substitute without a window (NoMixer, MeanMixer)."
            )


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
            stack.enter_context(replacing_forward(trial.layer.module, trial.standing_in(_Trial.find_refusal)))
        network.call(ids)
    refused = {trial.layer.index: trial.refusal for trial in trials if trial.refusal}
    return WindowProof(
        placeable=tuple(trial.layer.index for trial in trials if not trial.refusal),
        refused=refused,
        n_calls={trial.layer.index: trial.n_calls for trial in trials if not trial.refusal},
        length=length,
    )


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
    n_calls: int = 0
    refusal: str = field(init=False, default="")

    def standing_in(self, find: Callable[[_Trial, Repeats], str]) -> Callable[..., Any]:
        """The layer's forward, in which a reason to refuse it is looked for as well."""
        forward = self.layer.module.forward

        def tried(*args: Any, **kwargs: Any) -> Any:
            given = flatten((args, kwargs))
            before = Leaves(cloned(given.values), given.spec)
            output = forward(*args, **kwargs)
            after = flatten((args, kwargs)).values
            with keeping_loaded(self.layer.module.modules()):
                self.refusal = self._try(find, Repeats(self.layer, forward, before))
            given.rebuilt(after)  # what the trials wrote into shared mappings is undone
            return output

        return tried

    def _try(self, find: Callable[[_Trial, Repeats], str], repeats: Repeats) -> str:
        """Why the layer cannot be given a window; nothing where it can."""
        wiring = self.layer.wiring
        if wiring.n_leading or wiring.n_parallel != 1:
            return "its stream holds other entries than one for each token"
        try:
            return find(self, repeats)
        except SiteError:
            return f"its mixer ({self.layer.mixer}) calls no attention that could be given a window"
        except Exception as error:
            if is_out_of_memory(error) or is_of_callers_making(error):
                raise
            return f"it cannot run with a window ({first_line(error)})"

    def find_leak(self, repeats: Repeats) -> str:
        """Whether a token behind the sinks reaches positions that do not see it."""
        length = repeats.n_positions
        visible = visible_keys(torch.tensor((self.window.size, self.window.sinks)).expand(length, 2))
        if visible is None:
            return ""
        hidden = ~visible[:, self.window.sinks]
        changes = repeats.changes(self.window.sinks, window=self.window, evenly=False)
        if repeats.n_calls != self.n_calls:
            return f"it calls its attention {repeats.n_calls} times there, and {self.n_calls} times otherwise"
        return _LEAKS if repeats.leaks(changes, hidden) else ""

    def find_refusal(self, repeats: Repeats) -> str:
        """Why the layer cannot be given a window."""
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
                return _LEAKS
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
