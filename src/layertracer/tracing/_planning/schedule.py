"""What a trace does, in order: which prompts go into a pass together, and after which prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from layertracer.tracing._batching.memory_budget import PassPlan
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import PrefixNode
from layertracer.tracing._passes.ladder import Variants
from layertracer.tracing._planning.pass_cost import Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """What one batch of prompts takes.

    Attributes:
        peak_bytes: The most that is live beyond the weights, what was read before included.
        working_bytes: The most that the inside of a layer takes.
        widest_rows: Rows at the widest place.
        n_passes: Passes over the layers.
        effort: Work in the layers.
        tail_flops: Floating-point operations after them.
    """

    peak_bytes: float
    working_bytes: float
    widest_rows: int
    n_passes: int
    effort: Effort
    tail_flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketWork:
    """Prompts that run alike.

    Attributes:
        prompts: The prompts, all of one length.
        plan: How many of them, with how many perturbed copies, go into a pass.
        n_before: Tokens that are read with a shared prefix.
        cost: What each batch of them takes; the last one may be smaller.
    """

    prompts: tuple[Prompt, ...]
    plan: PassPlan
    n_before: int
    cost: BatchCost

    @property
    def n_batches(self) -> int:
        """In how many batches they run."""
        return -(-len(self.prompts) // self.plan.n_prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixWork:
    """A prefix that is read once, and what follows it.

    Attributes:
        node: Which tokens, and whose.
        cost: What reading it takes.
        memory_bytes: What all rows remember of it.
        buckets: The prompts whose own tokens begin where it ends.
        children: Longer prefixes that some of its prompts share.
    """

    node: PrefixNode
    cost: BatchCost
    memory_bytes: float
    buckets: tuple[BucketWork, ...]
    children: tuple[PrefixWork, ...]

    def nodes(self) -> Iterator[PrefixWork]:
        """Itself and every prefix that continues it."""
        yield self
        for child in self.children:
            yield from child.nodes()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupWork:
    """Prompts with a prefix in common.

    Attributes:
        prefix: The prefix.
        passes: The variants of each pass, the same for all of them.
    """

    prefix: PrefixWork
    passes: tuple[Variants, ...]

    @property
    def prompts(self) -> list[Prompt]:
        """All of them."""
        return [prompt for one in self.prefix.node.nodes() for prompt in one.prompts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Everything that a trace does.

    Attributes:
        alone: Prompts that share nothing.
        groups: Prompts that share prefixes.
        notes: Why prefixes are not shared where they are not.
    """

    alone: tuple[BucketWork, ...]
    groups: tuple[GroupWork, ...] = ()
    notes: tuple[str, ...] = ()

    def prefixes(self) -> Iterator[tuple[PrefixWork, GroupWork]]:
        """Every prefix, with the group that it belongs to."""
        for group in self.groups:
            yield from ((prefix, group) for prefix in group.prefix.nodes())

    def buckets(self) -> Iterator[BucketWork]:
        """All prompts, in buckets."""
        yield from self.alone
        for prefix, _ in self.prefixes():
            yield from prefix.buckets
