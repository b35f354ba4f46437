"""Placements that nobody searched for: uniform ones, random ones, the most vulnerable layers, those at the particle."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from jaxtyping import Float64

from layertracer.hybrids._placing.search import Kept, largest
from layertracer.measures import make_generator


def uniform_placements(layers: Kept, size: int) -> tuple[Kept, ...]:
    """Evenly spaced layers, as published: the last of each of `size` blocks, and the first of each.

    Example:
        >>> uniform_placements(tuple(range(28)), 4)
        ((6, 13, 20, 27), (0, 7, 14, 21))
    """
    n = len(layers)
    if size == 0:
        return ((),)
    last = tuple(layers[(block + 1) * n // size - 1] for block in range(size))
    first = tuple(layers[block * n // size] for block in range(size))
    return (last,) if first == last else (last, first)


def random_placements(layers: Kept, size: int, *, n: int, seed: int) -> tuple[Kept, ...]:
    """Distinct placements of a size, drawn at random; all of them where there are no more than `n`.

    Laws: equal seeds draw alike; ascending; none twice.
    """
    if math.comb(len(layers), size) <= n:
        return tuple(combinations(layers, size))
    generator = make_generator(seed)
    drawn: set[Kept] = set()
    while len(drawn) < n:
        chosen = generator.choice(len(layers), size=size, replace=False)
        drawn.add(tuple(sorted(layers[index] for index in chosen)))
    return tuple(sorted(drawn))


def most_vulnerable(js_bits: Float64[np.ndarray, " layer"], layers: Kept, size: int) -> Kept | None:
    """The placeable layers of the largest JS divergence; None where fewer than `size` have one.

    Args:
        js_bits: Mean JS divergence of each layer of the model; NaN where it has none.
        layers: The placeable layers.
        size: How many.
    """
    measured = tuple(layer for layer in layers if np.isfinite(js_bits[layer]))
    if len(measured) < size:
        return None
    return largest(js_bits[list(measured)], measured, size)


def around_particle(particle: int, layers: Kept, size: int) -> Kept:
    """The placeable layers nearest to a layer; of two equally near ones the lower.

    Example:
        >>> around_particle(5, tuple(range(8)), 3)
        (4, 5, 6)
    """
    return tuple(sorted(sorted(layers, key=lambda layer: (abs(layer - particle), layer))[:size]))


def joint_js(
    mixer_js_bits: Float64[np.ndarray, " layer"], state_js_bits: Float64[np.ndarray, " layer"]
) -> Float64[np.ndarray, " layer"]:
    """JS divergences at two sites, each divided by its largest, added. NaN where a layer lacks one.

    Example:
        >>> joint_js(np.array([0.1, 0.2]), np.array([0.4, 0.2])).tolist()
        [1.5, 1.5]
    """
    return np.asarray(_scaled(mixer_js_bits) + _scaled(state_js_bits))


def _scaled(js_bits: Float64[np.ndarray, " layer"]) -> Float64[np.ndarray, " layer"]:
    most = np.nanmax(js_bits) if np.isfinite(js_bits).any() else 0.0
    return np.asarray(js_bits / most if most > 0 else np.zeros_like(js_bits))
