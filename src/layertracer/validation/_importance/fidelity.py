"""How faithful first-order estimates are to the true effects of removals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from layertracer._types import LayerMeasure
from layertracer.measures import correlate

_TRUE = {"mixer": "zero_mixer_loss_nats", "mlp": "zero_mlp_loss_nats", "block": "skip_loss_nats"}
_METHODS: tuple[Literal["spearman", "pearson"], ...] = ("spearman", "pearson")
_FEWEST = 3
"""Cells: two points always lie on a line."""


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
        for method in _METHODS:
            value = float(correlate(one, other, method)) if len(one) >= _FEWEST else np.nan
            if np.isfinite(value):
                found[f"gradient_{name}_{method}"] = value
    return found
