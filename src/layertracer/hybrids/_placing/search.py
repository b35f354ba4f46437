"""Searches for the layers that a hybrid should keep: of all sets of one size, one with a small objective.

Nothing here knows a model: an objective is a function of sets of kept layers, lower is better. Every search is
deterministic: of placements that are equally good, the one with the lowest layers is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64

Kept: TypeAlias = tuple[int, ...]
"""Layers that keep their mixer, ascending."""

AT_ONCE = 6
"""Candidates of a greedy step that are measured together, before it is asked whether the others need be."""
MOST_SWAPS = 24
"""Swaps that are measured in one round of exchange; where there are no more than that, all are."""
MOST_ENUMERATED = 100
"""So many placements of one size are all measured rather than searched among."""
_IN_ONE_CALL = 64


@runtime_checkable
class Objective(Protocol):
    """What a search lowers."""

    def __call__(self, placements: Sequence[Kept]) -> Float64[np.ndarray, " placement"]:
        """The objective of each placement.

        Args:
            placements: Kept layers, each ascending.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What a greedy search went through.

    Attributes:
        kept: The placement of each size.
        objective: Of each.
    """

    kept: Mapping[int, Kept]
    objective: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SingleScores:
    """Objective of single layers, in the order of the layers.

    Attributes:
        layers: The placeable layers.
        removed: When that layer alone is substituted.
        restored: When that layer alone is kept.
        none_kept: When all are substituted.
    """

    layers: Kept
    removed: Float64[np.ndarray, " layer"]
    restored: Float64[np.ndarray, " layer"]
    none_kept: float


def score_singles(objective: Objective, layers: Kept) -> SingleScores:
    """Both directions: one layer taken from the full model, and one given back to the fully substituted one."""
    removed = objective([without(layers, one) for one in layers])
    restored = objective([(), *((one,) for one in layers)])
    return SingleScores(layers=layers, removed=removed, restored=restored[1:], none_kept=float(restored[0]))


def grow(objective: Objective, layers: Kept, most: int, *, at_once: int = AT_ONCE) -> Path:
    """Greedy from none: the layer that lowers the objective most is given back, again and again.

    Args:
        objective: What is lowered.
        layers: The placeable layers.
        most: The largest size that is asked for.
        at_once: See `AT_ONCE`; a number no less than the layers measures all of them at every step.
    """
    start = float(objective([()])[0])
    steps = _Steps(objective=objective, move=with_layer, at_once=at_once, last_change=dict.fromkeys(layers, -math.inf))
    return steps.walk((), start, n_steps=most)


def shrink(objective: Objective, layers: Kept, least: int, *, at_once: int = AT_ONCE) -> Path:
    """Greedy from all: the layer that raises the objective least is substituted, again and again.

    Args:
        objective: What is lowered.
        layers: The placeable layers.
        least: The smallest size that is asked for.
        at_once: As for `grow`.
    """
    start = float(objective([layers])[0])
    steps = _Steps(objective=objective, move=without, at_once=at_once, last_change=dict.fromkeys(layers, -math.inf))
    return steps.walk(layers, start, n_steps=len(layers) - least)


def with_layer(kept: Kept, layer: int) -> Kept:
    """The placement that keeps one more."""
    return tuple(sorted({*kept, layer}))


def without(kept: Kept, layer: int) -> Kept:
    """The placement that keeps one less."""
    return tuple(one for one in kept if one != layer)


@dataclass(slots=True, kw_only=True)
class _Steps:
    """Best moves, one after another.

    Candidates are measured in the order of what they changed when they were last measured, until the best of those
    measured now is ahead of what the next promised (lazy greedy). Where layers stand in for one another, what
    they promised is the most that they can give, and the move is the best of all. Where they need one another it may
    not be, which is what the exchange at the end is for.

    Attributes:
        objective: What is lowered.
        move: What is done with a layer.
        at_once: How many candidates are measured together.
        last_change: By candidate, what it changed when it was last measured.

    Source:
        Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions".
    """

    objective: Objective
    move: Callable[[Kept, int], Kept]
    at_once: int
    last_change: dict[int, float]

    def walk(self, kept: Kept, value: float, *, n_steps: int) -> Path:
        """The placements after each of the steps."""
        path, values = {len(kept): kept}, {len(kept): value}
        for _ in range(n_steps):
            layer, value = self._best(kept, value)
            kept = self.move(kept, layer)
            del self.last_change[layer]
            path[len(kept)], values[len(kept)] = kept, value
        return Path(kept=path, objective=values)

    def _best(self, kept: Kept, value: float) -> tuple[int, float]:
        """The layer after whose move the objective is lowest, and that objective."""
        waiting = sorted(self.last_change, key=lambda layer: (self.last_change[layer], layer))
        n_now = max(self.at_once, sum(math.isinf(change) for change in self.last_change.values()))
        fresh: dict[int, float] = {}
        while waiting:
            batch, waiting = waiting[:n_now], waiting[n_now:]
            values = self.objective([self.move(kept, layer) for layer in batch])
            fresh |= dict(zip(batch, values.tolist(), strict=True))
            if waiting and min(fresh.values()) - value < self.last_change[waiting[0]]:
                break
        self.last_change |= {layer: after - value for layer, after in fresh.items()}
        best = min(fresh, key=lambda layer: (fresh[layer], layer))
        return best, fresh[best]


def exchange(objective: Objective, kept: Kept, layers: Kept, *, most_swaps: int = MOST_SWAPS) -> Kept:
    """Local exchange: the best swap of a kept layer for another one, until none of those tried lowers the objective.

    Where there are more swaps than `most_swaps`, those are tried whose two halves, the one layer taken and the other
    one given, promise most.

    Laws: the objective of what is returned is no higher; where all swaps are tried, no single swap lowers it.
    """
    value = float(objective([kept])[0])
    while True:
        tried = _promising_swaps(objective, kept, value, layers, most_swaps)
        if not tried:
            return kept
        values = objective(tried)
        best = min(range(len(tried)), key=lambda index: (values[index], tried[index]))
        if not values[best] < value:
            return kept
        kept, value = tried[best], float(values[best])


def _promising_swaps(objective: Objective, kept: Kept, value: float, layers: Kept, most_swaps: int) -> list[Kept]:
    """The placements one swap away, or those of them whose halves promise most."""
    others = tuple(layer for layer in layers if layer not in kept)
    swaps = [(taken, given) for taken in kept for given in others]
    if len(swaps) > most_swaps:
        halves = [*(without(kept, one) for one in kept), *(with_layer(kept, one) for one in others)]
        change = dict(zip((*kept, *others), objective(halves) - value, strict=True))
        swaps = sorted(swaps, key=lambda swap: (change[swap[0]] + change[swap[1]], swap))[:most_swaps]
    return [with_layer(without(kept, taken), given) for taken, given in swaps]


def search_exactly(objective: Objective, layers: Kept, size: int) -> Kept:
    """The best of all placements of a size."""
    best: tuple[float, Kept] | None = None
    for batch in _batches(list(combinations(layers, size))):
        values = objective(batch)
        found = min(zip(values.tolist(), batch, strict=True))
        best = found if best is None or found < best else best
    assert best is not None  # there is one placement at least, whatever the size
    return best[1]


def _batches(placements: list[Kept]) -> Iterator[list[Kept]]:
    for first in range(0, len(placements), _IN_ONE_CALL):
        yield placements[first : first + _IN_ONE_CALL]


def largest(values: Float64[np.ndarray, " layer"], layers: Kept, size: int) -> Kept:
    """The layers of the largest values; of equal ones the lowest."""
    order = sorted(range(len(layers)), key=lambda index: (-values[index], layers[index]))
    return tuple(sorted(layers[index] for index in order[:size]))


def best_of(objective: Objective, candidates: Collection[Kept]) -> Kept:
    """The candidate with the lowest objective; of equal ones that with the lowest layers."""
    distinct = sorted(set(candidates))
    values = objective(distinct)
    return distinct[min(range(len(distinct)), key=lambda index: (values[index], distinct[index]))]
