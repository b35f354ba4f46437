"""JS by site, and by dose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from layertracer._types import Site
from layertracer.evidence import DoseResponse, SiteEffect
from layertracer.measures import correlate_layers
from layertracer.validation._question import REFERENCE
from layertracer.validation._stages.keeping import Found


def sites_of(trace: Found) -> tuple[Site, ...]:
    """The sites of a trace, the first one first."""
    return tuple(trace.facts["sites"])


def js_of(found: Found, site: Site) -> Float64[np.ndarray, "prompt layer"]:
    """JS at a site, the mean over draws."""
    values: np.ndarray = found.arrays[f"js_bits.{site}"].astype(np.float64).mean(axis=1)
    return values


def site_effects(trace: Found, *, rows: str) -> tuple[SiteEffect, ...]:
    """What masks do at every site."""
    return tuple(
        SiteEffect(
            site=site,
            rows=rows,
            js_bits=js_of(trace, site),
            layer=said["layer"],
            is_clear=said["is_clear"],
            contenders=tuple(said["contenders"]),
        )
        for site, said in trace.facts["sites"].items()
    )


def dose_responses(found: Found, *, units: Sequence[int] | None, seed: int) -> tuple[DoseResponse, ...]:
    """The effect by how much is masked, at every site."""
    return tuple(_dose(found, site, units=units, seed=seed) for site in found.facts["fractions"])


def _dose(found: Found, site: Site, *, units: Sequence[int] | None, seed: int) -> DoseResponse:
    js = found.arrays[f"js_bits.{site}"].astype(np.float64)
    fractions = tuple(found.facts["fractions"][site])
    reference = min(fractions, key=lambda one: abs(one - REFERENCE))
    at_reference, own = js[fractions.index(reference)], None if units is None else list(units)[: js.shape[1]]
    correlations = [correlate_layers(one, at_reference, units=own, seed=seed).value for one in js]
    means = js.mean(axis=1)
    return DoseResponse(
        site=site,
        fractions=fractions,
        js_bits=means,
        layer=tuple(int(np.nanargmax(one)) for one in means),
        rank_correlation=np.array([np.nan if one is None else one for one in correlations]),
        reference=reference,
        without_dominant=found.arrays[f"without_dominant.{site}"].astype(np.float64).mean(axis=0),
        only_dominant=found.arrays[f"only_dominant.{site}"].astype(np.float64).mean(axis=0),
        n_dominant=found.facts["n_dominant"][site],
    )
