"""Ablation of KV caches and recurrent states (the state pass), between the prompt's prefix and its last token.

The prefix (all tokens but the last) is read once, with the model's own cache. The cache is repeated
for a group of rows per variant, one layer's memory is perturbed in each group, and the last token is
read: by all groups in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layertracer._errors import SiteError, UsageError, printable_cause
from layertracer.models import Continuation, LayerCache, Network, StateMap, UnusableCacheError
from layertracer.tracing._batching.memory_budget import PassPlan, largest, plan_pass, row_bytes
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics
from layertracer.tracing._distributions.row_measures import FollowedRows, measure_distributions
from layertracer.tracing._passes.cache_costs import StateCosts
from layertracer.tracing._perturbers.cached_values import StatePerturber

_LOGITS_ALIVE = 6
"""Tensors of the size of a step's logits that are alive at the busiest moment, in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSite:
    """A model's memories as a site.

    Attributes:
        network: The model.
        state: Where it keeps them.
        continuation: How tokens are read after the prefix; that it is right is proved, see `prove_state`.
    """

    network: Network
    state: StateMap
    continuation: Continuation

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that keep a memory of their own, in order."""
        without = set(self.state.layers_without)
        return tuple(index for index in range(self.network.anatomy.n_layers) if index not in without)

    def feed_prefix(self, ids: Tensor, *, n_after: int) -> LayerCache:
        """What the model remembers of all tokens but the last `n_after`.

        Raises:
            SiteError: If it remembers it in a form that probes of that length do not explain.
        """
        try:
            return self.state.read(ids[:, : ids.shape[1] - n_after])
        except UnusableCacheError as error:
            raise SiteError(
                f"What {self.network.name!r} remembers of these prompts cannot be masked, because {error}. Use "
                "site='block_output', or prompts of another length."
            ) from printable_cause(error)

    def clean(self, cache: LayerCache, tokens: Tensor) -> Tensor:
        """Log-probabilities [prompt, read, d_vocab] after each of the `tokens` [prompt, read] that follow `cache`."""
        return self.step(self.state.repeated(cache, 1)[0], tokens)

    def perturbed(
        self, cache: LayerCache, tokens: Tensor, perturber: StatePerturber, variants: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Log-probabilities [variant, prompt, read, d_vocab], each variant with one layer's memory perturbed.

        Args:
            cache: What the model remembers of the prompts' prefixes; it stays as it is.
            tokens: The tokens that follow, [prompt, read].
            perturber: What is done to a memory.
            variants: Layer and draw of each.
        """
        repeated, tensors = self.state.repeated(cache, len(variants))
        for number, (layer, draw) in enumerate(variants):
            rows = slice(number * len(tokens), (number + 1) * len(tokens))
            self.perturb(tensors, perturber, rows=rows, layer=layer, draw=draw)
        after = self.step(repeated, tokens.repeat(len(variants), 1))
        return after.view(len(variants), len(tokens), *after.shape[1:])

    def perturb(
        self, tensors: dict[str, Tensor], perturber: StatePerturber, *, rows: slice, layer: int, draw: int
    ) -> None:
        """Perturb one layer's memory in some rows of a cache, in place.

        Args:
            tensors: The cache's tensors by path.
            perturber: What is done.
            rows: Which rows.
            layer: Index of the layer.
            draw: Which draw.

        Raises:
            SiteError: If the layer remembers nothing.
        """
        caches = [
            (piece, piece.slots(tensors[piece.path])[rows])
            for piece in self.state.pieces(layer)
            if piece.path in tensors
        ]
        if not sum(slots.numel() for _, slots in caches):
            raise SiteError(f"Layer {layer} of {self.network.name!r} remembers nothing of a prompt this short.")
        for piece, slots in caches:
            slots.copy_(perturber(slots.flatten(2), piece=piece, layer=layer, draw=draw).reshape(slots.shape))

    def step(self, cache: LayerCache, tokens: Tensor) -> Tensor:
        """Log-probabilities [row, read, d_vocab]; `cache` is used up."""
        n_scored, fed, after = tokens.shape[1], self.continuation.filled(tokens), []
        for first, last in self.continuation.calls(fed.shape[1]):
            own = fed[:, first:last]
            logits, cache = self.state.call(own, cache, with_positions=self.continuation.with_positions)
            after.append(log_probs_of(logits[:, : n_scored - first]))
        return torch.cat(after, dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePass:
    """One perturbation of one model's memories.

    Attributes:
        site: The model's memories.
        perturber: What is done to them.
        draws: Its draws, counted over all perturbations of the trace.
        costs: What it takes for the longest prompts; None where that was not measured.
    """

    site: StateSite
    perturber: StatePerturber
    draws: tuple[int, ...]
    costs: StateCosts | None = None

    def plan(self, *, length: int, n_scored: int, n_prompts: int, budget_bytes: int) -> PassPlan:
        """How many prompts, and how many variants of each in one step, are within the budget."""
        site, n_layers = self.site, len(self.site.layers)
        if site.continuation.one_row:
            return PassPlan(n_prompts=1, n_variants=1)
        if self.costs is not None:
            costs, all_variants = self.costs, max(1, len(self.draws) * n_layers)
            most = max(1, largest(n_prompts, lambda number: costs.peak_bytes(number, 1) <= budget_bytes))
            fitting = largest(all_variants, lambda number: costs.peak_bytes(most, number) <= budget_bytes)
            return PassPlan(n_prompts=most, n_variants=max(1, fitting))
        prefix = plan_pass(
            row_bytes(site.network, length), n_variants=0, n_prompts=n_prompts, budget_bytes=budget_bytes
        )
        logits = 4 * _LOGITS_ALIVE * n_scored * site.network.anatomy.d_vocab
        n_rows = max(1, budget_bytes // (2 * site.state.row_bytes(length) + logits + row_bytes(site.network, n_scored)))
        n_prompts = min(prefix.n_prompts, n_rows)
        return PassPlan(n_prompts=n_prompts, n_variants=max(1, min(len(self.draws) * n_layers, n_rows // n_prompts)))

    def measure(
        self,
        ids: Tensor,
        batch: Sequence[Prompt],
        lens: LensStatistics,
        *,
        cells: Sequence[tuple[int, int]],
        n_variants: int,
        followed: FollowedRows,
    ) -> dict[tuple[int, int], dict[str, Tensor]]:
        """Row measures [prompt] of some layers and draws, by the measures' names.

        Args:
            ids: Token ids [prompt, position].
            batch: The prompts.
            lens: What the model says of them without a cache, [prompt, read, 1 + layer].
            cells: Layer and draw of each variant, draws counted over all perturbations of the trace.
            n_variants: Variants in one step.
            followed: The tokens that are followed, [prompt, read].

        Raises:
            SiteError: If the model does not say the same with its cache.
        """
        site, n_scored = self.site, len(batch[0].read)
        tokens = ids[:, ids.shape[1] - n_scored :]
        cache = site.feed_prefix(ids, n_after=n_scored)
        clean = site.clean(cache, tokens)
        self._refuse_difference(clean, lens, batch)
        found: dict[tuple[int, int], dict[str, Tensor]] = {}
        for start in range(0, len(cells), n_variants):
            chunk = cells[start : start + n_variants]
            perturbed = site.perturbed(cache, tokens, self.perturber, chunk)
            by_name = measure_distributions(perturbed, clean, followed)
            for number, variant in enumerate(chunk):
                found[variant] = {name: per_prompt[number] for name, per_prompt in by_name.items()}
        return found

    def _refuse_difference(self, clean: Tensor, lens: LensStatistics, batch: Sequence[Prompt]) -> None:
        """Raise where the most probable tokens have other log-probabilities with the cache than without it."""
        network = self.site.network
        differences = (clean.gather(-1, lens.top_ids[:, :, -1]) - lens.top_log_prob[:, :, -1]).abs().amax(dim=(1, 2))
        worst = int(differences.argmax())
        tolerance = max(1e-3, 64 * torch.finfo(network.dtype).eps)
        if not differences[worst] <= tolerance and not bool(lens.log_prob.isnan().any()):
            raise SiteError(
                f"{network.name!r} says something else with its cache than without it: on sample {batch[worst].index} "
                f"the log-probabilities differ by {float(differences[worst]):.2g} nats (allowed: {tolerance:.2g}), so "
                "that nothing measured at 'state' would be right. Use site='block_output'."
            )


def refuse_without_prefix(prompts: Sequence[Prompt]) -> None:
    """Raise for prompts of a single token, before which there is nothing to remember.

    Raises:
        UsageError: If there are such prompts; names them.
    """
    short = [prompt.index for prompt in prompts if prompt.read[0] < 1]
    if short:
        raise UsageError(
            f"Sample {short[0]}{f' and {len(short) - 1} others' if short[1:] else ''}: a prompt of one token leaves no "
            "layer anything to remember before its last token. The site 'state' needs prompts of two tokens or more."
        )
