"""Arrays that come in from a trace: of the right shape, not empty, and finite, or refused.

Divergences may be missing: a layer without the perturbed site holds NaN for every prompt and draw. That is the only
NaN that is let through.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from layertracer._errors import UsageError

JS_AXES = ("prompt", "draw", "layer")


def check_finite(values: Float[np.ndarray, "..."], *, axes: tuple[str, ...], caller: str) -> Float[np.ndarray, "..."]:
    """`values` as float64, with exactly these axes, none of them empty, every value finite.

    Raises:
        UsageError: If not; the message names the axis, or the place of the first value that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    expected = f"[{', '.join(axes)}]"
    if array.ndim != len(axes):
        raise UsageError(
            f"{caller} needs an array of shape {expected}, got shape {list(array.shape)}. "
            "Add the missing axes with a length of 1, e.g. values[None]."
        )
    for axis, size in zip(axes, array.shape, strict=True):
        if size == 0:
            raise UsageError(
                f"{caller} needs at least one {axis}, got shape {list(array.shape)} for {expected}. "
                "Check that the trace finished at least one prompt."
            )
    finite = np.isfinite(array)
    if not finite.all():
        first = np.unravel_index(int(np.argmin(finite)), array.shape)
        where = ", ".join(f"{axis} {int(index)}" for axis, index in zip(axes, first, strict=True))
        raise UsageError(
            f"{caller} needs finite values, got {array[first]} at {where} and {int((~finite).sum())} such values in "
            "all. Leave those prompts out, or trace them again in float32."
        )
    return array


def find_missing(js_bits: Float[np.ndarray, "prompt draw layer"]) -> Bool[np.ndarray, " layer"]:
    """The layers without the perturbed site: those whose divergence is NaN for every prompt and draw.

    Without a prompt or a draw none is known to be missing.

    Example:
        >>> find_missing(np.array([[[0.1, np.nan]], [[0.3, np.nan]]])).tolist()
        [False, True]
    """
    if js_bits.shape[0] * js_bits.shape[1] == 0:
        return np.zeros(js_bits.shape[2], dtype=bool)
    return np.asarray(np.isnan(js_bits).all(axis=(0, 1)))


def check_js(
    js_bits: Float[np.ndarray, "prompt draw layer"], caller: str
) -> tuple[Float[np.ndarray, "prompt draw present"], Int[np.ndarray, " present"]]:
    """JS divergences of the layers that have the site, as float64, and the indices of these layers.

    Raises:
        UsageError: If an axis is missing or empty, a value is not finite at a layer that has the site, or no layer
            has it.
    """
    array = np.asarray(js_bits, dtype=np.float64)
    missing = find_missing(array) if array.ndim == len(JS_AXES) else np.zeros(1, dtype=bool)
    if not missing.any() or missing.all():
        return check_finite(array, axes=JS_AXES, caller=caller), np.arange(array.shape[-1])
    # Checked with the missing ones as zeros, so that a message names the layer by its own index.
    checked = check_finite(np.where(missing, 0.0, array), axes=JS_AXES, caller=caller)
    # Laid out as if there were no others: sums then round alike.
    return np.ascontiguousarray(checked[..., ~missing]), np.flatnonzero(~missing)


def spread_out(
    values: Float[np.ndarray, "*batch present"], present: Int[np.ndarray, " present"], n_layers: int
) -> Float[np.ndarray, "*batch layer"]:
    """Values of some layers at their places among all; NaN at the others.

    Example:
        >>> spread_out(np.array([0.2, 0.5]), np.array([0, 2]), 3).tolist()
        [0.2, nan, 0.5]
    """
    everywhere = np.full((*values.shape[:-1], n_layers), np.nan)
    everywhere[..., present] = values
    return everywhere
