"""Arrays that come in from a trace: of the right shape, not empty, and finite, or refused."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

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


def check_js(js_bits: Float[np.ndarray, "prompt draw layer"], caller: str) -> Float[np.ndarray, "prompt draw layer"]:
    """JS divergences as float64, checked by `check_finite`."""
    return check_finite(js_bits, axes=JS_AXES, caller=caller)
