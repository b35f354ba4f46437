"""Effects of masks that are made here: by how much is masked, with and without dominant dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer._types import SITES, Mask, Perturbation, Site
from layertracer.tracing import Progress, measure_site_rms, trace_model
from layertracer.validation._question import REFERENCE
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.traces import options_of

Tell = Callable[[Progress], None]

N_DRAWS = 5
"""Draws of each dose: at the reference they are the parts of one partition."""
_DOMINANT_SHARE = 0.01
"""So large a share of the dimensions, those of the largest root mean square, are called dominant."""
_N_LOOKED_AT = 4
"""Prompts on which it is seen which these are."""


def measure_doses(setting: Setting, sites: Sequence[Site], tell: Tell) -> Found:
    """JS by how much is masked, and where dominant dimensions are never masked, or alone.

    The masks of a draw grow: what a small one masks, a larger one masks too. At the reference the draws are the parts
    of the trace's own partition.

    Args:
        setting: What is measured on.
        sites: Sites of the trace.
        tell: Is told how far it is.

    Returns:
        Arrays `js_bits.SITE` [dose, prompt, layer], `without_dominant.SITE`, `only_dominant.SITE` [prompt, layer], by
        site; and facts: the fractions that masked a dimension at least, and how many dimensions were called dominant.
    """
    sites = [site for site in sites if SITES[site].has_dimensions]
    if not sites:
        return not_measured("The model has no site at which dimensions of the stream stand.")
    rms = measure_site_rms(setting.model, setting.few[:_N_LOOKED_AT], sites)
    masks: dict[str, list[Perturbation]] = {}
    fractions, n_dominant = {}, {}
    for site in sites:
        sizes = rms[site].numpy()
        fractions[site] = [one for one in setting.options.doses if round(one * sizes.shape[1]) >= 1]
        dominant = dominant_dimensions(sizes)
        n_dominant[site] = dominant.shape[1]
        masks[site] = _masks_at(site, sizes.shape, fractions[site], dominant, seed=setting.options.seed)
    every = [mask for some in masks.values() for mask in some]
    record = trace_model(setting.model, setting.few, options_of(setting, every), on_progress=tell)
    measured = iter(effect.js_bits.mean(axis=1) for effect in record.effects.values())
    arrays: dict[str, NDArray[Any]] = {}
    for site in sites:
        arrays[f"js_bits.{site}"] = np.stack([next(measured) for _ in fractions[site]])
        arrays[f"without_dominant.{site}"] = next(measured)
        arrays[f"only_dominant.{site}"] = next(measured)
    facts: Mapping[str, Any] = {"fractions": fractions, "n_dominant": n_dominant, "notes": list(record.warnings)}
    return Found(facts=facts, arrays=arrays)


def _masks_at(
    site: Site, shape: tuple[int, int], fractions: Sequence[float], dominant: NDArray[np.int64], *, seed: int
) -> list[Perturbation]:
    """Masks of each dose, one of the reference that spares dominant dimensions, and one of these alone."""
    spared = nested_masks(shape, REFERENCE, seed=seed)
    alone = np.ones((shape[0], 1, shape[1]), dtype=bool)
    for layer, some in enumerate(dominant):
        spared[layer][:, some] = True
        alone[layer][:, some] = False
    keeps = [*(nested_masks(shape, fraction, seed=seed) for fraction in fractions), spared, alone]
    return [Mask.explicit(keep, site) for keep in keeps]


def nested_masks(shape: tuple[int, int], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """Masks [layer, draw, width] of a share of the dimensions, which grow with it.

    Laws: a larger fraction masks what a smaller one does; at 1 / `N_DRAWS` every dimension is masked once.

    Example:
        >>> small, large = (nested_masks((1, 10), fraction, seed=0) for fraction in (0.2, 0.4))
        >>> bool((large <= small).all()), (~small).sum(axis=1).tolist()
        (True, [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
    """
    n_layers, width = shape
    keep = np.ones((n_layers, N_DRAWS, width), dtype=bool)
    n_masked = max(1, round(fraction * width))
    for layer in range(n_layers):
        order = np.random.default_rng([seed, layer]).permutation(width)  # as a partition's, see `Mask`
        for draw in range(N_DRAWS):
            first = draw * width // N_DRAWS
            keep[layer, draw, order[(first + np.arange(n_masked)) % width]] = False
    return keep


def dominant_dimensions(rms: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The dimensions of the largest root mean square, [layer, dimension]: one in a hundred, at least one.

    Example:
        >>> dominant_dimensions(np.array([[0.1, 5.0, 0.2], [7.0, 0.1, 0.1]])).tolist()
        [[1], [0]]
    """
    n = max(1, round(_DOMINANT_SHARE * rms.shape[1]))
    return np.argsort(-rms, axis=1, kind="stable")[:, :n]
