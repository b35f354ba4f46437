"""What is done to the prompts of a trace, as far as its cost depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from layertracer._types import Method
from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import PrefixNode
from layertracer.tracing._passes.cache_pass import StatePass
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._passes.ladder import Variants
from layertracer.tracing._planning.token_spans import TokenSpan
from layertracer.tracing._sites.protocol import Join

Cell = tuple[int, int]
"""A layer and a draw, counted over all perturbations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWork:
    """One perturbation of a trace, as far as costs depend on it.

    Attributes:
        layers: The layers that are perturbed.
        draws: Its draws, counted over all perturbations.
        join: Where its rows come in.
        last_only: Whether only the prompt's last position is perturbed.
        sees_site: Whether what stands at the site in clean rows is looked at.
    """

    layers: tuple[int, ...]
    draws: range
    join: Join
    last_only: bool = False
    sees_site: bool = False

    @property
    def is_in_ladder(self) -> bool:
        """Whether its rows go through the ladder, and not through a pass over the layers' caches."""
        return self.join != "cache"

    @property
    def cells(self) -> list[Cell]:
        """Its layers and draws."""
        return [(layer, draw) for layer in self.layers for draw in self.draws]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model and what is done to it.

    Attributes:
        network: The model.
        method: "ladder" or "plain".
        sites: The perturbations, in the order of their draws.
        cached: How rows go on from what they remember; None where they never do.
        state: What is done to the layers' memory; None where nothing is.
        batch_multiple: How many prompts must stay together: 2 where partners are pairs.
        n_lenses: How many lenses read what leaves the layers.
    """

    network: Network
    method: Method
    sites: tuple[SiteWork, ...]
    cached: CachedLadder | None = None
    state: StatePass | None = None
    batch_multiple: int = 1
    n_lenses: int = 1

    @property
    def n_draws(self) -> int:
        """Draws of all perturbations."""
        return sum(len(site.draws) for site in self.sites)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are perturbed somewhere, in order."""
        return tuple(sorted({layer for site in self.sites for layer in site.layers}))

    @property
    def cells(self) -> list[Cell]:
        """All layers and draws, by layer."""
        return _by_layer(self.sites)

    @property
    def in_ladder(self) -> list[Cell]:
        """Those whose rows go through the ladder."""
        return _by_layer([site for site in self.sites if site.is_in_ladder])

    @property
    def in_state(self) -> list[Cell]:
        """Those whose rows go through the pass over the layers' caches."""
        return _by_layer([site for site in self.sites if not site.is_in_ladder])

    @property
    def last_only(self) -> bool:
        """Whether nothing is done to any token before the prompt's last position."""
        return bool(self.in_ladder) and all(site.last_only for site in self.sites if site.is_in_ladder)

    def without_sight(self) -> Workload:
        """The same, with nothing looked at."""
        return replace(self, sites=tuple(replace(site, sees_site=False) for site in self.sites))

    @property
    def n_variants(self) -> int:
        """Perturbed copies of every prompt, in all passes together."""
        return len(self.cells)

    @property
    def itemsize(self) -> int:
        """Bytes of one number of the stream."""
        return torch.empty((), dtype=self.network.dtype).element_size()

    @property
    def shortest(self) -> int:
        """How many tokens a span after others must have."""
        return 1 if self.cached is None else self.cached.continuation.shortest

    def draws(self, variants: Variants, join: Join) -> Float[np.ndarray, " layer"]:
        """How many copies come in at each layer of a pass, before it runs or after it has run."""
        own = {draw for site in self.sites if site.join == join for draw in site.draws}
        n_layers = self.network.anatomy.n_layers
        return np.array([len(own.intersection(variants.get(layer, ()))) for layer in range(n_layers)], dtype=float)

    def whole(self, prompt: Prompt) -> TokenSpan:
        """A prompt from its first token to its last, without a cache."""
        return TokenSpan(
            n_before=0,
            n_own=len(prompt.ids),
            cached=False,
            n_source=len(prompt.source_ids or ()),
            through_tail=self.method == "plain",
        )

    def after(self, n_before: int, end: int) -> tuple[TokenSpan, int]:
        """The tokens from one position to another where the cache is used, as one call reads them, and how many do."""
        assert self.cached is not None  # as the caller knows
        is_stepwise = self.cached.continuation.stepwise and n_before > 0
        n_own, n_calls = (1, end - n_before) if is_stepwise else (end - n_before, 1)
        last = end - n_own if is_stepwise else n_before
        return TokenSpan(n_before=last, n_own=n_own, cached=True), n_calls

    def own_end(self, prompt: Prompt, n_before: int) -> int | None:
        """Where the part of a prompt ends that nothing is done to and that is read on its own; None without one."""
        if not self.last_only or self.cached is None:
            return None
        end = min(prompt.read[0], len(prompt.ids) - self.shortest)
        return end if end - n_before >= self.shortest else None

    def spans(self, prompt: Prompt, n_before: int) -> list[TokenSpan]:
        """All that a prompt is read in, after a shared prefix of that many tokens."""
        if self.method == "plain" or self.cached is None:
            return [self.whole(prompt)]
        end = self.own_end(prompt, n_before)
        found = [] if end is None else [self.after(n_before, end)[0]]
        start = n_before if end is None else end
        return [*found, self.after(start, len(prompt.ids))[0] if start else self.whole(prompt)]

    def all_spans(self, root: PrefixNode) -> set[TokenSpan]:
        """All that prompts and their prefixes are read in."""
        prompts = {span for one in root.nodes() for each in one.prompts for span in self.spans(each, one.end)}
        return prompts | {self.after(one.start, one.end)[0] for one in root.nodes() if one.end}


def _by_layer(sites: Sequence[SiteWork]) -> list[Cell]:
    """The cells of some perturbations, layer by layer and in each in the order of the draws."""
    return sorted(cell for site in sites for cell in site.cells)
