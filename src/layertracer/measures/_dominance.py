"""Dominant dimensions: how much of the JS divergence comes from masks that hit them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from layertracer._errors import UsageError
from layertracer.measures._checked_arrays import check_js, spread_out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DominantDimensions:
    """The largest dimension of the stream at every layer, and what masking it does.

    Residual streams have a few enormous dimensions; whether a mask hits one can decide its result. Where
    `js_share` is far above `draw_share`, it does.

    Attributes:
        dimension: Index of the dimension, shape [layer].
        ratio: Its root mean square over the median root mean square of all dimensions, shape [layer].
        js_share: Share of the summed JS divergence that comes from the draws which mask it, in [0, 1], shape
            [layer]; NaN where there is no divergence to share.
        draw_share: Share of the draws which mask it, in [0, 1]: what chance alone would give; shape [layer]; NaN
            where a layer has not the perturbed site.
    """

    dimension: Int[np.ndarray, " layer"]
    ratio: Float[np.ndarray, " layer"]
    js_share: Float[np.ndarray, " layer"]
    draw_share: Float[np.ndarray, " layer"]

    @property
    def is_known(self) -> bool:
        """Whether the dimensions were looked at: at "state" there are none that all layers share."""
        return bool(np.isfinite(self.ratio).any())


def attribute_to_dominant(
    js_bits: Float[np.ndarray, "prompt draw layer"],
    dominant_hit: Bool[np.ndarray, "draw layer"],
    *,
    dominant_dimension: Int[np.ndarray, " layer"],
    dominant_ratio: Float[np.ndarray, " layer"],
) -> DominantDimensions:
    """The share of the JS divergence that comes from the draws which mask the dominant dimension.

    js_share[i] = Σ JS of the draws that hit / Σ JS of all draws, over prompts.

    Laws: 1 where every draw hits and 0 where none does; the shares of hits and of misses sum to 1; equal to
    `draw_share` where all draws have the same divergence.

    Args:
        js_bits: JS divergence from the unperturbed output, in bits; NaN at layers without the perturbed site.
        dominant_hit: Whether a draw masks the dominant dimension of a layer.
        dominant_dimension: Index of that dimension.
        dominant_ratio: Its root mean square over the median of all.

    Returns:
        Both shares, beside the dimensions they speak of.

    Raises:
        UsageError: If there is no prompt, draw or layer, a divergence is not finite, no layer has the site, or shapes
            do not fit.

    Example:
        >>> shares = attribute_to_dominant(
        ...     np.array([[[0.9], [0.1]]]),
        ...     np.array([[True], [False]]),
        ...     dominant_dimension=np.array([7]),
        ...     dominant_ratio=np.array([120.0]),
        ... )
        >>> shares.js_share.tolist(), shares.draw_share.tolist()
        ([0.9], [0.5])
    """
    js, present = check_js(js_bits, "attribute_to_dominant")
    hit = np.asarray(dominant_hit, dtype=bool)
    dimension = np.asarray(dominant_dimension)
    ratio = np.asarray(dominant_ratio, dtype=np.float64)
    n_layers = js_bits.shape[-1]
    _check_shape("dominant_hit", hit.shape, js_bits.shape[1:])
    _check_shape("dominant_dimension", dimension.shape, (n_layers,))
    _check_shape("dominant_ratio", ratio.shape, (n_layers,))
    hit = hit[:, present]
    by_draw = js.sum(axis=0)
    total = by_draw.sum(axis=0)
    js_share = np.full(total.shape, np.nan)
    np.divide((by_draw * hit).sum(axis=0), total, out=js_share, where=total > 0)
    return DominantDimensions(
        dimension=dimension,
        ratio=ratio,
        js_share=spread_out(js_share, present, n_layers),
        draw_share=spread_out(hit.mean(axis=0), present, n_layers),
    )


def _check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise UsageError(
            f"attribute_to_dominant got {name} of shape {list(shape)}, expected {list(expected)} as js_bits has it. "
            "Take both from one trace."
        )
