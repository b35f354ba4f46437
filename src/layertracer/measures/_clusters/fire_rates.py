"""How often onset criteria fire on tokens that are no answers: their false positives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.measures._clusters.student import student_quantile
from layertracer.measures._curves import TargetCurves
from layertracer.measures._first_layer import NONE_FOUND
from layertracer.measures._onset import OnsetCriterion
from layertracer.measures._shares import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class FireRate:
    """How often a criterion fires on tokens that are no answers.

    Attributes:
        rate: Share of the curves in which it fires.
        interval: Its interval; prompts are the units.
        n_fired: How often it fired.
        n_curves: Of how many curves: prompts × tokens.
        n_prompts: Of how many prompts.
    """

    rate: float
    interval: Interval
    n_fired: int
    n_curves: int
    n_prompts: int


def fire_rates(
    curves: TargetCurves, criteria: Mapping[str, OnsetCriterion], *, level: float = 0.95
) -> dict[str, FireRate]:
    """How often each criterion fires on random tokens, with intervals by clusters of one prompt's tokens.

    The tokens of a prompt are read from one run and fire together. A share's variance over prompts says how many
    independent curves the prompts × tokens are worth, from one a prompt up to all of them. Where few prompts fire that
    variance is too small more often than not, so Wilson's interval is that of the geometric mean of this number and of
    one a prompt. Where none fires, or all do, the variance says nothing, and they are taken to be worth one a prompt.

    Laws: the interval holds the rate; one token a prompt gives Wilson's interval, wider by Student's t; tokens that
    repeat one another narrow nothing.

    Args:
        curves: Curves of shape [prompt, token, layer], of tokens that are not the answer.
        criteria: By name.
        level: Coverage.

    Raises:
        UsageError: If the curves have not these axes, or there are fewer than two prompts.

    Example:
        >>> from layertracer.measures import Rise
        >>> flat = np.full((8, 3, 4), -9.0)
        >>> quiet = TargetCurves(log_prob=flat, embedding_log_prob=flat[..., 0], top1_share=np.zeros_like(flat))
        >>> found = fire_rates(quiet, {"rise": Rise()})["rise"]
        >>> found.rate, found.n_curves, found.interval.low
        (0.0, 24, 0.0)

    Source:
        Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data", for the effective number.
    """
    shape = curves.log_prob.shape
    if len(shape) != 3 or shape[0] < 2 or shape[1] < 1:
        raise UsageError(
            f"fire_rates needs curves [prompt, token, layer] of two prompts or more, got shape {list(shape)}."
        )
    return {name: _rate(criterion.find(curves) != NONE_FOUND, level) for name, criterion in criteria.items()}


def _rate(fires: Bool[np.ndarray, "prompt token"], level: float) -> FireRate:
    """The rate of what fires."""
    n_prompts, rate, n_curves = len(fires), float(fires.mean()), fires.size
    variance = float(fires.mean(axis=1).var(ddof=1)) / n_prompts
    worth = min(rate * (1.0 - rate) / variance, float(n_curves)) if variance > 0.0 else float(n_prompts)
    degrees = n_prompts - 1
    wider = NormalDist().inv_cdf((1.0 + level) / 2.0) / student_quantile((1.0 + level) / 2.0, degrees)
    n_worth = math.sqrt(max(worth, float(n_prompts)) * n_prompts) * wider**2
    held = wilson(rate * n_worth, n_worth, level)
    return FireRate(rate=rate, interval=held, n_fired=int(fires.sum()), n_curves=n_curves, n_prompts=n_prompts)
