"""Sites of operators in a layer's code: where one runs, so that the same one is found again in another run.

A site is a module's call, an operator, and how many of them the module's own code had run before.
Only operators on tensors by row and position are counted: how many others there are may depend on
the tokens (a loop over the experts that were hit).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from layertracer.models._calling.hooks import hooking


class OpSite(NamedTuple):
    """Where an operator runs.

    Attributes:
        module: The module whose own code runs it.
        call: How many calls of that module came before in the layer.
        operator: Its name.
        ordinal: How many operators of that name that call had run before on tensors by row and position.
    """

    module: nn.Module
    call: int
    operator: str
    ordinal: int


@dataclass(slots=True)
class _Frame:
    module: nn.Module
    call: int
    counts: Counter[str] = field(default_factory=Counter)


class OpSites:
    """Keeps count of where a layer's run is.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._calls: Counter[nn.Module] = Counter()
        self._frames = [_Frame(layer, 0)]
        self.counts: dict[tuple[nn.Module, int], Counter[str]] = {(layer, 0): self._frames[0].counts}
        """How many operators of each name every call has run on tensors by row and position."""
        self._is_paused = False
        self.callers: dict[nn.Module, set[nn.Module]] = {}
        """From inside which modules each module was called."""

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules whose calls have begun and not ended, outermost first."""
        return tuple(frame.module for frame in self._frames)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing that runs in the block is counted: a layer may be run again in the middle of itself."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def next(self, operator: str) -> OpSite:
        """The site of an operator that runs now."""
        frame = self._frames[-1]
        ordinal = frame.counts[operator]
        frame.counts[operator] += 1
        return OpSite(frame.module, frame.call, operator, ordinal)

    @contextmanager
    def following(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """The calls of these modules are told apart for the length of the block."""

        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            del args, kwargs
            if self._is_paused:
                return
            self.callers.setdefault(module, set()).add(self._frames[-1].module)
            frame = _Frame(module, self._calls[module])
            self._calls[module] += 1
            self.counts[module, frame.call] = frame.counts
            self._frames.append(frame)

        def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            del module, args, kwargs, output
            if not self._is_paused:
                self._frames.pop()

        with hooking(dict.fromkeys(modules), before=begin, after=end):
            yield
