"""JS divergence as a row measure: how far a perturbation moves the output."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from layertracer._types.measures import JS_BITS, MeasureInfo
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.row_measures import PerturbedRows


class JsBits:
    """JS divergence between perturbed and clean rows, bits; where several positions are read, the mean over them.

    Out of logits a `Reduction` computes it itself, see `js_from_logits`: it writes over the block that the other
    measures see before.
    """

    info: MeasureInfo = JS_BITS
    over_positions: Literal["mean", "sum"] = "mean"

    def __call__(self, rows: PerturbedRows) -> Float[Tensor, "*row"]:
        """See `RowMeasure`."""
        return js_divergence(rows.log_probs, rows.log_clean)
