"""Placements measured once: what was measured of a row and a placement is remembered, and kept on the disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from layertracer.hybrids._placing.search import Kept
from layertracer.runs import Checkpoints
from layertracer.tracing import JudgedRow, RowMeasures

_TOKENS_AT_ONCE = 16_000
"""Tokens times placements that are measured before they are kept: as much is lost at most by Ctrl-C."""
_LEAST_AT_ONCE = 8
"""Placements that are measured together however long the rows: the full model is run beside them each time."""

_FIELDS = ("kl_nats", "nll_nats", "top_ids")
_FULL = ("full_nll_nats", "full_top_ids")


@runtime_checkable
class Substituting(Protocol):
    """What measures placements of substitutes, as `layertracer.tracing.Substituter` does."""

    @property
    def placeable(self) -> Kept:
        """Layers whose mixer can be substituted."""

    def measure(self, rows: Sequence[JudgedRow], placements: Sequence[Kept]) -> tuple[RowMeasures, ...]:
        """What each row says of each placement."""


@dataclass(frozen=True, slots=True)
class _Full:
    nll_nats: NDArray[np.float64]
    top_ids: NDArray[np.int64]


class KeptMeasures:
    """A substituter that measures nothing twice.

    Args:
        substituter: What measures.
        checkpoints: Where finished measurements are kept, and those of earlier calls come from.
        on_measured: Called with the number of cells (row, placement) that were just measured.
        audited: How many cells were measured again so far, and the largest difference in nats (0 where there is none).

    Attributes:
        substituter: What measures.
        earlier_cpu_s: Seconds that earlier calls took for what was found.
        earlier_audit: What earlier calls measured again of it: how many cells, and the largest difference in nats.
    """

    def __init__(
        self,
        substituter: Substituting,
        checkpoints: Checkpoints,
        on_measured: Callable[[int], None] | None = None,
        *,
        audited: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
    ) -> None:
        self.substituter = substituter
        self._audited = audited
        self.earlier_audit = (0, 0.0)
        self._checkpoints = checkpoints
        self._on_measured = on_measured
        self._full: dict[str, _Full] = {}
        self._cells: dict[tuple[str, Kept], tuple[NDArray[Any], ...]] = {}
        self.earlier_cpu_s = 0.0
        for meta, arrays in checkpoints.found("measures"):
            self.earlier_cpu_s += meta["cpu_s"]
            n_cells, worst_nats = meta.get("audit", (0, 0.0))
            self.earlier_audit = (self.earlier_audit[0] + n_cells, max(self.earlier_audit[1], worst_nats))
            self._remember(meta["row"], [tuple(kept) for kept in meta["placements"]], arrays)

    @property
    def placeable(self) -> Kept:
        """Layers whose mixer can be substituted."""
        return tuple(self.substituter.placeable)

    @property
    def n_cells(self) -> int:
        """How many cells (row, placement) are known."""
        return len(self._cells)

    @property
    def n_placements(self) -> int:
        """How many placements were measured, on whichever rows."""
        return len({kept for _, kept in self._cells})

    def measure(self, rows: Sequence[JudgedRow], placements: Sequence[Kept]) -> tuple[RowMeasures, ...]:
        """What each row says of each placement, in the orders given, see `Substituter.measure`."""
        names = [_name_of(row) for row in rows]
        distinct = list(dict.fromkeys(placements))
        missing = [kept for kept in distinct if any((name, kept) not in self._cells for name in names)]
        # Placements whose lower layers are alike stand together: what they share is run once.
        missing.sort(key=lambda kept: [layer in kept for layer in self.placeable])
        for some in _chunks(missing, n_tokens=sum(len(row.ids) for row in rows)):
            began_s, before = time.process_time(), self._audited()[0]
            measured = self.substituter.measure(rows, some)
            spent_s = (time.process_time() - began_s) / len(rows)
            n_audited, worst_nats = self._audited()
            for number, (name, one) in enumerate(zip(names, measured, strict=True)):
                arrays = {field: getattr(one, field) for field in (*_FIELDS, *_FULL)}
                self._remember(name, some, arrays)
                meta = {"what": "measures", "row": name, "placements": [list(kept) for kept in some], "cpu_s": spent_s}
                audit = (0 if number else n_audited - before, worst_nats)  # with the first row, of all of them
                self._checkpoints.add({**meta, "audit": audit}, arrays)
            if self._on_measured is not None:
                self._on_measured(len(some) * len(rows))
        return tuple(self._recall(name, placements) for name in names)

    def _remember(self, name: str, placements: Sequence[Kept], arrays: Any) -> None:
        self._full[name] = _Full(*(arrays[field] for field in _FULL))
        for index, kept in enumerate(placements):
            self._cells[name, kept] = tuple(arrays[field][index] for field in _FIELDS)

    def _recall(self, name: str, placements: Sequence[Kept]) -> RowMeasures:
        cells = [self._cells[name, kept] for kept in placements]
        full = self._full[name]
        stacked = {field: np.stack([cell[number] for cell in cells]) for number, field in enumerate(_FIELDS)}
        return RowMeasures(full_nll_nats=full.nll_nats, full_top_ids=full.top_ids, **stacked)


def _chunks(placements: list[Kept], *, n_tokens: int) -> Iterator[list[Kept]]:
    size = max(_LEAST_AT_ONCE, _TOKENS_AT_ONCE // n_tokens)
    for first in range(0, len(placements), size):
        yield placements[first : first + size]


def _name_of(row: JudgedRow) -> str:
    """A row by its content."""
    return hashlib.sha256(repr((tuple(row.ids), tuple(row.read))).encode()).hexdigest()[:32]
