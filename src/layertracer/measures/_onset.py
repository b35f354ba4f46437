"""Onset criteria that look for a rise of the probability: what a criterion is, and the default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from layertracer._errors import UsageError
from layertracer.measures._curves import TargetCurves, prepend_embedding
from layertracer.measures._first_layer import ROUNDING, first_true


@runtime_checkable
class OnsetCriterion(Protocol):
    """Anything that says from which layer on the target is being computed.

    Laws of every criterion here: the layer of one curve does not depend on what it is stacked with; a curve
    with NaN where the criterion looks has no onset.
    """

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Name (under "kind") and parameters as JSON values."""


def checked_number(criterion: str, name: str, value: object, *, low: float, high: float, allow_low: bool) -> float:
    """`value` as a float within [low, high], or (low, high] where `allow_low` is False.

    Raises:
        UsageError: If it is anything else.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]  # narrowed by is_number
    if low <= number <= high and (allow_low or number > low):
        return number
    bracket = "[" if allow_low else "("
    raise UsageError(
        f"{criterion} needs {name} to be a number in {bracket}{low:g}, {high:g}], got {value!r}. "
        f"Its default is a good start: {criterion}()."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """The first significant rise of the probability: the default.

    The first `i` with dP[i] ≥ delta, or with P[i] > mean + sigmas · std of P[-1..i-1] and dP[i] ≥ floor, where
    P[-1] is read from the embeddings and std is that of the population. The second rule needs at least two
    earlier values, so it starts at layer 1: the standard deviation of one value is 0, and anything exceeds it.
    Comparisons allow for 1e-9 of rounding, so that a rise of exactly `delta` counts.

    Laws: with `sigmas=math.inf` (the second rule is off) a larger `delta` never gives an earlier layer;
    a step larger than `delta` in a flat curve is found where it is.

    Attributes:
        delta: Rise of the probability that is always significant, in (0, 1].
        sigmas: Standard deviations above the mean of the layers before; infinite to switch the rule off.
        floor: Least rise for the rule of `sigmas`, in [0, 1].

    Raises:
        UsageError: If a parameter is out of range.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.01, 0.01, 0.4, 0.9]]),
        ...     embedding_log_prob=np.log([0.01]),
        ...     top1_share=np.zeros((1, 4)),
        ... )
        >>> Rise(delta=0.05).find(curves).tolist()
        [2]

    Source:
        arXiv 2604.20556. The floor is LayerTracer's: without it the rule of `sigmas` fires on noise of 1e-9.
    """

    delta: float = 0.05
    sigmas: float = 2.0
    floor: float = 0.01
    kind: ClassVar[str] = "rise"

    def __post_init__(self) -> None:
        """Refuse parameters that are out of range."""
        delta = checked_number("Rise", "delta", self.delta, low=0.0, high=1.0, allow_low=False)
        sigmas = checked_number("Rise", "sigmas", self.sigmas, low=0.0, high=math.inf, allow_low=True)
        floor = checked_number("Rise", "floor", self.floor, low=0.0, high=1.0, allow_low=True)
        object.__setattr__(self, "delta", delta)
        object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "floor", floor)

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where there is none."""
        path = prepend_embedding(curves.embedding_prob, curves.prob)
        step = np.diff(path, axis=-1)
        rises = step >= self.delta - ROUNDING
        if math.isfinite(self.sigmas):
            rises |= self._exceed_noise(path) & (step >= self.floor - ROUNDING)
        return first_true(rises & ~np.isnan(path).any(axis=-1, keepdims=True))

    def _exceed_noise(self, path: Float[np.ndarray, "*batch layer_and_one"]) -> Bool[np.ndarray, "*batch layer"]:
        """Whether P[i] exceeds mean + sigmas · std of all values before it; never where there is one only."""
        by_layer = np.ascontiguousarray(np.moveaxis(path, -1, 0))
        exceeds = np.zeros((len(by_layer) - 1, *by_layer.shape[1:]), dtype=bool)
        # Welford's running moments: sums of squares would leave a std of 1e-8 on a constant curve.
        mean = by_layer[0].copy()
        squares = np.zeros_like(mean)
        for n_before in range(2, len(by_layer)):
            latest = by_layer[n_before - 1]
            deviation = latest - mean
            mean = mean + deviation / n_before
            squares = squares + deviation * (latest - mean)
            threshold = mean + self.sigmas * np.sqrt(squares / n_before)
            exceeds[n_before - 1] = by_layer[n_before] - threshold > ROUNDING
        return np.moveaxis(exceeds, 0, -1)

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters as JSON values; infinite `sigmas` is None, since JSON has no infinity."""
        sigmas = self.sigmas if math.isfinite(self.sigmas) else None
        return {"kind": self.kind, "delta": self.delta, "sigmas": sigmas, "floor": self.floor}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTop1:
    """The first layer from which the target is the top token and stays so.

    For a mean curve, "the top token" means: for at least half of the prompts.

    Laws: the target is on top in every layer from the one found on, and not in the layer before it.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.2, 0.1, 0.4]]),
        ...     embedding_log_prob=np.log([0.1]),
        ...     top1_share=np.array([[1.0, 0.0, 1.0]]),
        ... )
        >>> FirstTop1().find(curves).tolist()
        [2]
    """

    kind: ClassVar[str] = "first_top1"

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where the target is not on top after the last layer."""
        share = curves.top1_share
        on_top = (share >= 0.5 - ROUNDING) & ~np.isnan(share).any(axis=-1, keepdims=True)
        stays = np.logical_and.accumulate(on_top[..., ::-1], axis=-1)[..., ::-1]
        return first_true(stays)

    def to_dict(self) -> dict[str, Any]:
        """Name as JSON values; there are no parameters."""
        return {"kind": self.kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfMax:
    """The first layer with at least half of the largest probability: P[i] ≥ max(P) / 2.

    Compared in log-probability, within 1e-9. Every curve that is not zero throughout has such a layer, however
    small its largest value: look at the curve too.

    Laws: never later than the layer of the largest probability; the same after scaling all probabilities.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.1, 0.5, 0.9]]), embedding_log_prob=np.log([0.1]), top1_share=np.zeros((1, 3))
        ... )
        >>> HalfMax().find(curves).tolist()
        [1]
    """

    kind: ClassVar[str] = "half_max"

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where the probability is zero throughout."""
        peak = curves.log_prob.max(axis=-1, keepdims=True)
        at_least_half = curves.log_prob >= peak - math.log(2.0) - ROUNDING
        return first_true(at_least_half & np.isfinite(peak))

    def to_dict(self) -> dict[str, Any]:
        """Name as JSON values; there are no parameters."""
        return {"kind": self.kind}
