"""What a design takes, estimated before it runs from one timed forward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layertracer.advice import DesignPlan, PlannedStage, Search
from layertracer.hybrids._judging.rows import TEXT
from layertracer.hybrids._measuring.joint_trace import MOST_PROMPTS
from layertracer.hybrids._placing.search import AT_ONCE, MOST_ENUMERATED, MOST_SWAPS
from layertracer.tracing import JudgedRow

_HALF = 0.5
"""Share of a forward that a placement takes which has the lower half of the layers, on average, with others."""
_MOST = 0.8
"""The same for placements that have little in common, random ones."""
_N_ROUNDS = 1.5
"""Rounds of exchange, about."""
_N_DRAWS = 5
_N_SITES = 2
_N_ROLES = 12
_AUDIT = 1.1
"""What measuring some again the plain way adds."""

Rows = Mapping[str, Sequence[JudgedRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a question decides its cost.

    Attributes:
        search: The search.
        n_layers: Placeable layers.
        sizes: Numbers of layers to keep.
        n_random: Random placements of each.
        wants_pairs: Whether pairs are measured.
        wants_trace: Whether the joint trace is made.
        wants_roles: Whether regions of layers or gates are asked for.
        n_ratio: Sizes on the curve of the ratio.
    """

    search: Search
    n_layers: int
    sizes: Sequence[int]
    n_random: int
    wants_pairs: bool
    wants_trace: bool
    wants_roles: bool
    n_ratio: int


def plan_costs(asked: Asked, *, search: Rows, compared: Rows, held_out: Rows, tokens_per_s: float) -> DesignPlan:
    """The stages of a design, with what each takes.

    Args:
        asked: The question.
        search: Rows that the search sees, by kind.
        compared: Rows on which placements are compared with random ones.
        held_out: All held-out rows.
        tokens_per_s: Speed of the plain forward.
    """

    def stage(name: str, n_placements: int, share: float, rows: Rows, *, n_calls: float = 1) -> PlannedStage:
        n_rows, n_tokens = _count(rows)
        passes = n_placements * share + n_calls
        return PlannedStage(
            name=name,
            n_placements=n_placements,
            n_forwards=passes * n_rows * _AUDIT,
            cpu_s=passes * n_tokens * _AUDIT / tokens_per_s,
        )

    n = asked.n_layers
    n_looked_at, n_calls = searched(asked)
    stages = [stage("single layers", 2 * n + 1, _HALF, search, n_calls=2)]
    if asked.wants_trace:
        stages.append(stage("one trace at two sites", _N_SITES * _N_DRAWS * n, _HALF, _traced(search)))
    if asked.wants_pairs:
        stages.append(stage("pairs of layers", math.comb(n, 2), _HALF, search, n_calls=math.comb(n, 2) / 64))
    if n_looked_at:
        stages.append(stage(f"search ({asked.search})", n_looked_at, _HALF, search, n_calls=n_calls))
    n_others = sum(min(asked.n_random, math.comb(n, size)) + 6 for size in asked.sizes)
    stages.append(stage("random placements and baselines", n_others, _MOST, compared, n_calls=n_others / 16))
    if asked.n_ratio:
        stages.append(stage("the curve over the number kept", asked.n_ratio, _MOST, compared))
    if asked.wants_roles:
        per_layer = n * _HALF + 20 * _MOST
        stages.append(stage("regions and gates", 1, per_layer, _prompts(held_out, _N_ROLES), n_calls=2))
    stages.append(stage("judgement", 6 * len(asked.sizes), _MOST, held_out, n_calls=len(asked.sizes)))
    n_rows = {kind: (len(search.get(kind, ())), len(held_out.get(kind, ()))) for kind in {**search, **held_out}}
    return DesignPlan(stages=tuple(stages), n_rows=n_rows, tokens_per_s=tokens_per_s)


def searched(asked: Asked) -> tuple[int, float]:
    """How many placements a search looks at, and in how many calls, about."""
    n = asked.n_layers
    if asked.search not in ("greedy", "exact"):
        return 0, 0.0
    few = [size for size in asked.sizes if asked.search == "exact" or math.comb(n, size) <= MOST_ENUMERATED]
    many = [size for size in asked.sizes if size not in few]
    looked_at = sum(math.comb(n, size) for size in few)
    calls = looked_at / 64
    if many:
        n_steps = max(many) + n - min(many)
        n_round = n + MOST_SWAPS
        looked_at += n_steps * AT_ONCE + round(len(many) * _N_ROUNDS * n_round)
        calls += n_steps + len(many) * _N_ROUNDS * 2
    return looked_at, calls


def _prompts(rows: Rows, most: int) -> dict[str, Sequence[JudgedRow]]:
    """Rows of the tasks, or of text where there is none, so many of each."""
    tasks = {kind: some for kind, some in rows.items() if kind != TEXT} or rows
    return {kind: some[:most] for kind, some in tasks.items()}


def _traced(rows: Rows) -> dict[str, Sequence[JudgedRow]]:
    n_tasks = sum(kind != TEXT for kind in rows)
    return _prompts(rows, max(1, MOST_PROMPTS // max(1, n_tasks)))


def _count(rows: Rows) -> tuple[int, int]:
    everything = [row for some in rows.values() for row in some]
    return len(everything), sum(len(row.ids) for row in everything)
