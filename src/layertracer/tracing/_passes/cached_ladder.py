"""The ladder over prompts in spans, with the model's own cache between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from layertracer.models import Network, StateMap
from layertracer.tracing._observers.protocol import Observer
from layertracer.tracing._passes.argument_axes import ArgumentAxes, CachedRun
from layertracer.tracing._passes.ladder import LadderPass, LadderRows, Variants, run_pass
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._passes.row_groups import Edit, Variant, single_edits
from layertracer.tracing._perturbers.protocol import Perturber


@dataclass(frozen=True, slots=True, kw_only=True)
class StretchWay:
    """How tokens are read after others; which way is right for a model is proved, see `PrefixProof`.

    Attributes:
        stepwise: One token at a time, as models do that forget their state where several follow it.
        with_positions: The model is told which positions the tokens have.
        shortest: How many tokens a span must have: 2 where the model takes a single one for the first.
        few_logits: Whether it may compute logits at the last position alone where only what it remembers is wanted;
            some then cut the stream within the stack.
    """

    stepwise: bool = False
    with_positions: bool = False
    shortest: int = 1
    few_logits: bool = True


STRETCH_WAYS = (
    StretchWay(),
    StretchWay(few_logits=False),
    StretchWay(with_positions=True),
    StretchWay(shortest=2),
    StretchWay(stepwise=True),
    StretchWay(stepwise=True, with_positions=True),
)
"""Ways to try, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEdits:
    """What a pass does to its rows.

    Attributes:
        perturbers: What is done to the layers; none for the lens rows alone.
        variants: The variants of each prompt.
        base_edits: What is done to the base rows.
        observers: What looks at the base rows.
        prompts: The prompts' indices in the task; none where several share the rows.
    """

    perturbers: Sequence[Perturber | None]
    variants: Sequence[Variant]
    base_edits: Sequence[Edit] = ()
    observers: Sequence[Observer] = ()
    prompts: tuple[int, ...] = ()

    @classmethod
    def nothing(cls) -> RowEdits:
        """Clean rows alone."""
        return cls(perturbers=(), variants=())

    @classmethod
    def by(cls, perturber: Perturber, draws: Variants) -> RowEdits:
        """Some draws of some layers, by one perturber."""
        return cls(perturbers=(perturber,), variants=single_edits(draws))


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLadder:
    """A model whose rows can go on from what they remember.

    Attributes:
        network: The model.
        state: Its cache, understood.
        way: How tokens are read after others.
        axes: Batch axes of its layers' arguments where tokens come before.
    """

    network: Network
    state: StateMap
    way: StretchWay
    axes: ArgumentAxes

    def read(self, ids: Tensor, edits: RowEdits, *, before: RowCache | None) -> RowCache:
        """What the rows remember after a span.

        Args:
            ids: Token ids [prompt, position] of the span; one prompt where all share it.
            edits: What is done to the rows.
            before: What they remember of the tokens before; None at the beginning.

        Raises:
            UnusableCacheError: If a layer's memory does not have the rows that reach it.
        """
        for first, last in self._steps(ids, before):
            rows = self._run(ids[:, first:last], edits, before=before, read=(), keep=True)
            before = rows.cache
        assert before is not None  # a span has tokens
        return before

    def run(self, ids: Tensor, edits: RowEdits, *, before: RowCache | None, read: Sequence[int]) -> LadderRows:
        """The rows of the last span of some prompts, at the positions that are read.

        Args:
            ids: Token ids [prompt, position] of the span.
            edits: What is done to the rows.
            before: What they remember of the tokens before.
            read: Positions that are read, counted from the first of `ids`.

        Raises:
            UnusableCacheError: If a layer's memory does not have the rows that reach it.
        """
        parts, length = [], ids.shape[1]
        for first, last in self._steps(ids, before):
            here = [position - first for position in read if first <= position < last]
            rows = self._run(ids[:, first:last], edits, before=before, read=here, keep=last < length)
            before = rows.cache
            if here:
                parts.append(rows)
        return LadderRows.joined(parts)

    def _run(
        self, ids: Tensor, edits: RowEdits, *, before: RowCache | None, read: Sequence[int], keep: bool
    ) -> LadderRows:
        cached = CachedRun(
            state=self.state,
            before=before,
            with_positions=self.way.with_positions,
            keep=keep,
            few_logits=self.way.few_logits,
        )
        return run_pass(
            LadderPass(
                network=self.network,
                ids=ids,
                read=read,
                perturbers=edits.perturbers,
                variants=edits.variants,
                base_edits=edits.base_edits,
                axes=self.axes,
                cached=cached,
                observers=edits.observers,
                prompts=edits.prompts,
            )
        )

    def _steps(self, ids: Tensor, before: RowCache | None) -> Iterator[tuple[int, int]]:
        """Where each call begins and ends. What nothing comes before is always read at once."""
        length = ids.shape[1]
        if before is not None and self.way.stepwise:
            yield from ((position, position + 1) for position in range(length))
        else:
            yield 0, length
