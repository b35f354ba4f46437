"""Audit of placements: some of what was measured is measured again, the plain way, one row and forward at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layertracer._errors import SiteError
from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures
from layertracer.tracing._passes.placed import Substituted
from layertracer.tracing._passes.placed_batches import Numbered, PlacedBatches
from layertracer.tracing._perturbers.substitutes import WindowPerturber
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.rounding import (
    MOST_ROUNDING,
    RELATIVE_NATS,
    jitters_allowed,
    nats_tolerance,
    rounding_moves,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAudit:
    """What was measured of placements once more, the plain way.

    Attributes:
        share: Share of the arithmetic that this was to take.
        n_cells: How many pairs of a row and a placement were compared.
        worst_nats: Largest disagreement of a divergence or a log-probability at a position, nats; None where none was
            compared.
        notes: What came of it: slower ways that were taken, and disagreements that rounding explains.
    """

    share: float
    n_cells: int = 0
    worst_nats: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class PlacedAuditor:
    """The audit of all that a substituter measures.

    Attributes:
        batches: How it measures.
        share: Share of the arithmetic that is measured again.
        generator: What draws it.
        n_calls: How often each layer's attention was narrowed when it was proved; empty where no window is.
    """

    batches: PlacedBatches
    share: float
    generator: np.random.Generator
    n_calls: Mapping[int, int]
    notes: list[str] = field(default_factory=list)
    _owed: float = field(init=False, default=0.0)
    _lengths: set[int] = field(init=False, default_factory=set)
    _n_cells: int = field(init=False, default=0)
    _n_rounded: int = field(init=False, default=0)
    _worst: float | None = field(init=False, default=None)

    def result(self) -> PlacedAudit:
        """What was found so far."""
        notes = list(self.notes)
        if not self.share:
            notes.append("Nothing was measured again: the audit was turned off.")
        if self._n_rounded:
            notes.append(
                f"{self._n_rounded} cells differ by more than usual, and no more than rounding explains: the model's "
                "numbers move as much when its embeddings are rounded otherwise."
            )
        return PlacedAudit(share=self.share, n_cells=self._n_cells, worst_nats=self._worst, notes=tuple(notes))

    def look_at(
        self, rows: Sequence[JudgedRow], found: Sequence[RowMeasures], placements: Numbered, *, n_forwards: float
    ) -> None:
        """Measure again some of what was measured on rows of one length.

        Args:
            rows: The rows.
            found: What was measured of them.
            placements: The placements.
            n_forwards: How many forwards of one row the measurement was worth.

        Raises:
            Disagreement: If something differs by more than rounding explains.
            SiteError: If a layer's attention is called otherwise than when it was proved.
        """
        if not self.share or not placements:
            return
        self._owed += self.share * n_forwards
        is_new = len(rows[0].ids) not in self._lengths
        while is_new or self._owed >= 2:
            n_placed = int(np.clip(self._owed - 1, 1, len(placements)))
            which = self.generator.choice(len(placements), n_placed, replace=False).tolist()
            if is_new:  # all layers at once: each is called at this length as when it was proved
                which[0] = max(range(len(placements)), key=lambda one: len(placements[one][1]))
            row = int(self.generator.integers(len(rows)))
            self._look(rows[row], found[row], [placements[one] for one in dict.fromkeys(which)])
            self._owed, is_new = self._owed - 1 - n_placed, False
        self._lengths.add(len(rows[0].ids))

    def _look(self, row: JudgedRow, stored: RowMeasures, placements: Numbered) -> None:
        plain = self._alone(row, placements)
        for number, layers in placements:
            self._n_cells += 1
            one, other = _numbers_of(stored, number), _numbers_of(plain, number)
            difference = _largest_difference(one, other)
            self._worst = max(self._worst or 0.0, float(difference.max()))
            allowed = nats_tolerance(self.batches.network) + RELATIVE_NATS * np.abs(np.nan_to_num(other))
            if not (difference <= allowed).all():
                self._accept_rounding(row, (number, layers), plain, difference, allowed)

    def _accept_rounding(
        self, row: JudgedRow, placement: tuple[int, Substituted], plain: RowMeasures, difference: Any, allowed: Any
    ) -> None:
        """Count a difference as rounding, or raise."""
        network, (number, layers) = self.batches.network, placement
        if (difference <= MOST_ROUNDING * allowed).all():
            own = _numbers_of(plain, number)
            moves = [
                _largest_difference(_numbers_of(self._alone(row, [placement]), number), own).max()
                for _ in rounding_moves(network)
            ]
            if difference.max() <= jitters_allowed(network) * max(moves):
                self._n_rounded += 1
                return
        raise Disagreement(
            f"a row of {len(row.ids)} tokens with layers {list(layers)} substituted had numbers that differ by "
            f"{difference.max():.4g} nats beside others and alone"
        )

    def _alone(self, row: JudgedRow, placements: Numbered) -> RowMeasures:
        """The same by the plain way."""
        found = RowMeasures.empty(1 + max(number for number, _ in placements), len(row.read))
        perturber = self.batches.perturber
        if isinstance(perturber, WindowPerturber):
            perturber = WindowPerturber(window=perturber.window)
            self.batches.fill_alone(row, found, placements, perturber=perturber)
            self._check_calls(perturber.n_calls, placements, length=len(row.ids))
        else:
            self.batches.fill_alone(row, found, placements, perturber=perturber)
        return found

    def _check_calls(self, n_calls: Mapping[int, int], placements: Numbered, *, length: int) -> None:
        for layer, count in n_calls.items():
            n_forwards = sum(layer in layers for _, layers in placements)
            if count != n_forwards * self.n_calls[layer]:
                raise SiteError(
                    f"Layer {layer} calls its attention {count / n_forwards:g} times on {length} tokens, and "
                    f"{self.n_calls[layer]} times when windows in it were proved right: it runs through other code at "
                    "this length. Use rows of another length, or a substitute without a window (NoMixer, MeanMixer)."
                )


def _numbers_of(found: RowMeasures, number: int) -> Any:
    """All that is compared of a placement, [number, read]."""
    return np.stack([found.kl_nats[number], found.nll_nats[number], found.full_nll_nats])


def _largest_difference(one: Any, other: Any) -> Any:
    """Absolute differences, 0 where both are missing and infinite where one of them is."""
    difference = np.abs(one - other)
    missing = np.isnan(one) & np.isnan(other)
    return np.where(missing, 0.0, np.where(np.isnan(difference), np.inf, difference))
