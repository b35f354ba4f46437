"""Where the spread of numbers comes from, and how many prompts it takes to be sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layertracer._errors import UsageError
from layertracer.evidence import PromptsNeeded, VarianceShares
from layertracer.measures import Rise, TargetCurves, prompts_needed, variance_shares
from layertracer.validation._findings.agreements import js_name
from layertracer.validation._stages.keeping import Found
from layertracer.validation._stages.readings import LOGIT

_PARTICLE = f"particle ({LOGIT}, rise)"


def shares_of_variance(found: Found) -> tuple[VarianceShares, ...]:
    """Shares of the variance of the particle, and of JS at the layer of its largest mean."""
    return tuple(_shares(found))


def _shares(found: Found) -> Iterator[VarianceShares]:
    js = found.arrays["js_bits"].astype(np.float64)
    means = np.nanmean(js.reshape(-1, js.shape[-1]), axis=0)
    layer = int(np.nanargmax(means))
    numbers = {_PARTICLE: found.arrays["particle"], f"{js_name(found.facts['site'])}, layer {layer}": js[..., layer]}
    for name, values in numbers.items():
        try:
            shares = variance_shares(values)
        except UsageError as error:
            yield VarianceShares(of=name, shares={}, levels={}, note=str(error))
        else:
            levels = {source: n for source, n in shares.levels.items() if source in shares.shares}
            yield VarianceShares(of=name, shares=shares.shares, levels=levels, note=shares.note)


def prompts_for_a_layer(curves: TargetCurves, *, units: Sequence[int] | None, seed: int) -> tuple[PromptsNeeded, ...]:
    """How many prompts an interval of ±1 layer around Rise's particle takes."""
    found = prompts_needed(curves, Rise(), units=None if units is None else tuple(units), seed=seed)
    return (PromptsNeeded(of=_PARTICLE, n_prompts=found.n_prompts, measured=found.measured, note=found.note),)


def crossed_layers(found: Found) -> tuple[int | None, ...]:
    """The particle of the mean curve behind each set of demonstrations in each template."""
    return tuple(None if np.isnan(layer) else int(layer) for layer in found.arrays["mean_particle"].ravel())
