"""What verdicts rest on that the record holds in another form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval
from layertracer.measures import (
    MIN_UNITS,
    Correlation,
    Sampling,
    Sensitivity,
    TargetCurves,
    correlate_layers,
    percentile_interval,
    resample_mean_curves,
    sweep_delta,
)
from layertracer.validation._question import REFERENCE
from layertracer.validation._stages.keeping import Found

_N_RESAMPLES = 4000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with its interval.

    Attributes:
        value: The share.
        interval: Its interval over prompts; None where they are too few.
        n_prompts: How many there are.
    """

    value: float
    interval: Interval | None
    n_prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What verdicts rest on beside the record.

    Attributes:
        sensitivity: How far the particle moves with the threshold; None where nothing is known of it.
        doses: By site and fraction, the correlation of the layers with those at the reference.
        dominant: By site, the share of JS that is gone where dominant dimensions are never masked.
        crossed_layers: Layers of the particle behind each set of demonstrations in each template; None where none is.
        why_not: By stage, why it was not measured.
    """

    sensitivity: Sensitivity | None = None
    doses: Mapping[str, Mapping[float, Correlation]] = field(default_factory=dict)
    dominant: Mapping[str, Share] = field(default_factory=dict)
    crossed_layers: Sequence[int | None] = ()
    why_not: Mapping[str, str] = field(default_factory=dict)


def dose_correlations(found: Found, *, seed: int) -> dict[str, dict[float, Correlation]]:
    """By site and fraction, the correlation of the layers with those at the reference fraction."""
    correlations: dict[str, dict[float, Correlation]] = {}
    for site, fractions in found.facts["fractions"].items():
        js = found.arrays[f"js_bits.{site}"].astype(np.float64)
        at = fractions.index(min(fractions, key=lambda one: abs(one - REFERENCE)))
        correlations[site] = {
            fraction: correlate_layers(js[place], js[at], seed=seed)
            for place, fraction in enumerate(fractions)
            if place != at
        }
    return correlations


def dominant_shares(found: Found, *, seed: int) -> dict[str, Share]:
    """By site, 1 − JS without the dominant dimensions ∕ JS with all of them, both at the reference, summed over layers.

    Masks that spare the dominant dimensions mask fewer, one in a hundred: that much is theirs by number alone.
    """
    shares = {}
    for site, fractions in found.facts["fractions"].items():
        at = fractions.index(min(fractions, key=lambda one: abs(one - REFERENCE)))
        sums = [found.arrays[f"js_bits.{site}"][at], found.arrays[f"without_dominant.{site}"]]
        values = np.stack([np.nansum(one.astype(np.float64), axis=1) for one in sums], axis=1)
        if values[:, 0].sum() > 0:
            shares[site] = _share(values, seed=seed)
    return shares


def _share(values: Float64[np.ndarray, "prompt two"], *, seed: int) -> Share:
    """1 − the second sum over the first, with its interval."""
    means = values.mean(axis=0)
    interval = None
    if len(values) >= MIN_UNITS:
        resampled = resample_mean_curves(values, n_resamples=_N_RESAMPLES, seed=seed, sampling=Sampling())
        interval = percentile_interval(1.0 - resampled[:, 1] / np.maximum(resampled[:, 0], 1e-12), _LEVEL)
    value = float(1.0 - means[1] / means[0])
    if interval is not None:
        interval = Interval(low=min(interval.low, value), high=max(interval.high, value), level=_LEVEL)
    return Share(value=value, interval=interval, n_prompts=len(values))


def threshold_sensitivity(curves: TargetCurves) -> Sensitivity:
    """How far the particle of the mean curve moves with Rise's threshold."""
    return sweep_delta(curves)
