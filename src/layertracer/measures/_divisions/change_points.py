"""Change points: the best division of a row of layers into regions, by dynamic programming.

What is known of the layers comes as a matrix of their inner products: of one standardised curve, that is its outer
product with itself; several are added. The cost of a region is the sum of squared distances of its layers from their
mean, which such a matrix is enough for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from layertracer.measures._resampling import chunk_sizes, make_generator

LEAST_LAYERS = 2
"""Layers of a region, at the least: with one alone, every single odd layer would be two boundaries."""
MOST_AT_ONCE = 6
"""Regions that a span of layers is divided into at a time, at the most; each may then be divided again."""


class Split(NamedTuple):
    """How a span of layers divides.

    Attributes:
        boundaries: First layers of the regions after the first, counted within the span; () where none stands out.
        p: Share of the shuffles that divide as well or better, the span itself counted among them.
    """

    boundaries: tuple[int, ...]
    p: float


def region_costs(grams: Float[np.ndarray, "*batch layer layer"]) -> Float[np.ndarray, "*batch begin end"]:
    """Cost of the region of layers begin to end − 1, for all pairs; infinite below `LEAST_LAYERS` layers.

    Args:
        grams: Inner products of the layers.
    """
    n_layers = grams.shape[-1]
    sums = np.zeros((*grams.shape[:-2], n_layers + 1, n_layers + 1))
    sums[..., 1:, 1:] = grams.cumsum(axis=-1).cumsum(axis=-2)
    own = np.zeros((*grams.shape[:-2], n_layers + 1))
    own[..., 1:] = np.diagonal(grams, axis1=-2, axis2=-1).cumsum(axis=-1)
    corners = np.diagonal(sums, axis1=-2, axis2=-1)
    blocks = corners[..., None, :] - sums - np.swapaxes(sums, -1, -2) + corners[..., :, None]
    places = np.arange(n_layers + 1)
    lengths = places[None, :] - places[:, None]
    costs = own[..., None, :] - own[..., :, None] - blocks / np.maximum(lengths, 1)
    return np.where(lengths >= LEAST_LAYERS, np.maximum(costs, 0.0), np.inf)


def best_boundaries(
    costs: Float[np.ndarray, "batch begin end"], n_regions: int
) -> tuple[Float[np.ndarray, "batch count"], Int[np.ndarray, "batch boundary"]]:
    """The least cost of 1, 2, … `n_regions` regions, and the boundaries of that many.

    Args:
        costs: Of single regions, see `region_costs`.
        n_regions: How many, at the most; there must be layers enough.
    """
    n_batch, n_places = costs.shape[:2]
    least = [costs[:, 0, :]]
    came_from = []
    for _ in range(n_regions - 1):
        sums = least[-1][:, :, None] + costs
        came_from.append(sums.argmin(axis=1))
        least.append(np.take_along_axis(sums, came_from[-1][:, None], axis=1)[:, 0])
    end = np.full(n_batch, n_places - 1)
    boundaries = []
    for before in reversed(came_from):
        end = before[np.arange(n_batch), end]
        boundaries.append(end)
    ordered = np.stack(boundaries[::-1], axis=1) if boundaries else np.zeros((n_batch, 0), np.int64)
    return np.stack([one[:, -1] for one in least], axis=1), ordered


def split(gram: Float[np.ndarray, "layer layer"], *, level: float, n_shuffles: int, seed: int) -> Split:
    """The best division of a span of layers, where it beats those of the same layers in random orders.

    A boundary costs as much as it must for only `level` of the shuffles to have any: the penalty is the (1 − level)
    quantile over shuffles of the largest mean gain of 1, 2, … boundaries. The division is the one of least cost and
    penalties together.

    Laws: of layers in a random order, `level` at most are divided.

    Args:
        gram: Inner products of the layers.
        level: Error rate.
        n_shuffles: How many shuffles.
        seed: What shuffles.
    """
    n_layers = len(gram)
    most = min(MOST_AT_ONCE, n_layers // LEAST_LAYERS)
    if most < 2:
        return Split((), 1.0)
    costs = region_costs(gram[None])
    own = _mean_gains(best_boundaries(costs, most)[0])[0]
    shuffled = _shuffled_gains(gram, most, n_shuffles=n_shuffles, seed=seed)
    # Layers in reverse order divide just as well: equal but for rounding counts as matched.
    p = (1 + int((shuffled >= own * (1 - 1e-9)).sum())) / (1 + n_shuffles)
    if p > level:
        return Split((), p)
    n_above = int(np.floor(level * (1 + n_shuffles)))
    penalty = np.sort(shuffled)[n_shuffles - n_above]
    totals = best_boundaries(costs, most)[0][0] + penalty * np.arange(most)
    n_regions = 1 + int(totals[1:].argmin()) + 1
    return Split(tuple(best_boundaries(costs, n_regions)[1][0].tolist()), p)


def _mean_gains(least: Float[np.ndarray, "batch count"]) -> Float[np.ndarray, " batch"]:
    """What a boundary gains, of the number of boundaries for which that is most."""
    n_boundaries = np.arange(1, least.shape[1])
    return np.asarray(((least[:, :1] - least[:, 1:]) / n_boundaries).max(axis=1))


def _shuffled_gains(
    gram: Float[np.ndarray, "layer layer"], most: int, *, n_shuffles: int, seed: int
) -> Float[np.ndarray, " shuffle"]:
    """`_mean_gains` of the same layers in random orders."""
    n_layers, found = len(gram), []
    generator = make_generator(seed)
    for size in chunk_sizes(n_shuffles, floats_per_resample=8 * (n_layers + 1) ** 2):
        orders = generator.permuted(np.tile(np.arange(n_layers), (size, 1)), axis=1)
        shuffled = gram[orders[:, :, None], orders[:, None, :]]
        found.append(_mean_gains(best_boundaries(region_costs(shuffled), most)[0]))
    return np.concatenate(found)
