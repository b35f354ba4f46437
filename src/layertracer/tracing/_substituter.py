"""Substitution inside the running model: placements of substitutes, measured beside the full model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from layertracer._errors import AnatomyError, LayerTracerError, NonFiniteError, SelfCheckError, SiteError, UsageError
from layertracer._types import Method, Substitute, Window, checked_whole, shown
from layertracer.models import in_evaluation_mode, is_out_of_memory, keeping_loaded, without_gradients
from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures, check_rows
from layertracer.tracing._failures import (
    CallbackRaised,
    explaining_failures,
    first_line,
    is_of_callers_making,
    shielded,
)
from layertracer.tracing._model import TracedModel
from layertracer.tracing._passes.placed import Substituted, count_forwards, sort_placements
from layertracer.tracing._passes.placed_batches import Numbered, PlacedBatches
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.placed_audit import PlacedAudit, PlacedAuditor
from layertracer.tracing._proofs.reach import check_length

_LOG = logging.getLogger("layertracer")
if TYPE_CHECKING:
    Kept: TypeAlias = Collection[int]
else:  # under test, annotations are looked up when a function is called: what is none of these has an error of ours
    Kept = Any

OnRows = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


@dataclass(slots=True, kw_only=True)
class Substituter:
    """A model in some of whose layers a substitute stands in the mixer's place, whichever are asked for.

    Made by `make_substituter`. The model itself stays as it is.

    Attributes:
        model: The model.
        substitute: What stands in the mixers' place.
        placeable: The layers whose mixers it can stand for, in order.
        refused: Why it cannot stand for the others', by layer.
        method: "ladder" where placements are measured together in one forward, "plain" where each has its own.
    """

    model: TracedModel
    substitute: Substitute
    placeable: tuple[int, ...]
    refused: Mapping[int, str]
    method: Method
    _batches: PlacedBatches = field(repr=False)
    _auditor: PlacedAuditor = field(repr=False)
    _n_proved: int = field(repr=False)

    @property
    def audit(self) -> PlacedAudit:
        """What was measured again so far, the plain way, and what came of it."""
        return self._auditor.result()

    @without_gradients()
    def measure(
        self, rows: Sequence[JudgedRow], placements: Sequence[Kept], *, on_rows: OnRows | None = None
    ) -> tuple[RowMeasures, ...]:
        """What rows say of placements, beside the full model.

        Whatever placements have in common from the first layer on is run once, so that many of them cost less together
        than one after the other. Laws: their order changes nothing, nor does what else is asked for, or which rows are
        beside a row; where every layer is kept, or a window reaches over the whole row, the divergence is exactly 0.

        Args:
            rows: The rows, of any lengths.
            placements: For each the layers that keep their mixers, some of those that are `placeable`.
            on_rows: Told how many rows are done, and of how many.

        Returns:
            One for each row, in their order.

        Raises:
            UsageError: If there is no row, a placement keeps what is no placeable layer, or a token is unknown.
            PromptTooLongError: If a row is longer than the model's context.
            NonFiniteError: If a distribution is not finite; the message names the placement.
            SelfCheckError: If the model does not give the same twice.
            SiteError: If a layer's attention is called otherwise than when it was proved.
            OutOfMemoryError: If not even one placement of one row fits.
            ModelError: If the model's own code raises anything else.
        """
        network = self.model.network
        check_rows(rows, network)
        substituted = [self._substituted(number, kept) for number, kept in enumerate(placements)]
        found = [RowMeasures.empty(len(substituted), len(row.read)) for row in rows]
        told: Callable[[int], None] | None = None
        if on_rows is not None:
            told = shielded(partial(_tell, on_rows, len(rows)))
        stopped: CallbackRaised | None = None
        try:
            with (
                explaining_failures(self.model.name, "while placements were measured"),
                in_evaluation_mode(network.call.module),
                keeping_loaded(network.outer_modules),
            ):
                self._measure(rows, found, substituted, told)
        except CallbackRaised as stop:
            stopped = stop
        if stopped is not None:  # out here, so that it comes out as it went in
            raise stopped.raised
        for number, own in enumerate(found):
            self._refuse_non_finite(number, own, substituted)
        return tuple(found)

    def _substituted(self, number: int, kept: Kept) -> Substituted:
        """The layers in which the substitute stands, of those that keep their mixers.

        Raises:
            UsageError: If some of these are no placeable layers.
        """
        hint = "Give the indices of layers, e.g. (0, 5, 11)."
        if isinstance(kept, str | bytes) or not isinstance(kept, Collection):
            raise UsageError(f"Placement {number} must be the layers that keep their mixers, got {shown(kept)}. {hint}")
        layers = {checked_whole(f"Each layer of placement {number}", layer, hint=hint) for layer in kept}
        if not layers <= set(self.placeable):
            raise UsageError(
                f"Placement {number} keeps {sorted(layers - set(self.placeable))}, but {self.substitute.describe()} "
                f"can stand in the layers {list(self.placeable)} of {self.model.name!r} alone. Name some of these; all "
                "others keep their mixers in any case."
            )
        return tuple(layer for layer in self.placeable if layer not in layers)

    def _measure(
        self,
        rows: Sequence[JudgedRow],
        found: Sequence[RowMeasures],
        substituted: Sequence[Substituted],
        told: Callable[[int], None] | None,
    ) -> None:
        """Measure all rows by the first way that gives the same numbers twice."""
        while True:
            try:
                self._measure_all(rows, found, substituted, told)
            except Disagreement as disagreement:
                self._fall_back(str(disagreement))
            except Exception as error:
                # What is raised over many rows need not be raised over one.
                is_answer = isinstance(error, LayerTracerError) and not isinstance(error, AnatomyError)
                if is_answer or self.method == "plain" or is_out_of_memory(error) or is_of_callers_making(error):
                    raise
                self._fall_back(f"rows could not go through the layers together ({first_line(error)})")
            else:
                return

    def _measure_all(
        self,
        rows: Sequence[JudgedRow],
        found: Sequence[RowMeasures],
        substituted: Sequence[Substituted],
        told: Callable[[int], None] | None,
    ) -> None:
        """Measure all rows by the method at hand, those of one length together."""
        by_length: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_length.setdefault(len(row.ids), []).append(number)
        if any(substituted):
            # Before anything is measured: what sets in with length is found whatever the order of the rows.
            self._check_length(rows[by_length[max(by_length)][0]])
        n_done = 0
        for numbers in by_length.values():
            self._measure_bucket([rows[i] for i in numbers], [found[i] for i in numbers], substituted)
            n_done += len(numbers)
            if told is not None:
                told(n_done)

    def _measure_bucket(
        self, rows: Sequence[JudgedRow], found: Sequence[RowMeasures], substituted: Sequence[Substituted]
    ) -> None:
        """Measure rows of one length, and audit what was found."""
        n_layers = self.model.anatomy.n_layers
        is_whole = len(rows[0].ids) <= self.substitute.n_seen
        own = [() if is_whole else layers for layers in substituted]
        placements: Numbered = [
            (own.index(layers), layers) for layers in sort_placements(own, n_layers=n_layers) if layers
        ]
        try:
            self._batches.measure(rows, found, placements, method=self.method)
        except SiteError as error:
            if isinstance(self.substitute, Window):
                raise
            raise SiteError(
                f"{self.model.name!r} runs through other code on {len(rows[0].ids)} tokens than when it was loaded, so "
                "that what a mixer adds to the stream was not found again. Use rows of another length."
            ) from error
        for one in found:
            _fill_in_others(one, own)
        n_forwards = count_forwards([layers for _, layers in placements], n_layers=n_layers)
        self._auditor.look_at(rows, found, placements, n_forwards=len(rows) * n_forwards)

    def _check_length(self, row: JudgedRow) -> None:
        """Hold windows against the proof anew where a row is longer than any before, by a single token at least."""
        if isinstance(self.substitute, Window) and len(row.ids) > self._n_proved:
            ids = torch.tensor([row.ids], device=self.model.device)
            check_length(self.model.network, self.substitute, ids, self._auditor.n_calls)
            self._n_proved = len(row.ids)

    def _fall_back(self, reason: str) -> None:
        """Go on by the plain method, or give up where that was it."""
        if self.method == "plain":
            raise SelfCheckError(
                f"{self.model.name!r} does not give the same numbers twice: {reason}, although it was run as "
                "plainly as can be, one row and one forward at a time. It keeps something between calls, or draws at "
                "random: make the model stateless and deterministic, then measure again."
            ) from None
        self.go_on_plainly(reason)

    def go_on_plainly(self, reason: str) -> None:
        """Measure one forward at a time from now on, and say why."""
        note = f"Placements are measured one forward at a time, not together in one: {reason}."
        _LOG.warning("%s: %s", self.model.name, note)
        self._auditor.notes.append(note)
        self.method = "plain"

    def _refuse_non_finite(self, number: int, own: RowMeasures, substituted: Sequence[Substituted]) -> None:
        """Raise where a divergence is NaN or infinite."""
        wrong = np.flatnonzero(~np.isfinite(own.kl_nats).all(axis=1))
        if len(wrong):
            layers = substituted[int(wrong[0])]
            if np.isnan(own.full_nll_nats[:-1]).any():  # the last one may have no next token
                raise NonFiniteError(
                    f"The output of {self.model.name!r} itself, with nothing in any mixer's place, is not finite on "
                    f"row {number}. Leave that row out, or load the model in a type of a larger range (it runs in "
                    f"{self.model.dtype})."
                )
            what = f"with {self.substitute.describe()} in the layers {list(layers)}" if layers else "as it is"
            raise NonFiniteError(
                f"The output of {self.model.name!r} is not finite on row {number}, {what}: its divergence from the "
                f"full model is NaN or infinite. Load the model with dtype='float32' (it runs in {self.model.dtype}), "
                "or leave that placement out."
            )


def _tell(on_rows: OnRows, n_rows: int, n_done: int) -> None:
    on_rows(n_done, n_rows)


def _fill_in_others(found: RowMeasures, substituted: Sequence[Substituted]) -> None:
    """Placements that are the full model, and those that were asked for twice."""
    for number, layers in enumerate(substituted):
        first = substituted.index(layers)
        if not layers:
            found.kl_nats[number] = 0.0
            found.nll_nats[number], found.top_ids[number] = found.full_nll_nats, found.full_top_ids
        elif first < number:
            for values in (found.kl_nats, found.nll_nats, found.top_ids):
                values[number] = values[first]
