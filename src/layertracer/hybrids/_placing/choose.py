"""The advised placement of each size, by the search that was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from layertracer._errors import UsageError
from layertracer.advice import Pairs, Search
from layertracer.hybrids._placing.pairs import choose_by_pairs
from layertracer.hybrids._placing.search import (
    AT_ONCE,
    MOST_ENUMERATED,
    Kept,
    Objective,
    Path,
    SingleScores,
    best_of,
    exchange,
    grow,
    largest,
    search_exactly,
    shrink,
)

MOST_EXACT = 5_000
"""Placements of one size that search="exact" measures; more would take days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A placement and how it was found.

    Attributes:
        kept: The layers.
        chosen_by: In a few words.
        notes: What must be said of it.
    """

    kept: Kept
    chosen_by: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What single layers and pairs are worth.

    Attributes:
        singles: Objectives of single layers.
        joint_js: By placeable layer; None where it was not measured.
        pairs: Pairs; None where nobody asked for them.
    """

    singles: SingleScores
    joint_js: Float64[np.ndarray, " placeable"] | None
    pairs: Pairs | None


def choose(search: Search, objective: Objective, sizes: Sequence[int], scores: Scores) -> dict[int, Chosen]:
    """The placement of each size.

    Raises:
        UsageError: If an exact search would have too many placements to measure, or what it needs was not measured.
    """
    layers = scores.singles.layers
    if search == "greedy":
        return _choose_greedily(objective, layers, sizes, scores)
    if search == "exact":
        refuse_too_many(len(layers), sizes)
        return {size: _exactly(objective, layers, size) for size in sizes}
    if search == "pairs":
        assert scores.pairs is not None  # they are measured where this search is asked for
        return {size: Chosen(kept=choose_by_pairs(scores.pairs, size), chosen_by="pairs") for size in sizes}
    values = scores.singles.removed if search == "singles" else _finite(scores.joint_js, max(sizes))
    return {size: Chosen(kept=largest(values, layers, size), chosen_by=search) for size in sizes}


def refuse_too_many(n_layers: int, sizes: Sequence[int]) -> None:
    """Raise where an exact search would have too many placements to measure.

    Raises:
        UsageError: If that is so.
    """
    most = max(sizes, key=lambda size: math.comb(n_layers, size))
    if math.comb(n_layers, most) > MOST_EXACT:
        raise UsageError(
            f"search='exact' would measure all {math.comb(n_layers, most):,} placements of {most} of {n_layers} "
            f"layers; at most {MOST_EXACT:,} are measured. Use search='greedy', which ends with an exchange of layers."
        )


def _finite(joint_js: Float64[np.ndarray, " placeable"] | None, size: int) -> Float64[np.ndarray, " placeable"]:
    """The joint JS, layers without one last."""
    n_known = 0 if joint_js is None else int(np.isfinite(joint_js).sum())
    if joint_js is None or n_known < size:
        raise UsageError(
            f"search='joint_js' needs the JS divergences at mixer_output and state of {size} layers that can be "
            f"substituted, and {n_known} have both. Use search='greedy' or search='singles'."
        )
    return np.where(np.isfinite(joint_js), joint_js, -np.inf)


def _exactly(objective: Objective, layers: Kept, size: int) -> Chosen:
    return Chosen(kept=search_exactly(objective, layers, size), chosen_by="exact")


def _choose_greedily(objective: Objective, layers: Kept, sizes: Sequence[int], scores: Scores) -> dict[int, Chosen]:
    """The better of both ends and of what single layers name, then exchange; all placements where they are few."""
    many = [size for size in sizes if math.comb(len(layers), size) > MOST_ENUMERATED]
    found = {size: _exactly(objective, layers, size) for size in sizes if size not in many}
    if many:
        up, down = greedy_paths(objective, layers, least=min(many), most=max(many))
        for size in many:
            found[size] = _improve(
                objective,
                layers,
                {
                    "greedy from none": up.kept[size],
                    "greedy from all": down.kept[size],
                    **_named_by_singles(scores, size),
                },
            )
    return {size: found[size] for size in sizes}


def greedy_paths(
    objective: Objective, layers: Kept, *, least: int, most: int, at_once: int = AT_ONCE
) -> tuple[Path, Path]:
    """Greedy from none up to the largest size, and from all down to the smallest."""
    return (
        grow(objective, layers, most, at_once=at_once),
        shrink(objective, layers, least, at_once=at_once),
    )


def _named_by_singles(scores: Scores, size: int) -> dict[str, Kept]:
    layers = scores.singles.layers
    named = {
        "largest by removing one": largest(scores.singles.removed, layers, size),
        "best by restoring one": largest(-scores.singles.restored, layers, size),
    }
    if scores.joint_js is not None and np.isfinite(scores.joint_js).sum() >= size:
        named["largest joint JS"] = largest(_finite(scores.joint_js, size), layers, size)
    return named


def _improve(objective: Objective, layers: Kept, starts: dict[str, Kept]) -> Chosen:
    """The best start, exchanged layer by layer until nothing tried lowers the objective."""
    start = best_of(objective, starts.values())
    first = next(name for name, kept in starts.items() if kept == start)
    kept = exchange(objective, start, layers)
    n_swapped = len(set(start) - set(kept))
    swapped = f", then {n_swapped} exchanged" if n_swapped else ""
    return Chosen(kept=kept, chosen_by="greedy", notes=(f"Found by {first}{swapped}.",))
