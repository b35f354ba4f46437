"""Relative depth: where a layer sits in a model of any number of layers, and profiles on a common grid of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError


def relative_depth(n_layers: int) -> Float[np.ndarray, " layer"]:
    """Relative depth (i + 1) / n_layers of every layer, in (0, 1].

    Example:
        >>> relative_depth(4).tolist()
        [0.25, 0.5, 0.75, 1.0]
    """
    return np.arange(1, n_layers + 1) / n_layers


def interpolate_profile(
    values: Float[np.ndarray, "*batch layer"], grid: Float[np.ndarray, " depth"]
) -> Float[np.ndarray, "*batch depth"]:
    """Values of layers on a grid of relative depth, by linear interpolation between neighbouring layers.

    Layers that are NaN in every curve (those without the perturbed site) are left out, and the line goes on between
    their neighbours. There is no extrapolation: a depth before the first layer that has a value, or behind the last
    one, is NaN.

    Laws: on the layers' own depths the values come back as they are; a constant stays that constant; interpolating a
    mean is the mean of the interpolated curves; values lie within those of the layers.

    Args:
        values: One curve or several, one value a layer.
        grid: Relative depths, each in (0, 1].

    Returns:
        One value a depth, in the unit of `values`.

    Raises:
        UsageError: If there is no layer, no layer has values, or a depth is out of range.

    Example:
        >>> interpolate_profile(np.array([0.4, 0.2]), np.array([0.25, 0.5, 0.75, 1.0])).round(3).tolist()
        [nan, 0.4, 0.3, 0.2]
    """
    curves = np.asarray(values, dtype=np.float64)
    depths = np.asarray(grid, dtype=np.float64)
    if depths.size == 0 or not ((depths > 0) & (depths <= 1)).all():
        raise UsageError(
            f"interpolate_profile needs relative depths in (0, 1], got {depths.tolist()}. Layer i of n sits at "
            "(i + 1) / n."
        )
    n_layers = curves.shape[-1]
    present = np.flatnonzero(~np.isnan(curves.reshape(-1, n_layers)).all(axis=0)) if n_layers else np.zeros(0, int)
    if present.size == 0:
        raise UsageError(
            f"interpolate_profile needs at least one layer that has values, got shape {list(curves.shape)} with none. "
            "Check that some layer has the perturbed site."
        )
    return _interpolate(curves[..., present], relative_depth(n_layers)[present], depths)


def _interpolate(
    curves: Float[np.ndarray, "*batch present"], known: Float[np.ndarray, " present"], grid: Float[np.ndarray, " depth"]
) -> Float[np.ndarray, "*batch depth"]:
    """Weights of the two neighbours; a depth within rounding of a layer is that layer."""
    after = np.clip(np.searchsorted(known, grid - 1e-9), 0, known.size - 1)
    before = np.maximum(after - 1, 0)
    gap = known[after] - known[before]
    weight = np.ones(grid.size)
    np.divide(grid - known[before], gap, out=weight, where=gap > 0)
    weight = np.where(np.abs(grid - known[after]) <= 1e-9, 1.0, weight)
    mixed = (1.0 - weight) * curves[..., before] + weight * curves[..., after]
    outside = (grid < known[0] - 1e-9) | (grid > known[-1] + 1e-9)
    return np.where(outside, np.nan, mixed)
