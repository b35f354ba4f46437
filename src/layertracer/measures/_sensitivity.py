"""How far the task particle moves with the parameter of its criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertracer._errors import UsageError
from layertracer.measures._curves import TargetCurves, check_prompts
from layertracer.measures._first_layer import NONE_FOUND
from layertracer.measures._onset import OnsetCriterion, Rise
from layertracer.measures._ratios import AbsRatio, Ratio

DEFAULT_DELTAS = (0.03, 0.04, 0.05, 0.06, 0.07, 0.08)
_FIRST_LAYERS = (0, 1, 2, 3, 4)
_EPSILONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The task particle as a function of one parameter of its criterion.

    Attributes:
        parameter: Name of the parameter, e.g. "delta"; None for a criterion that has none to vary.
        values: Its values, ascending where `sweep_onset` chose them, else in the order given.
        layers: Layer of the mean curve for every value; None where there is none.
        share_found: Share of the prompts in which a layer is found, for every value.
        spread: Highest minus lowest layer among the values that find one; None where none does.
        note: That the layer which was found is not the parameter's doing, and what the parameter alone finds; None
            where there is nothing to say.
    """

    parameter: str | None
    values: tuple[float, ...]
    layers: tuple[int | None, ...]
    share_found: tuple[float, ...]
    spread: int | None
    note: str | None = None

    @property
    def deltas(self) -> tuple[float, ...]:
        """The values, as they are called for `Rise`."""
        return self.values


def sweep_onset(curves: TargetCurves, criterion: OnsetCriterion) -> Sensitivity:
    """The task particle for a series of values around the one that was used.

    `Rise` is swept over `delta`, with its `sigmas` and `floor` as they are; where at its own delta the rule of sigmas
    alone finds the layer, `note` says so, and which layer delta alone would find. `Ratio` over `first_layer`,
    `AbsRatio` over `eps`. The other criteria have no parameter, and the sweep is empty.

    Laws: the criterion's own value is among the values, and what is found there is what the criterion finds.

    Args:
        curves: Curves of shape [prompt, layer].
        criterion: The criterion that was used.

    Raises:
        UsageError: If the curves have not the axes [prompt, layer], or there is no prompt.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.01, 0.045, 0.6]]), embedding_log_prob=np.log([0.01]), top1_share=np.zeros((1, 3))
        ... )
        >>> sweep = sweep_onset(curves, Rise(delta=0.035, sigmas=np.inf))
        >>> sweep.values, sweep.layers
        ((0.03, 0.035, 0.04, 0.05, 0.06, 0.07, 0.08), (1, 1, 2, 2, 2, 2, 2))
    """
    if isinstance(criterion, Rise):
        sweep = sweep_delta(curves, sorted({*DEFAULT_DELTAS, criterion.delta}), criterion=criterion)
        return replace(sweep, note=_note_on_sigmas(curves, criterion, is_still=len(set(sweep.layers)) == 1))
    if isinstance(criterion, Ratio):
        firsts = sorted({*(layer for layer in _FIRST_LAYERS if layer < curves.n_layers), criterion.first_layer})
        return _sweep(curves, "first_layer", {first: replace(criterion, first_layer=first) for first in firsts})
    if isinstance(criterion, AbsRatio):
        epsilons = sorted({*_EPSILONS, criterion.eps})
        return _sweep(curves, "eps", {eps: replace(criterion, eps=eps) for eps in epsilons})
    return Sensitivity(parameter=None, values=(), layers=(), share_found=(), spread=None)


def _note_on_sigmas(curves: TargetCurves, criterion: Rise, *, is_still: bool) -> str | None:
    """That the rule of sigmas, not delta, finds the layer of the mean curve; None where delta finds it too."""
    mean = curves.mean()
    found, alone = (int(one.find(mean)) for one in (criterion, replace(criterion, sigmas=math.inf)))
    if found == alone:
        return None
    by_delta = "no layer" if alone == NONE_FOUND else f"layer {alone}"
    if is_still:
        return f"found by the sigma rule: delta does not bear on it; by delta alone: {by_delta}"
    return f"at delta {criterion.delta:g} found by the sigma rule; by delta alone: {by_delta}"


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
    rises = [replace(criterion or Rise(), delta=delta) for delta in deltas]
    return _sweep(curves, "delta", {rise.delta: rise for rise in rises})


def _sweep(curves: TargetCurves, parameter: str, criteria: Mapping[float, OnsetCriterion]) -> Sensitivity:
    check_prompts(curves, "sweep_onset")
    mean = curves.mean()
    layers = [int(one.find(mean)) for one in criteria.values()]
    found = [layer for layer in layers if layer != NONE_FOUND]
    return Sensitivity(
        parameter=parameter,
        values=tuple(float(value) for value in criteria),
        layers=tuple(None if layer == NONE_FOUND else layer for layer in layers),
        share_found=tuple(float(np.mean(one.find(curves) != NONE_FOUND)) for one in criteria.values()),
        spread=max(found) - min(found) if found else None,
    )
