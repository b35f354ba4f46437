"""What prefixes and batches of prompts take, from the costs of their spans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import PrefixNode
from layertracer.tracing._distributions.reduction import Reduction
from layertracer.tracing._passes.ladder import Variants
from layertracer.tracing._planning.guessed_costs import is_guessable
from layertracer.tracing._planning.pass_cost import Effort, PassCost, PassShape, clean_row_bytes, estimate_pass
from layertracer.tracing._planning.schedule import BatchCost
from layertracer.tracing._planning.token_spans import Quantity, SpanCosts, TokenSpan
from layertracer.tracing._planning.workload import Workload

_LOGITS_TOUCHED = 16
"""How often a row's logits are read or written while they become numbers."""
_LOGITS_ALIVE = 6
"""Tensors of the size of a few rows' logits that are alive while they become numbers, in float32."""


@runtime_checkable
class CostSource(Protocol):
    """Where the costs of spans come from."""

    @property
    def is_measured(self) -> bool:
        """Whether they were measured on the model."""

    def of(self, span: TokenSpan) -> SpanCosts:
        """The costs of a span."""

    def tail_flops(self) -> float:
        """Floating-point operations of the tail for one position."""

    def without_cache(self, spans: Collection[TokenSpan]) -> CostSource:
        """Costs where nothing goes on from what the model remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Memory reserved while something runs, for the tokens before it.

    Attributes:
        n_tokens: Tokens that were read before.
        memory_bytes: What is remembered of them, and of what else is under way.
    """

    n_tokens: int = 0
    memory_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCosts:
    """The costs of one trace.

    Attributes:
        work: What is done.
        costs: Costs of spans.
        reduction: How rows become numbers.
        clean_row: Tokens of the longest prompt, and what one clean row of it takes in a whole forward; None where that
            is guessed.
    """

    work: Workload
    costs: CostSource
    reduction: Reduction
    clean_row: tuple[int, float] | None = None

    def with_clean_row(self, prompts: Sequence[Prompt]) -> BatchCosts:
        """Itself, knowing what a clean row of the longest prompt takes, where it does not follow from the weights."""
        if not self.costs.is_measured or is_guessable(self.work.network):
            return self
        longest = max(prompts, key=lambda prompt: len(prompt.ids))
        span = self.work.whole(longest)
        taken = clean_row_bytes(self.costs.of(span), n_own=span.n_own, n_scored=len(longest.read))
        return replace(self, clean_row=(span.n_own, taken))

    def prefix(self, node: PrefixNode, passes: Sequence[Variants], reserved: Reserved) -> tuple[BatchCost, float]:
        """What reading a prefix takes, and the size of what is remembered of it."""
        span, n_calls = self.work.after(node.start, node.end)
        memory, peak, effort, widest, working = 0.0, 0.0, Effort(), 0, 0.0
        passes = [{}] if self.work.last_only else passes
        for variants in passes:
            shape = self._shape(variants, n_prompts=1, tokens=(node.end - node.start, n_calls), n_scored=0)
            cost = self._pass(span, shape)
            peak = max(peak, reserved.memory_bytes + memory + cost.peak_bytes)
            memory += cost.memory_bytes
            effort += cost.effort
            widest = max(widest, cost.widest_rows)
            working = max(working, self._working(span, shape))
        found = BatchCost(
            peak_bytes=peak,
            working_bytes=working,
            widest_rows=widest,
            n_passes=len(passes) * n_calls,
            effort=effort,
            tail_flops=len(passes) * n_calls * self.costs.tail_flops(),
        )
        return found, memory

    def batch(
        self, prompt: Prompt, n_prompts: int, passes: Sequence[Variants], reserved: Reserved, *, n_states: int = 1
    ) -> BatchCost:
        """What some prompts like this one take.

        Args:
            prompt: One of them.
            n_prompts: How many.
            passes: The variants of each pass.
            reserved: What is there meanwhile.
            n_states: Copies of each prompt in one step of the pass over the layers' caches.
        """
        if self.work.method == "plain":
            return self._plain(prompt, n_prompts)
        ladder = self._ladder(prompt, n_prompts, passes, reserved)
        return ladder if self.work.state is None else self._with_state(ladder, prompt, n_prompts, reserved, n_states)

    def _ladder(self, prompt: Prompt, n_prompts: int, passes: Sequence[Variants], reserved: Reserved) -> BatchCost:
        work, length, n_scored = self.work, len(prompt.ids), len(prompt.read)
        peak, effort, working, widest, n_passes = 0.0, Effort(), 0.0, 0, 0
        start, memory = reserved.n_tokens, reserved.memory_bytes
        end = work.own_end(prompt, start)
        if end is not None:
            span, n_calls = work.after(start, end)
            shape = self._shape({}, n_prompts=n_prompts, tokens=(end - start, n_calls), n_scored=0)
            own = self._pass(span, shape)
            peak, effort, n_passes = memory + own.peak_bytes, own.effort, n_calls
            start, memory = end, memory + own.memory_bytes
            working = self._working(span, shape)
        span, n_calls = work.after(start, length) if start else (work.whole(prompt), 1)
        n_logits, before = 0, 0.0
        for number, variants in enumerate(passes):
            shape = self._shape(variants, n_prompts=n_prompts, tokens=(length - start, n_calls), n_scored=n_scored)
            cost = self._pass(span, shape)
            n_lens = 0 if number else (1 + work.network.anatomy.n_layers) * n_prompts * n_scored
            n_rows = cost.widest_rows * n_scored
            # The rows of a pass are still there while the next one runs, and those that a lens translates beside them.
            tops = (
                before + cost.peak_bytes,
                (2 if work.n_lenses == 1 else 4) * cost.rows_bytes
                + self.reduction.peak_bytes(max(n_lens, n_rows), self.work.network.device),
            )
            peak, before = max(peak, memory + max(tops)), cost.rows_bytes
            effort += cost.effort
            n_logits += work.n_lenses * n_lens + n_rows
            working, widest = max(working, self._working(span, shape)), max(widest, cost.widest_rows)
            n_passes += n_calls
        effort += Effort(traffic=4 * _LOGITS_TOUCHED * n_logits * work.network.anatomy.d_vocab)
        return BatchCost(
            peak_bytes=peak,
            working_bytes=working,
            widest_rows=widest,
            n_passes=n_passes,
            effort=effort,
            tail_flops=n_logits * self.costs.tail_flops(),
        )

    def look(self, prompt: Prompt, reserved: Reserved, *, n_runs: int) -> BatchCost:
        """What it takes to run a prompt alone and in one piece, clean at first and then perturbed.

        Its arithmetic is that of the pieces in which the trace reads it.
        """
        network, length, n_scored = self.work.network, len(prompt.ids), len(prompt.read)
        pieces = [(0, reserved.n_tokens)] if reserved.n_tokens else []
        before = sum(self._one_row(*self.work.after(*piece)) for piece in pieces)
        flops = before + self.own_flops(prompt, reserved.n_tokens)
        logits = length * network.anatomy.d_vocab * self.work.itemsize
        n_lens = (1 + network.anatomy.n_layers) * n_scored
        return BatchCost(
            peak_bytes=reserved.memory_bytes + logits,
            working_bytes=0.0,
            widest_rows=1,
            n_passes=n_runs,
            effort=Effort(flops=n_runs * flops, n_passes=n_runs),
            tail_flops=(n_runs * length + n_lens) * self.costs.tail_flops(),
        )

    def own_flops(self, prompt: Prompt, n_before: int) -> float:
        """Arithmetic of the layers on one row of a prompt, after a number of tokens that were read before."""
        work = self.work
        if work.method == "plain" or work.cached is None:
            return self._one_row(work.whole(prompt))
        end, length = work.own_end(prompt, n_before), len(prompt.ids)
        start = n_before if end is None else end
        own = 0.0 if end is None else self._one_row(*work.after(n_before, end))
        return own + self._one_row(*(work.after(start, length) if start else (work.whole(prompt),)))

    def prefix_flops(self, node: PrefixNode) -> float:
        """Likewise of what a prefix adds to the one before it."""
        return self._one_row(*self.work.after(node.start, node.end))

    def _one_row(self, span: TokenSpan, n_calls: int = 1) -> float:
        costs = self.costs.of(span)
        one = np.ones(self.work.network.anatomy.n_layers)
        return n_calls * (costs.front(Quantity.FLOPS, 1) + float(costs.layers(Quantity.FLOPS, one).sum()))

    def _plain(self, prompt: Prompt, n_prompts: int) -> BatchCost:
        """The same forward for all prompts together, again and again."""
        span, anatomy = self.work.whole(prompt), self.work.network.anatomy
        shape = self._shape({}, n_prompts=n_prompts, tokens=(span.n_own, 1), n_scored=0)
        cost = self._pass(span, shape)
        # The perturbed copy beside what it is a copy of, and what enters the layer.
        extra = 3 * n_prompts * self.costs.of(span).stream_bytes
        n_runs = 1 + self.work.n_variants + self.work.n_lenses * anatomy.n_layers
        n_rows = n_prompts * len(prompt.read)
        return BatchCost(
            peak_bytes=cost.peak_bytes + extra + 4 * _LOGITS_ALIVE * n_rows * anatomy.d_vocab,
            working_bytes=self._working(span, shape),
            widest_rows=n_prompts,
            n_passes=n_runs,
            # Where a layer is read out, those after it do not run.
            effort=cost.effort.times(1 + self.work.n_variants + self.work.n_lenses * anatomy.n_layers / 2),
            tail_flops=n_runs * n_prompts * span.n_own * self.costs.tail_flops(),
        )

    def _with_state(
        self, ladder: BatchCost, prompt: Prompt, n_prompts: int, reserved: Reserved, n_states: int
    ) -> BatchCost:
        """Beside the ladder, the prefix read with the cache, and steps of the last tokens for groups of variants."""
        state, work, n_scored = self.work.state, self.work, len(prompt.read)
        assert state is not None  # as the caller knows
        clean = self._ladder(prompt, n_prompts, [{}], Reserved()) if work.in_ladder else ladder
        memory, n_rows = state.site.state.row_bytes(len(prompt.ids)), n_prompts * n_states
        logits = 4 * _LOGITS_ALIVE * n_scored * work.network.anatomy.d_vocab
        share, n_all = n_scored / len(prompt.ids), len(work.in_state)
        guessed = n_prompts * (memory + logits) + n_rows * (2 * memory + logits)
        steps = guessed if state.costs is None else state.costs.peak_bytes(n_prompts, n_states)
        return BatchCost(
            peak_bytes=max(ladder.peak_bytes, reserved.memory_bytes + steps),
            working_bytes=ladder.working_bytes,
            widest_rows=max(n_rows, ladder.widest_rows if work.in_ladder else 0),
            n_passes=ladder.n_passes + 1 + -(-n_all // n_states),
            effort=ladder.effort + clean.effort.times(1 + share * n_all),
            tail_flops=ladder.tail_flops + n_prompts * n_scored * n_all * self.costs.tail_flops(),
        )

    def _shape(self, variants: Variants, *, n_prompts: int, tokens: tuple[int, int], n_scored: int) -> PassShape:
        """A pass over a number of tokens in a number of calls; where nothing is read, it is to remember them."""
        return PassShape(
            n_prompts=n_prompts,
            n_own=tokens[0],
            n_scored=n_scored,
            inside=self.work.draws(variants, "entrance"),
            behind=self.work.draws(variants, "exit"),
            keeps=not n_scored or tokens[1] > 1,
            sees=True,  # layer measures look at all clean rows
            n_calls=tokens[1],
        )

    def _pass(self, span: TokenSpan, shape: PassShape) -> PassCost:
        return estimate_pass(self.costs.of(span), shape)

    def _working(self, span: TokenSpan, shape: PassShape) -> float:
        return float(np.max(self.costs.of(span).layers(Quantity.PEAK, shape.entering)))
