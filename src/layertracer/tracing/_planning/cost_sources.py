"""Where costs come from: measured where that is worth it, guessed where the work is small."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from layertracer.models import Network
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._planning.guessed_costs import guess_costs, guess_tail_flops
from layertracer.tracing._planning.measured_costs import CostProbe
from layertracer.tracing._planning.token_spans import SpanCosts, TokenSpan


@dataclass(slots=True, kw_only=True)
class GuessedCosts:
    """Costs from the shapes of the weights.

    Attributes:
        network: The model.
        cached: How rows go on from what they remember; None where none do.
    """

    network: Network
    cached: CachedLadder | None
    _known: dict[TokenSpan, SpanCosts] = field(default_factory=dict, init=False)

    @property
    def is_measured(self) -> bool:
        """Whether they were measured on the model."""
        return False

    def of(self, span: TokenSpan) -> SpanCosts:
        """The costs of a span."""
        if span not in self._known:
            self._known[span] = guess_costs(self.network, span, self.cached)
        return self._known[span]

    def tail_flops(self) -> float:
        """Floating-point operations of the tail for one position."""
        return guess_tail_flops(self.network)

    def without_cache(self, spans: Collection[TokenSpan]) -> GuessedCosts:
        """Costs where nothing goes on from what the model remembers."""
        del spans  # each is guessed when it is asked for
        return GuessedCosts(network=self.network, cached=None)


@dataclass(slots=True, kw_only=True)
class MeasuredCosts:
    """Costs from the model's own code.

    Attributes:
        probe: The model's probe.
        cached: How rows go on from what they remember; None where none do.
        spans: Those that will be asked for; others are measured when they are.
        room_bytes: What may be live while they are measured.
    """

    probe: CostProbe
    cached: CachedLadder | None
    spans: Collection[TokenSpan]
    room_bytes: float = math.inf
    _known: dict[TokenSpan, SpanCosts] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Measure what will be asked for.

        Raises:
            Whatever the model raises on prompts of these lengths.
        """
        self._known = self.probe.measure(self.spans, self.cached, room_bytes=self.room_bytes)

    @property
    def is_measured(self) -> bool:
        """Whether they were measured on the model."""
        return True

    def of(self, span: TokenSpan) -> SpanCosts:
        """The costs of a span."""
        if span not in self._known:
            self._known |= self.probe.measure([span], self.cached, room_bytes=self.room_bytes)
        return self._known[span]

    def tail_flops(self) -> float:
        """Floating-point operations of the tail for one position."""
        return self.probe.tail_flops()

    def without_cache(self, spans: Collection[TokenSpan]) -> MeasuredCosts | GuessedCosts:
        """Costs where nothing goes on from what the model remembers; guessed where they cannot be measured."""
        try:
            return MeasuredCosts(probe=self.probe, cached=None, spans=spans, room_bytes=self.room_bytes)
        except Exception:  # noqa: BLE001 - whatever a model's own code raises: the trace raises it where it matters
            return GuessedCosts(network=self.probe.network, cached=None)
