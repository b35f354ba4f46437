"""What is done to the prompts of a trace, as far as its cost depends on it."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One model and one perturbation.

    Attributes:
        network: The model.
        method: "ladder" or "plain".
        layers: The layers that are perturbed.
        n_draws: Number of draws.
        is_inside: Whether they are perturbed inside, not where they end.
        last_only: Whether only the prompt's last position is perturbed.
        sees_site: Whether what stands at the site in clean rows is looked at.
        cached: How rows go on from what they remember; None where they never do.
        state: What is done to the layers' memory; None where nothing is.
    """

    network: Network
    method: Method
    layers: tuple[int, ...]
    n_draws: int
    is_inside: bool = False
    last_only: bool = False
    sees_site: bool = False
    cached: CachedLadder | None = None
    state: StatePass | None = None

    @property
    def n_variants(self) -> int:
        """Perturbed copies of every prompt, in all passes together."""
        return self.n_draws * len(self.layers)

    @property
    def itemsize(self) -> int:
        """Bytes of one number of the stream."""
        return torch.empty((), dtype=self.network.dtype).element_size()

    @property
    def shortest(self) -> int:
        """How many tokens a span after others must have."""
        return 1 if self.cached is None else self.cached.continuation.shortest

    def draws(self, variants: Variants) -> Float[np.ndarray, " layer"]:
        """How many copies each layer adds in a pass."""
        return np.array([len(variants.get(layer, ())) for layer in range(self.network.anatomy.n_layers)], dtype=float)

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
        if self.method == "plain" or self.state is not None:
            return [self.whole(prompt)]
        end = self.own_end(prompt, n_before)
        found = [] if end is None else [self.after(n_before, end)[0]]
        start = n_before if end is None else end
        return [*found, self.after(start, len(prompt.ids))[0] if start else self.whole(prompt)]

    def all_spans(self, root: PrefixNode) -> set[TokenSpan]:
        """All that prompts and their prefixes are read in."""
        prompts = {span for one in root.nodes() for each in one.prompts for span in self.spans(each, one.end)}
        return prompts | {self.after(one.start, one.end)[0] for one in root.nodes() if one.end}
