"""The parts of a report: what is said, without how it is drawn. Page, terminal and paper draw the same parts.

Every text in a part has been through `visible_text` or one of its kin; no text is markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Level = Literal["failure", "warning", "note"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something that a reader must see before the numbers."""

    level: Level
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of a sentence; `strong` where it carries the answer."""

    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A key number: what it is, its value, and how sure it is."""

    label: str
    value: str
    unit: str
    details: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One number per layer, drawn as a row of coloured cells.

    Attributes:
        title: What the numbers are.
        unit: Their unit.
        values: One per layer.
        kind: "signed" (up and down from 0) or "magnitude" (from 0 up).
        marked: The layer that the row singles out.
        mark_label: What that layer is; None where none is singled out.
        missing: What is said of layers whose value is missing (NaN), e.g. "no MLP here"; None where none is.
        least: The least magnitude that takes the full colour: what is smaller than this throughout stays pale.
    """

    title: str
    unit: str
    values: Float[np.ndarray, " layer"]
    kind: Literal["signed", "magnitude"]
    marked: int | None
    mark_label: str | None
    missing: str | None = None
    least: float = 0.0

    @property
    def scale(self) -> float:
        """Largest magnitude, never 0: the value that takes the full colour."""
        finite = self.values[np.isfinite(self.values)]
        return float(np.abs(finite).max(initial=self.least)) or 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A mean over prompts with its bootstrap interval, one value per layer; NaN where there is none."""

    mean: Float[np.ndarray, " layer"]
    low: Float[np.ndarray, " layer"]
    high: Float[np.ndarray, " layer"]

    @property
    def runs(self) -> tuple[range, ...]:
        """Stretches of layers that have a value, between the gaps."""
        edges = np.flatnonzero(np.diff(np.isfinite(self.mean), prepend=False, append=False))
        return tuple(range(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text under column heads; `numeric` names the columns that are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value."""

    name: str
    value: str
