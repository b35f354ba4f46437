"""What the draws of a perturbation are a sample of, read from its specification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from layertracer._types.perturbations import Draws

_SURE_DRAWS = 10
"""Random masks of which a dimension is mostly in one, at the usual fraction: 0.8 to the tenth are 11 %."""


def name_draws(spec: Mapping[str, Any]) -> Draws:
    """How the draws of a perturbation came about, and so what another run might have had.

    "given" where there is nothing random about them: a layer is skipped, masks are given, every dimension is masked, a
    perturbation of another kind has no seed.
    "parts" where they are whole partitions, so that together they mask every dimension equally often. "sampled"
    otherwise.

    Example:
        >>> from layertracer._types import Mask, Noise, Skip
        >>> [name_draws(one.to_dict()) for one in (Mask(), Mask(draws=3), Noise(), Skip())]
        ['parts', 'sampled', 'sampled', 'given']
    """
    if spec.get("kind") == "skip" or spec.get("scheme") == "explicit":
        return "given"
    if spec.get("kind") != "mask":
        return "sampled" if "seed" in spec else "given"
    n_parts = round(1 / spec.get("fraction", 1.0))
    if n_parts == 1 and spec.get("fill") != "resample":
        return "given"
    is_whole = n_parts > 1 and spec.get("draws", 1) % n_parts == 0
    return "parts" if spec.get("scheme") == "partition" and is_whole else "sampled"


def count_sure_draws(spec: Mapping[str, Any]) -> int:
    """Draws below which it is left to chance whether a dimension is perturbed at all; 1 where all always are.

    One dimension often decides, and then the draws that miss it all look alike. A partition has every dimension in one
    of its parts. Masks that each pick their own should be ten at least, and as many as have each dimension twice on
    average.

    Example:
        >>> from layertracer._types import Mask, Noise, Skip
        >>> [count_sure_draws(one.to_dict()) for one in (Mask(), Mask(scheme="random"), Noise(), Skip())]
        [5, 10, 1, 1]
        >>> count_sure_draws(Mask(scheme="random", fraction=0.05).to_dict())
        40
    """
    fraction = float(spec.get("fraction", 1.0))
    if spec.get("kind") != "mask" or spec.get("scheme") == "explicit" or round(1 / fraction) == 1:
        return 1
    return round(1 / fraction) if spec.get("scheme") == "partition" else max(_SURE_DRAWS, math.ceil(2 / fraction))
