"""How deep the causal effect of a prompt lies: numbers of each prompt, beside its task particle."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from layertracer.evidence import CausalRecord

ARRIVAL = "depth of the causal effect (arrival at the last token)"
SUBJECT = "depth of the causal effect (last layer at the subject)"
PEAK = "depth of the causal effect (largest before the last token)"

DEFINITIONS: Mapping[str, str] = {
    ARRIVAL: "the first layer from which on a patch of the last token alone restores half of the total effect",
    SUBJECT: "the last layer up to which a patch of one token of what is corrupted restores half of the total effect",
    PEAK: "the layer of the largest indirect effect among all cells before the last token",
}
"""What each depth is."""

_HALF = 0.5


def causal_depths(record: CausalRecord) -> dict[str, Float64[np.ndarray, " prompt"]]:
    """Depths of the causal effect by name, NaN where a prompt has none.

    Where it arrives and where it leaves are of the residual stream, which holds all that was added to it: what a patch
    of the last token restores grows with the layer. What a mixer or an MLP adds is one layer's share, of which there is
    the largest alone.

    Args:
        record: The causal trace.
    """
    n_prompts = len(record.lengths)
    depths = {name: np.full(n_prompts, np.nan) for name in DEFINITIONS}
    effect, total = record.indirect_effect.astype(np.float64), record.total_effect.astype(np.float64)
    for prompt in range(n_prompts):
        length, (first, end) = int(record.lengths[prompt]), record.subject_spans[prompt].tolist()
        cells = effect[prompt, :, :length]
        if not np.isfinite(cells).any() or not total[prompt]:
            continue
        if record.site == "block_output":
            depths[ARRIVAL][prompt] = _first_from(cells[:, -1] / total[prompt])
            if 0 <= first < end < length:
                depths[SUBJECT][prompt] = _last_up_to(_largest(cells[:, first:end]) / total[prompt])
        before = _largest(cells[:, :-1])
        if np.isfinite(before).any() and np.nanmax(before) > 0:
            depths[PEAK][prompt] = int(np.nanargmax(before))
    return {name: values for name, values in depths.items() if np.isfinite(values).any()}


def _largest(cells: Float64[np.ndarray, "layer position"]) -> Float64[np.ndarray, " layer"]:
    """The largest number of each layer; NaN where it has none."""
    filled = np.where(np.isnan(cells), -np.inf, cells).max(axis=1, initial=-np.inf)
    return np.where(np.isinf(filled), np.nan, filled)


def _first_from(curve: Float64[np.ndarray, " layer"]) -> float:
    """The first layer from which on the curve is at least one half; NaN where there is none."""
    if not np.isfinite(curve).all():
        return np.nan
    below = np.flatnonzero(curve < _HALF)
    first = int(below[-1]) + 1 if below.size else 0
    return float(first) if first < len(curve) else np.nan


def _last_up_to(curve: Float64[np.ndarray, " layer"]) -> float:
    """The last layer up to which the curve is at least one half; NaN where it is not from the beginning."""
    if not np.isfinite(curve).all():
        return np.nan
    below = np.flatnonzero(curve < _HALF)
    last = int(below[0]) - 1 if below.size else len(curve) - 1
    return float(last) if last >= 0 else np.nan
