"""Planner of a trace: how much goes into each pass, decided before anything runs.

The work of a trace is a tree: prompts that share nothing, and prefixes with the prompts after them. For
every part of it the largest passes are chosen whose peak, estimated from the costs of their spans,
is within the budget. The engine follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from layertracer.tracing._batching.memory_budget import PassPlan, largest, plan_pass, row_bytes
from layertracer.tracing._batching.process_memory import ProcessGrowth
from layertracer.tracing._batching.prompts import Prompt, bucket_prompts
from layertracer.tracing._batching.shared_prefixes import PrefixNode
from layertracer.tracing._passes.ladder import Variants
from layertracer.tracing._planning.batch_costs import BatchCosts, Reserved
from layertracer.tracing._planning.schedule import BatchCost, BucketWork, GroupWork, PrefixWork, Schedule
from layertracer.tracing._planning.trace_plan import format_bytes
from layertracer.tracing._planning.workload import Workload

_FEW_VARIANTS = 24
"""Fewer perturbed copies in a pass cost more than a smaller pass gains: each pass carries the clean rows along."""


class _DoesNotFit(Exception):  # noqa: N818 - not an error: it says that a prefix is not to be shared
    """A prefix cannot be shared within the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Sizes for one trace.

    Attributes:
        batch_costs: What everything takes.
        budget_bytes: What may be live beyond the weights.
        enough_bytes: How much the inside of a layer takes where larger passes are no faster; None without an end.
        row_by_row: Whether prompts must run one at a time.
        growth: What a process grows by for what is live.
    """

    batch_costs: BatchCosts
    budget_bytes: int
    enough_bytes: int | None
    row_by_row: bool
    growth: ProcessGrowth

    @property
    def work(self) -> Workload:
        """What is done."""
        return self.batch_costs.work

    def schedule(self, root: PrefixNode) -> Schedule:
        """All work, in order.

        Args:
            root: The prompts, grouped by what they have in common.
        """
        groups, notes, alone = [], [], list(root.prompts)
        for node in root.children:
            try:
                groups.append(self._group(node))
            except _DoesNotFit as reason:
                prompts = [prompt for one in node.nodes() for prompt in one.prompts]
                notes.append(f"{len(prompts)} prompts share a prefix of {node.end} tokens and do not use it: {reason}.")
                alone += prompts
        alone.sort(key=lambda prompt: prompt.index)
        return Schedule(alone=self.alone(alone), groups=tuple(groups), notes=tuple(notes))

    def without_cache(self) -> Planner:
        """The sizes where nothing goes on from what the model remembers."""
        return replace(self, batch_costs=replace(self.batch_costs, work=replace(self.work, cached=None)))

    def alone(self, prompts: Sequence[Prompt]) -> tuple[BucketWork, ...]:
        """Prompts of any lengths that share nothing."""
        return tuple(self._bucket_alone(bucket) for bucket in bucket_prompts(prompts))

    def clean_row_bytes(self, length: int) -> int:
        """What one clean row of that many tokens takes; guessed where the kinds of the layers allow it."""
        network, measured = self.work.network, self.batch_costs.clean_row
        if measured is None:
            return row_bytes(network, length)
        n_tokens, n_bytes = measured
        return int(n_bytes * max(1.0, length / n_tokens))

    def site_pass(self, bucket: Sequence[Prompt], *, row_by_row: bool) -> PassPlan:
        """How many prompts of a bucket go into a pass that looks at what stands at the site."""
        return plan_pass(
            self.site_row_bytes(len(bucket[0].ids)),
            n_variants=0,
            n_prompts=1 if row_by_row else len(bucket),
            budget_bytes=self._enough,
        )

    def site_row_bytes(self, length: int) -> int:
        """What one row takes in such a pass: a forward, with the logits of all positions."""
        return self.clean_row_bytes(length) + length * self.work.network.anatomy.d_vocab * self.work.itemsize

    def passes(self, n_variants: int) -> tuple[Variants, ...]:
        """Passes of that many variants each, at most."""
        return PassPlan(n_prompts=1, n_variants=max(1, n_variants)).passes(self.work.in_ladder)

    def _bucket_alone(self, bucket: Sequence[Prompt]) -> BucketWork:
        prompt, all_variants = bucket[0], max(1, len(self.work.in_ladder))
        n_prompts, n_variants = self._most(bucket), 1
        if self.work.in_ladder or self.work.state is None:
            n_prompts = self._largest(n_prompts, lambda number: self._fits(self._cost(prompt, number, all_variants)))
            n_variants = _evenly(all_variants, all_variants if n_prompts else self._variants_of_one(prompt))
            n_prompts = self._evenly(len(bucket), n_prompts)
        plan = self._with_states(bucket, n_prompts=n_prompts, n_variants=n_variants)
        cost = self._cost(prompt, plan.n_prompts, plan.n_variants, n_states=plan.n_states)
        return self._work(bucket, plan, 0, cost)

    def _most(self, bucket: Sequence[Prompt]) -> int:
        """How many prompts of a bucket may run together, whatever they take."""
        return self.work.batch_multiple if self.row_by_row else len(bucket)

    def _largest(self, most: int, fits: Callable[[int], bool]) -> int:
        """The largest number of prompts that fits, whose partners stay together; 0 where none does."""
        multiple = self.work.batch_multiple
        return multiple * largest(most // multiple, lambda number: fits(multiple * number))

    def _evenly(self, total: int, most: int) -> int:
        """Batches of as many prompts as can be, as alike as can be, whose partners stay together."""
        multiple = self.work.batch_multiple
        return multiple * _evenly(total // multiple, max(1, most // multiple))

    def _with_states(
        self, bucket: Sequence[Prompt], *, n_prompts: int, n_variants: int, reserved_bytes: float = 0
    ) -> PassPlan:
        """The passes of a bucket together with the steps over the layers' caches, where there are any."""
        prompt, state, multiple = bucket[0], self.work.state, self.work.batch_multiple
        if state is None:
            return PassPlan(n_prompts=n_prompts, n_variants=n_variants, multiple=multiple)
        room = max(1, min(self._enough, int(self.budget_bytes - reserved_bytes)))
        steps = state.plan(length=len(prompt.ids), n_scored=len(prompt.read), n_prompts=n_prompts, budget_bytes=room)
        n_prompts = max(multiple, steps.n_prompts // multiple * multiple)
        return PassPlan(n_prompts=n_prompts, n_variants=n_variants, n_states=steps.n_variants, multiple=multiple)

    def _variants_of_one(self, prompt: Prompt) -> int:
        """How many perturbed copies of a single prompt, or of two partners, go into a pass."""
        everything, few = max(1, len(self.work.in_ladder)), self.work.batch_multiple
        fast = largest(everything, lambda number: self._fits(self._cost(prompt, few, number)))
        wanted = min(everything, max(fast, _FEW_VARIANTS))
        return max(1, largest(wanted, lambda number: self._cost(prompt, few, number).peak_bytes <= self.budget_bytes))

    def _group(self, node: PrefixNode) -> GroupWork:
        """Prompts with a prefix in common, in as few passes as fit.

        Raises:
            _DoesNotFit: If what is remembered of the prefix, or the smallest pass after it, is beyond the budget.
        """
        n_variants = max(1, len(self.work.in_ladder))
        while True:
            passes = self.passes(n_variants)
            is_last = n_variants == 1 or self.work.last_only
            cost, memory = self.batch_costs.prefix(node, passes, Reserved())
            if memory > self.budget_bytes:
                raise _DoesNotFit(
                    _too_much(f"what is remembered of it takes {format_bytes(memory)}", self.budget_bytes)
                )
            try:
                if self._is_enough(cost) or is_last or n_variants < 2 * _FEW_VARIANTS:
                    return GroupWork(prefix=self._prefix(node, passes, Reserved()), passes=passes)
            except _DoesNotFit:
                if is_last:
                    raise
            n_variants = -(-n_variants // 2)

    def _prefix(self, node: PrefixNode, passes: Sequence[Variants], reserved: Reserved) -> PrefixWork:
        cost, memory = self.batch_costs.prefix(node, passes, reserved)
        if cost.peak_bytes > self.budget_bytes:
            raise _DoesNotFit(_too_much(f"reading it takes {format_bytes(cost.peak_bytes)}", self.budget_bytes))
        here = Reserved(n_tokens=node.end, memory_bytes=reserved.memory_bytes + memory)
        return PrefixWork(
            node=node,
            cost=cost,
            memory_bytes=memory,
            buckets=tuple(self._bucket_after(bucket, passes, here) for bucket in bucket_prompts(node.prompts)),
            children=tuple(self._prefix(child, passes, here) for child in node.children),
        )

    def _bucket_after(self, bucket: Sequence[Prompt], passes: Sequence[Variants], reserved: Reserved) -> BucketWork:
        def cost(n_prompts: int, *, n_states: int = 1) -> BatchCost:
            return self.batch_costs.batch(bucket[0], n_prompts, passes, reserved, n_states=n_states)

        smallest = cost(1)
        if smallest.peak_bytes > self.budget_bytes:
            taken = f"a prompt after it takes {format_bytes(smallest.peak_bytes)}"
            raise _DoesNotFit(_too_much(taken, self.budget_bytes))
        n_prompts = self._largest(self._most(bucket), lambda number: self._fits(cost(number)))
        # The passes are given: where memory runs out, only prompts can be fewer.
        n_prompts = self._evenly(len(bucket), n_prompts)
        plan = self._with_states(bucket, n_prompts=n_prompts, n_variants=1, reserved_bytes=reserved.memory_bytes)
        return self._work(bucket, plan, reserved.n_tokens, cost(plan.n_prompts, n_states=plan.n_states))

    def _work(self, bucket: Sequence[Prompt], plan: PassPlan, n_before: int, cost: BatchCost) -> BucketWork:
        return BucketWork(prompts=tuple(bucket), plan=plan, n_before=n_before, cost=cost)

    def _cost(self, prompt: Prompt, n_prompts: int, n_variants: int, *, n_states: int = 1) -> BatchCost:
        return self.batch_costs.batch(prompt, n_prompts, self.passes(n_variants), Reserved(), n_states=n_states)

    def _fits(self, cost: BatchCost) -> bool:
        return cost.peak_bytes <= self.budget_bytes and self._is_enough(cost)

    def _is_enough(self, cost: BatchCost) -> bool:
        return self.enough_bytes is None or cost.working_bytes <= self.enough_bytes

    @property
    def _enough(self) -> int:
        return self.budget_bytes if self.enough_bytes is None else min(self.budget_bytes, self.enough_bytes)


def _too_much(what: str, budget_bytes: int) -> str:
    return f"{what}, and the budget is {format_bytes(budget_bytes)}"


def _evenly(total: int, most: int) -> int:
    """The size of parts of a whole, as few of them as with parts of `most`, and as alike as can be."""
    n_parts = -(-total // most)
    return -(-total // n_parts)
