"""How faithful first-order estimates are to the true effects of removals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval, LayerMeasure
from layertracer.measures import MIN_UNITS, correlate

_TRUE = {"mixer": "zero_mixer_loss_nats", "mlp": "zero_mlp_loss_nats", "block": "skip_loss_nats"}
_METHODS: tuple[Literal["spearman", "pearson"], ...] = ("spearman", "pearson")
_FEWEST = 3
"""Cells: two points always lie on a line."""
_N_RESAMPLES, _LEVEL = 1000, 0.95


class _Pair(NamedTuple):
    """Estimates and true changes of the prompts and layers that have both, [prompt, layer]."""

    name: str
    method: Literal["spearman", "pearson"]
    estimates: Float64[np.ndarray, "prompt layer"]
    changes: Float64[np.ndarray, "prompt layer"]

    def correlation(self, rows: np.ndarray | None = None) -> float:
        """Their correlation over all cells; of some of the prompts where they are given."""
        chosen = slice(None) if rows is None else rows
        return float(correlate(self.estimates[chosen].ravel(), self.changes[chosen].ravel(), self.method))


def gradient_fidelity(importance: Mapping[str, LayerMeasure]) -> dict[str, float]:
    """Correlation of first-order estimates with what removals really change, by what is removed and by kind.

    Of the change of the target's log-probability: of mixers and MLPs against zero-ablation, of whole layers against
    skips. Over all cells of prompt and layer. "gradient_mixer_spearman" is of ranks, "gradient_mixer_pearson" linear;
    what was not measured, or is constant, has none.

    Law: 1 where estimates are the true changes.

    Args:
        importance: From `measure_importance`.
    """
    found = {pair.name: pair.correlation() for pair in _pairs(importance)}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def fidelity_intervals(importance: Mapping[str, LayerMeasure], *, seed: int = 0) -> dict[str, Interval]:
    """Intervals of `gradient_fidelity` at 95 %, over prompts, which are resampled; none below five of them.

    Args:
        importance: From `measure_importance`.
        seed: Draws the resamples.
    """
    found: dict[str, Interval] = {}
    for pair in _pairs(importance):
        n, value = len(pair.estimates), pair.correlation()
        if n < MIN_UNITS or not np.isfinite(value):
            continue
        drawn = np.random.default_rng([seed, n]).integers(n, size=(_N_RESAMPLES, n))
        values = np.array([pair.correlation(rows) for rows in drawn])
        low, high = np.nanquantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        found[pair.name] = Interval(low=min(float(low), value), high=max(float(high), value), level=_LEVEL)
    return found


def _pairs(importance: Mapping[str, LayerMeasure]) -> Iterator[_Pair]:
    """What there is to compare; layers that no prompt has, and prompts without numbers, are left out."""
    for name, true_name in _TRUE.items():
        estimate, loss = importance.get(f"gradient_{name}"), importance.get(true_name)
        if estimate is None or loss is None:
            continue
        both = np.isfinite(estimate.values) & np.isfinite(loss.values)
        layers = both.any(axis=0)
        rows = both[:, layers].all(axis=1)
        estimates, losses = (one.values[rows][:, layers].astype(np.float64) for one in (estimate, loss))
        if estimates.size >= _FEWEST:
            for method in _METHODS:
                yield _Pair(f"gradient_{name}_{method}", method, estimates, -losses)
