"""Arithmetic of single layers, and of reading one out: what leaving a model early saves, and what looking costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from layertracer.tracing._planning.measured_costs import CostProbe
from layertracer.tracing._planning.token_spans import Quantity, TokenSpan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerFlops:
    """Floating-point operations of products of matrices, convolutions and attention, for one token.

    Attributes:
        layers: In each layer.
        readout: After the last one: of one next-token distribution.
    """

    layers: Float64[np.ndarray, " layer"]
    readout: float


def layer_flops(probe: CostProbe, *, n_tokens: int) -> LayerFlops:
    """What one token takes, the mean over a prompt of that many, counted while the model's own code runs.

    Args:
        probe: The model's costs.
        n_tokens: How long the prompt is.

    Raises:
        Whatever the model raises on a prompt of this length.
    """
    span = TokenSpan(n_before=0, n_own=n_tokens, cached=False)
    of_prompt = probe.measure([span], None)[span].layers(Quantity.FLOPS, np.ones(probe.network.anatomy.n_layers))
    return LayerFlops(layers=of_prompt / n_tokens, readout=probe.tail_flops())
