"""How far the task particle moves with the threshold of `Rise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertracer._errors import UsageError
from layertracer.measures._curves import TargetCurves, check_prompts
from layertracer.measures._onset import Rise
from layertracer.measures._selection import NONE_FOUND

DEFAULT_DELTAS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The task particle as a function of the threshold `delta`.

    Attributes:
        deltas: Thresholds, in the order given.
        layers: Layer of the mean curve for every threshold; None where there is none.
        share_found: Share of the prompts in which a layer is found, for every threshold.
        spread: Highest minus lowest layer among the thresholds that find one; None where none does.
    """

    deltas: tuple[float, ...]
    layers: tuple[int | None, ...]
    share_found: tuple[float, ...]
    spread: int | None


def sweep_delta(
    curves: TargetCurves, deltas: Sequence[float] = DEFAULT_DELTAS, *, criterion: Rise | None = None
) -> Sensitivity:
    """The task particle for a series of thresholds.

    The rule of `sigmas` stays as it is in `criterion`, and may find the layer before `delta` has a say; to see
    the threshold alone, give `Rise(sigmas=math.inf)`.

    Laws: with the rule of `sigmas` off, layers never fall and shares never grow with `delta`.

    Args:
        curves: Curves of shape [prompt, layer].
        deltas: Rises of the probability, each in (0, 1].
        criterion: Where the other parameters come from; `Rise()` where left out.

    Returns:
        The layer of the mean curve and the share of prompts with a layer, for every threshold.

    Raises:
        UsageError: If there is no threshold or one out of range, the curves have not the axes [prompt, layer],
            or there is no prompt.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.01, 0.045, 0.6]]), embedding_log_prob=np.log([0.01]), top1_share=np.zeros((1, 3))
        ... )
        >>> sweep_delta(curves, (0.03, 0.08), criterion=Rise(sigmas=np.inf)).layers
        (1, 2)
    """
    check_prompts(curves, "sweep_delta")
    if len(deltas) == 0:
        raise UsageError("sweep_delta needs at least one threshold, got none. Leave deltas out for 0.03 to 0.08.")
    criteria = [replace(criterion or Rise(), delta=delta) for delta in deltas]
    mean = curves.mean()
    layers = [int(rise.find(mean)) for rise in criteria]
    found = [layer for layer in layers if layer != NONE_FOUND]
    return Sensitivity(
        deltas=tuple(rise.delta for rise in criteria),
        layers=tuple(None if layer == NONE_FOUND else layer for layer in layers),
        share_found=tuple(float(np.mean(rise.find(curves) != NONE_FOUND)) for rise in criteria),
        spread=max(found) - min(found) if found else None,
    )
