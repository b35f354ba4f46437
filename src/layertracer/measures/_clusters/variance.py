"""Where the spread of a number comes from, in a crossed design: prompts, demonstrations, templates, draws."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer.measures._bootstrap import SURE_UNITS

SOURCES = ("prompts", "demonstrations", "templates", "draws")
"""What the axes are where nobody says."""

REST = "rest"
"""Interactions, and what is left."""

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceShares:
    """Shares of the variance of a number, by source.

    Attributes:
        shares: By source that has two levels or more, and "rest" (interactions and what is left); they add up to 1.
            Empty where all values are equal.
        variances: The variances themselves, before negative ones were set to 0.
        levels: By source, how many there were.
        n_missing: Cells without a value.
        note: What must be said of them; "" where nothing must.
    """

    shares: Mapping[str, float]
    variances: Mapping[str, float]
    levels: Mapping[str, int]
    n_missing: int
    note: str = ""


def variance_shares(values: Float[np.ndarray, "..."], sources: Sequence[str] = SOURCES) -> VarianceShares:
    """Shares of variance in a crossed design, by the method of moments.

    A value is taken to be μ + a[prompt] + b[demonstrations] + c[template] (+ d[draw]) + rest, all terms random and
    independent; the rest holds the interactions. Two values that share exactly the level of one source, and nothing
    else, differ in square by twice the variance of all but that source, and two that share none by twice all of it:
    the difference of the two is the variance of the source. Where no cell is missing this is what the expected mean
    squares of the analysis of variance give. Negative variances, which chance gives where there is little, become 0.

    Missing cells (NaN) are left out and counted: the estimates stay unbiased where what is missing has nothing to do
    with the value.

    Laws: the shares lie in [0, 1] and add up to 1; adding a constant changes nothing, a factor leaves the shares; the
    order of the levels changes nothing; a number that varies with one source only has all of its share there.

    Args:
        values: A number a cell; the axes are the sources in their order, such as [query, demonstration set, template,
            draw].
        sources: Their names; those beyond the axes that there are do not count.

    Returns:
        The shares.

    Raises:
        UsageError: If fewer than two axes have two levels, there are more axes than sources, a value is infinite, or
            so many cells are missing that a source cannot be told.

    Example:
        >>> found = variance_shares(np.array([[1.0, 1.0], [3.0, 3.0]]))
        >>> found.shares
        {'prompts': 1.0, 'demonstrations': 0.0, 'rest': 0.0}

    Source:
        Searle, Casella and McCulloch (1992), "Variance components"; Gao and Owen (2017), "Efficient moment calculations
        for variance components in large unbalanced crossed random effects models", for cells that are missing.
    """
    array = np.asarray(values, dtype=np.float64)
    names = _check(array, sources)
    levels = dict(zip(names, array.shape, strict=True))
    # An axis of one level varies nothing: it can be left out.
    told = [name for name in names if levels[name] > 1]
    cells = np.argwhere(~np.isnan(array))[:, [names.index(name) for name in told]]
    known = array[~np.isnan(array)]
    variances = _variances(known, cells, told)
    notes = list(_notes(levels, told, n_missing=array.size - len(known), n_cells=array.size))
    positive = {name: max(0.0, value) for name, value in variances.items()}
    total = sum(positive.values())
    if total == 0.0:
        notes.append("all values are equal: there is no variance to share out")
    return VarianceShares(
        shares={name: value / total for name, value in positive.items()} if total > 0.0 else {},
        variances=variances,
        levels=levels,
        n_missing=array.size - len(known),
        note="; ".join(notes),
    )


def _check(array: Float[np.ndarray, "..."], sources: Sequence[str]) -> list[str]:
    """The names of the axes.

    Raises:
        UsageError: If the array is no crossed design.
    """
    if not 2 <= array.ndim <= len(sources):
        raise UsageError(
            f"variance_shares needs an axis for each of 2 to {len(sources)} sources ({', '.join(sources)}), got shape "
            f"{list(array.shape)}."
        )
    if sum(size > 1 for size in array.shape) < 2:
        raise UsageError(
            f"variance_shares needs two sources with two levels or more, got shape {list(array.shape)}: with one, its "
            "variance cannot be told from the rest."
        )
    if np.isinf(array).any():
        raise UsageError("variance_shares got infinite values. Leave those cells out as NaN.")
    return list(sources[: array.ndim])


def _variances(
    known: Float[np.ndarray, " cell"], cells: Int[np.ndarray, "cell source"], told: list[str]
) -> dict[str, float]:
    """Variance of every source, and of the rest.

    Raises:
        UsageError: If no two cells share exactly one source, or none at all.
    """
    # Around a value of theirs, and 0 where they differ by rounding: a constant has no variance.
    centred = known - known.mean() if len(known) else known
    if len(known) and np.abs(centred).max() <= _ROUNDING * np.abs(known).max():
        centred = np.zeros_like(centred)
    everything = tuple(range(len(told)))
    at_least = {shared: _differences(centred, cells, shared) for shared in _subsets(everything)}

    def spread(shared: tuple[int, ...]) -> float:
        """Half the mean squared difference of cells that share exactly these sources."""
        squares, n_pairs = 0.0, 0.0
        for more, (own_squares, own_pairs) in at_least.items():
            if set(shared) <= set(more):
                sign = (-1.0) ** (len(more) - len(shared))
                squares, n_pairs = squares + sign * own_squares, n_pairs + sign * own_pairs
        if n_pairs < 1.0:
            what = " and ".join(told[one] for one in shared) or "nothing"
            raise UsageError(
                f"variance_shares cannot tell the sources apart: no two values share {what} and nothing else. Too many "
                "cells are missing."
            )
        return squares / n_pairs

    total = spread(())
    found = {name: total - spread((source,)) for source, name in enumerate(told)}
    return found | {REST: total - sum(found.values())}


def _subsets(items: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
    """All subsets."""
    return itertools.chain.from_iterable(itertools.combinations(items, size) for size in range(len(items) + 1))


def _differences(
    values: Float[np.ndarray, " cell"], cells: Int[np.ndarray, "cell source"], shared: tuple[int, ...]
) -> tuple[float, float]:
    """Half the sum of squared differences of all ordered pairs that share at least these sources, and their number."""
    _, group = (
        np.unique(cells[:, list(shared)], axis=0, return_inverse=True) if shared else (None, np.zeros(len(cells)))
    )
    numbers = np.asarray(group).ravel().astype(np.int64)
    counts = np.bincount(numbers)
    sums, squares = np.bincount(numbers, weights=values), np.bincount(numbers, weights=values**2)
    return float((counts * squares - sums**2).sum()), float((counts.astype(np.float64) ** 2).sum())


def _notes(levels: Mapping[str, int], told: list[str], *, n_missing: int, n_cells: int) -> Iterable[str]:
    """What must be said of the shares."""
    for name, count in levels.items():
        if name not in told:
            yield f"one level of {name}: its share cannot be told"
        elif count < SURE_UNITS:
            yield f"{count} {name}: below {SURE_UNITS} its share is very unsure"
    if n_missing:
        yield f"{n_missing} of {n_cells} cells have no value and are left out"
