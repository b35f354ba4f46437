"""The first layer of a curve that qualifies. Every argmax and threshold of this package goes through here."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

NONE_FOUND = -1
"""What stands for "no layer" inside integer arrays."""

ROUNDING = 1e-9
"""Differences below this are rounding: a mean over resamples is a matrix product, whose order of summation
differs from column to column. Traces are float32, so nothing that was measured is as small as this."""


def first_true(flags: Bool[np.ndarray, "*batch layer"]) -> Int[np.ndarray, "*batch"]:
    """The first layer whose flag is set, `NONE_FOUND` where no flag is."""
    return np.asarray(np.where(flags.any(axis=-1), flags.argmax(axis=-1), NONE_FOUND))


def first_largest(score: Float[np.ndarray, "*batch layer"], above: float = ROUNDING) -> Int[np.ndarray, "*batch"]:
    """The layer of the largest score.

    Ties, that is scores within `ROUNDING` (relative to the largest, where that exceeds 1), go to the lowest layer.

    Args:
        score: One score a layer; NaN anywhere gives `NONE_FOUND`.
        above: A largest score below this gives `NONE_FOUND`.
    """
    peak = score.max(axis=-1, keepdims=True)
    tied = peak - ROUNDING * np.maximum(1.0, np.abs(peak))
    return first_true(score >= np.maximum(tied, above))


def as_optional(layers: Int[np.ndarray, " prompt"]) -> tuple[int | None, ...]:
    """Layers as Python values, None for `NONE_FOUND`."""
    return tuple(None if layer == NONE_FOUND else int(layer) for layer in layers)
