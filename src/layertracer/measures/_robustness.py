"""The robustness of a whole model, comparable between models of different depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer.measures._checked_arrays import check_js, spread_out
from layertracer.measures._depth import relative_depth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Robustness:
    """How much a perturbation of one layer changes the output.

    Attributes:
        max_bits: Largest mean JS divergence of a layer, in bits.
        mean_bits: Mean over the layers that have the perturbed site, in bits.
        profile_depth: Relative depth (i + 1) / n_layers of every layer, in (0, 1], shape [layer].
        profile_bits: Mean JS divergence of every layer over prompts and draws, shape [layer]; NaN where
            a layer has not the perturbed site.
    """

    max_bits: float
    mean_bits: float
    profile_depth: Float[np.ndarray, " layer"]
    profile_bits: Float[np.ndarray, " layer"]


def measure_robustness(js_bits: Float[np.ndarray, "prompt draw layer"]) -> Robustness:
    """Maximum, mean and relative-depth profile of the JS divergence.

    Laws: mean ≤ max; the profile ends at depth 1; permuting prompts or draws changes nothing; maximum and mean are
    those of the layers that have the perturbed site, as if there were no others.

    Args:
        js_bits: JS divergence from the unperturbed output, in bits; NaN at layers without the perturbed site.

    Returns:
        The summary; lower is more robust.

    Raises:
        UsageError: If there is no prompt, draw or layer, a value is not finite, or no layer has the site.

    Example:
        >>> robustness = measure_robustness(np.array([[[0.25, 0.75]]]))
        >>> robustness.max_bits, robustness.mean_bits, robustness.profile_depth.tolist()
        (0.75, 0.5, [0.5, 1.0])
    """
    js, present = check_js(js_bits, "measure_robustness")
    profile = js.mean(axis=(0, 1))
    n_layers = js_bits.shape[-1]
    return Robustness(
        max_bits=float(profile.max()),
        mean_bits=float(profile.mean()),
        profile_depth=relative_depth(n_layers),
        profile_bits=spread_out(profile, present, n_layers),
    )
