"""The layer at which what restores the answer has arrived at the last token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.evidence._causal_records import CausalRecord
from layertracer.evidence._causal_roles import sampling_of
from layertracer.measures import layer_interval, note_on_onsets, resample_mean_curves

_N_RESAMPLES = 4000
_LEVEL = 0.95
_LEAST_FOUND = 0.95
"""Share of the resamples that must have a layer for an interval to be one of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The first layer from which on the last token alone restores half of the mean total effect.

    Attributes:
        layer: The layer; None where it never does, and stays so.
        interval: Its interval over prompts; None where there is no layer, or prompts are too few.
        n_prompts: Prompts that this is of.
    """

    layer: int | None
    interval: Interval | None
    n_prompts: int


def find_arrival(record: CausalRecord) -> Arrival | None:
    """Where the answer's information has arrived at the last token; None at sites where effects do not add up.

    The residual stream holds all that was added to it, so that what is restored at the last token grows with the layer
    until all of it is. What a mixer or an MLP adds is one layer's share: there is no such layer.

    Args:
        record: The causal trace.
    """
    effect = record.indirect_effect
    used = np.flatnonzero(np.isfinite(effect).any(axis=(1, 2)))
    if record.site != "block_output" or not used.size:
        return None
    last = np.stack([effect[index][:, int(record.lengths[index]) - 1] for index in used]).astype(np.float64)
    values = np.column_stack([last, record.total_effect[used]])
    if not np.isfinite(values).all():
        return None
    layer = _first(values.mean(axis=0))
    sampling = sampling_of(units_of(record), used)
    found = layer is not None and note_on_onsets(len(used), sampling) is None
    interval = None
    if found and layer is not None:
        means = resample_mean_curves(values, n_resamples=_N_RESAMPLES, seed=record.seed, sampling=sampling)
        layers = [_first(mean) for mean in means]
        known = np.array([one for one in layers if one is not None])
        if len(known) >= _LEAST_FOUND * len(layers):
            interval = layer_interval(known, _LEVEL, around=layer, n_layers=record.n_layers)
    return Arrival(layer=layer, interval=interval, n_prompts=len(used))


def units_of(record: CausalRecord) -> tuple[int, ...] | None:
    """What of the prompts would be taken anew together, as it was when they were traced; None for every prompt."""
    units = record.spec.get("units")
    if not isinstance(units, list | tuple) or len(units) != len(record.lengths):
        return None
    return tuple(int(unit) for unit in units) if all(isinstance(unit, int) for unit in units) else None


def _first(curve: Float[np.ndarray, " number"]) -> int | None:
    """The first layer from which on a curve is at least half of its last number, the total effect."""
    *effects, total = curve.tolist()
    if total == 0:
        return None
    below = [layer for layer, effect in enumerate(effects) if effect / total < 0.5]
    first = below[-1] + 1 if below else 0
    return first if first < len(effects) else None
