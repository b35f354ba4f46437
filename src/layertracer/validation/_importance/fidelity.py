"""How faithful first-order estimates are to the true effects of removals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from layertracer._types import LayerMeasure

_TRUE = {"mixer": "zero_mixer_loss_nats", "mlp": "zero_mlp_loss_nats", "block": "skip_loss_nats"}


def gradient_fidelity(importance: Mapping[str, LayerMeasure]) -> dict[str, float]:
    """Correlation of first-order estimates with what removals really change, by what is removed and by kind.

    Of the change of the target's log-probability: of mixers and MLPs against zero-ablation, of whole layers against
    skips. Over all cells of prompt and layer. "gradient_mixer_spearman" is of ranks, "gradient_mixer_pearson" linear;
    what was not measured, or is constant, has none.

    Law: 1 where estimates are the true changes.

    Args:
        importance: From `measure_importance`.
    """
    found: dict[str, float] = {}
    for name, true_name in _TRUE.items():
        estimate, loss = importance.get(f"gradient_{name}"), importance.get(true_name)
        if estimate is None or loss is None:
            continue
        both = np.isfinite(estimate.values) & np.isfinite(loss.values)
        one, other = estimate.values[both].astype(np.float64), -loss.values[both].astype(np.float64)
        for kind, values in (("spearman", (_ranks(one), _ranks(other))), ("pearson", (one, other))):
            correlation = _correlation(*values)
            if np.isfinite(correlation):
                found[f"gradient_{name}_{kind}"] = correlation
    return found


def _ranks(values: Float64[np.ndarray, " cell"]) -> Float64[np.ndarray, " cell"]:
    """Ranks, those of equal values their mean."""
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return ranks if len(distinct) else values


def _correlation(one: Float64[np.ndarray, " cell"], other: Float64[np.ndarray, " cell"]) -> float:
    if len(one) < 3:
        return float("nan")
    centred = one - one.mean(), other - other.mean()
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / size) if size > 0 else float("nan")
