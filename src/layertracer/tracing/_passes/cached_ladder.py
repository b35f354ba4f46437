"""Ladder over prompts in spans, with the model's own KV cache between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from layertracer.models import Continuation, Network, StateMap
from layertracer.tracing._observers.protocol import Observer
from layertracer.tracing._passes.argument_axes import ArgumentAxes, CachedRun
from layertracer.tracing._passes.ladder import LadderPass, LadderRows, Variants, run_pass
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._passes.row_groups import Edit, Variant, single_edits
from layertracer.tracing._perturbers.protocol import Perturber


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
        continuation: How tokens are read after others; that it is right is proved, see `PrefixProof`.
        axes: Batch axes of its layers' arguments where tokens come before.
    """

    network: Network
    state: StateMap
    continuation: Continuation
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
            with_positions=self.continuation.with_positions,
            keep=keep,
            few_logits=self.continuation.few_logits,
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
        return iter([(0, length)]) if before is None else self.continuation.calls(length)
