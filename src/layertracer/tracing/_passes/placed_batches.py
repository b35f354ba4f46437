"""Placements measured on rows of one length: in one pass, or one hooked forward for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layertracer._errors import printable_cause
from layertracer._types import Method
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures
from layertracer.tracing._batching.memory_budget import PassPlan, out_of_memory, plan_pass, row_bytes
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.placed import Substituted, plain_placed, run_placed
from layertracer.tracing._passes.placed_measures import PlacedReduction
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._perturbers.protocol import Perturber

Numbered = Sequence[tuple[int, Substituted]]
"""Placements with their numbers, in the order of `sort_placements`; none of them the full model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBatches:
    """How placements of one substitute are measured on a model.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        perturber: What puts the substitute in a mixer's place.
        reduction: How rows become numbers.
        tail: The model's tail.
        budget_bytes: What a pass may take.
    """

    network: Network
    axes: ArgumentAxes
    perturber: Perturber
    reduction: PlacedReduction
    tail: Tail
    budget_bytes: int

    def measure(
        self, rows: Sequence[JudgedRow], found: Sequence[RowMeasures], placements: Numbered, *, method: Method
    ) -> None:
        """Fill in what some placements say on rows of one length, in passes that fit into memory.

        Args:
            rows: The rows.
            found: Where it is filled in, one a row.
            placements: The placements.
            method: As for `fill`.

        Raises:
            OutOfMemoryError: If not even one placement of one row fits.
        """
        length = len(rows[0].ids)
        plan = plan_pass(
            row_bytes(self.network, length),
            n_variants=len(placements),
            n_prompts=len(rows),
            budget_bytes=self.budget_bytes,
        )
        n_done = 0
        while n_done < len(rows):
            batch = slice(n_done, n_done + plan.n_prompts)
            try:
                for some in _chunks(placements, plan):
                    self.fill(rows[batch], found[batch], some, method=method)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if plan.is_smallest:
                    raise out_of_memory(self.network, length) from printable_cause(error)
                plan = plan.halved()
                continue
            n_done += plan.n_prompts

    def fill(
        self, rows: Sequence[JudgedRow], found: Sequence[RowMeasures], placements: Numbered, *, method: Method
    ) -> None:
        """Fill in what some placements say on rows of one length, and what the full model says.

        Args:
            rows: The rows.
            found: Where it is filled in, one a row.
            placements: The placements.
            method: "ladder": all in one forward; "plain": one row and one forward for each at a time.
        """
        if method == "ladder":
            self._fill_together(rows, found, placements)
        else:
            for row, own in zip(rows, found, strict=True):
                self.fill_alone(row, own, placements, perturber=self.perturber)

    def _fill_together(self, rows: Sequence[JudgedRow], found: Sequence[RowMeasures], placements: Numbered) -> None:
        span = range(min(row.read[0] for row in rows), max(row.read[-1] for row in rows) + 1)
        ran = run_placed(
            self.network,
            torch.tensor([row.ids for row in rows], device=self.network.device),
            read=span,
            perturber=self.perturber,
            placements=[layers for _, layers in placements],
            axes=self.axes,
        )
        for number, (row, own) in enumerate(zip(rows, found, strict=True)):
            read = [position - span.start for position in row.read]
            leaving = _Leaving(ran.full[number, read], [one[number, read] for one in ran.placed], self.tail)
            self.reduction.fill(own, row, numbers=[which for which, _ in placements], logits=leaving)

    def fill_alone(self, row: JudgedRow, found: RowMeasures, placements: Numbered, *, perturber: Perturber) -> None:
        """Fill in what some placements say on one row, the full model and each of them in a forward of its own."""
        ids = torch.tensor([row.ids], device=self.network.device)
        span = range(row.read[0], row.read[-1] + 1)
        read = [position - span.start for position in row.read]
        own = plain_logits(self.network, ids, read=span)[0, read]
        self.reduction.fill(found, row, numbers=[], logits=_Known(own, own[:0]))
        for number, layers in placements:
            placed = plain_placed(self.network, ids, read=span, perturber=perturber, layers=layers)[0, read]
            self.reduction.fill(found, row, numbers=[number], logits=_Known(own, placed))


@dataclass(frozen=True, slots=True)
class _Leaving:
    """Logits made of what leaves the last layer, when they are asked for.

    Attributes:
        rows: In the full model, [read, …, width].
        placed_rows: In each placement.
        tail: What makes logits of them.
    """

    rows: Tensor
    placed_rows: Sequence[Tensor]
    tail: Tail

    def full(self, read: slice) -> Tensor:
        """See `PlacedLogits`."""
        return self.tail(self.rows[read])

    def placed(self, some: slice, read: slice) -> Tensor:
        """See `PlacedLogits`."""
        several = torch.stack([one[read] for one in self.placed_rows[some]])
        logits: Tensor = self.tail(several.flatten(0, 1)).unflatten(0, several.shape[:2])
        return logits


@dataclass(frozen=True, slots=True)
class _Known:
    """Logits that are there, [read, d_vocab] each, of the full model and of one placement."""

    logits: Tensor
    placed_logits: Tensor

    def full(self, read: slice) -> Tensor:
        """See `PlacedLogits`."""
        return self.logits[read]

    def placed(self, some: slice, read: slice) -> Tensor:
        """See `PlacedLogits`."""
        return self.placed_logits[None][some, read]


def _chunks(placements: Numbered, plan: PassPlan) -> list[Numbered]:
    """As many placements as go into a pass, neighbours together: they have most in common."""
    starts = range(0, max(1, len(placements)), plan.n_variants)
    return [placements[start : start + plan.n_variants] for start in starts]
