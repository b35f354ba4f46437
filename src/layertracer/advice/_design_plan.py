"""What a design takes before it runs: placements, forwards, seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One part of a design.

    Attributes:
        name: What is done, in a few words.
        n_placements: Placements that are measured, about.
        n_forwards: Whole forwards of a row that this amounts to, about.
        cpu_s: Seconds, about.
    """

    name: str
    n_placements: int
    n_forwards: float
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPlan:
    """What a design takes. How many placements a search looks at is known when it is done: these are estimates.

    Attributes:
        stages: In the order in which they run.
        n_rows: By kind of rows: how many the search sees, and how many judge.
        tokens_per_s: Tokens a second of the model's plain forward, as timed here on one of the rows.
        n_known: Measurements that an earlier, unfinished call had finished.
    """

    stages: tuple[PlannedStage, ...]
    n_rows: Mapping[str, tuple[int, int]]
    tokens_per_s: float
    n_known: int = 0

    @property
    def n_forwards(self) -> float:
        """Whole forwards of a row, about."""
        return sum(stage.n_forwards for stage in self.stages)

    @property
    def n_placements(self) -> int:
        """Placements that are measured, about; those that several stages measure count in each."""
        return sum(stage.n_placements for stage in self.stages)

    @property
    def cpu_s(self) -> float:
        """Seconds of the processor, about."""
        return sum(stage.cpu_s for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "stages": [
                {
                    "name": stage.name,
                    "n_placements": stage.n_placements,
                    "n_forwards": round(stage.n_forwards, 1),
                    "cpu_s": round(stage.cpu_s, 1),
                }
                for stage in self.stages
            ],
            "n_rows": {kind: list(counts) for kind, counts in self.n_rows.items()},
            "tokens_per_s": round(self.tokens_per_s, 1),
            "n_known": self.n_known,
            "n_forwards": round(self.n_forwards, 1),
            "cpu_s": round(self.cpu_s, 1),
        }

    def __str__(self) -> str:
        """The plan in lines."""
        rows = ", ".join(f"{kind}: {search} + {judge}" for kind, (search, judge) in self.n_rows.items())
        lines = [f"rows that the search sees + rows that judge: {rows}"]
        lines += [
            f"{stage.name}: {stage.n_placements} placements, {stage.n_forwards:.0f} forwards, {_duration(stage.cpu_s)}"
            for stage in self.stages
        ]
        lines.append(f"together: {self.n_forwards:.0f} forwards of a row, about {_duration(self.cpu_s)}")
        if self.n_known:
            lines.append(f"of which {self.n_known} measurements are there already")
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
