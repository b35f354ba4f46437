"""Whether two curves over the layers agree: their correlation, its interval over prompts, its p over circular shifts.

Neighbouring layers are alike, so that layers are no independent observations: a p-value of textbooks would find
agreement between any two smooth curves. Decision 0021 has what was tried, with its error rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.measures._agreement.correlation import (
    FEWEST,
    ROUNDING,
    Correlation,
    Method,
    centre,
    check_method,
    correlate,
    correlate_lists,
    score,
)
from layertracer.measures._bootstrap import MIN_UNITS, SURE_UNITS, percentile_interval
from layertracer.measures._resampling import Sampling, check_resampling, count_units, resample_mean_curves

_FEWEST_SHIFTED = 4
"""Layers below which shifts say nothing."""

_OTHER_STREAM = 0x9E3779B9
"""Added to the seed where the second of two unpaired arrays is resampled."""

_SLOWEST, _FASTER, _MOST_DECAYS, _LAYERS_OF_DECAY = 3.0, 3.2, 3, 10
"""Decays that curves are freed of: the slowest falls to 1/e within a third of the layers, each other one 3.2 times as
fast."""

_FLAT = 1e-9
"""What is left of a curve that is a line, as a share of its range, is rounding."""


class _Pair(NamedTuple):
    """Two arrays [prompt, layer] without gaps, and what was left out of them."""

    one: Float[np.ndarray, "prompt layer"]
    other: Float[np.ndarray, "prompt_of_other layer"]
    units: tuple[int, ...] | None
    is_paired: bool
    notes: tuple[str, ...]

    @property
    def means(self) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
        """The mean curves."""
        return self.one.mean(axis=0), self.other.mean(axis=0)


def correlate_layers(  # noqa: PLR0913 - settings by name
    one: Float[np.ndarray, "prompt layer"],
    other: Float[np.ndarray, "prompt_of_other layer"],
    *,
    method: Method = "spearman",
    units: Sequence[int] | None = None,
    is_paired: bool = True,
    seed: int = 0,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> Correlation:
    """Correlation over the layers of two mean curves.

    A layer that one of the two does not have (NaN for every prompt) is left out of both; then a prompt with a NaN is.
    Both are counted in the note.

    p is the share of the circular shifts of one curve against the other whose correlation is as far from 0 or farther,
    the curves as they are among them: with n layers it is at least 1/n. Curves that merely rise or fall, that are
    random walks, or of which the first and the last layer are special, as in most models, would agree too often by
    that. So the same is asked of the curves less the lines fitted to them, less the lines through their ends, with
    their ends as the layers beside them, and less the decays from either end that fit them best; the largest of all is
    p. What two curves have in common beyond rising, falling, or fading with depth, and beyond special ends, is what p
    is small for.

    The interval is over prompts: they, or the units that they belong to, are weighed anew, for both curves alike.
    Noise in mean curves makes correlations smaller, and a resample doubles that noise; the interval is the hull of the
    percentile interval and of the same with the noise taken off all of it, and holds the value. Below five units there
    is none.

    Laws: symmetric but for rounding; permuting the prompts of both alike changes value and p by rounding only; equal
    seeds give equal results; a rising line through the values of one changes nothing; the value of an array with itself
    is 1.

    Args:
        one: Numbers [prompt, layer].
        other: Likewise; of the same prompts in the same order, or else `is_paired=False`.
        method: "spearman" for ranks, "pearson" for values.
        units: Cluster of every prompt, such as its set of demonstrations; None where each is by itself.
        is_paired: Whether the two are of the same prompts. If not, they are resampled independently.
        seed: Seed of the resamples.
        n_resamples: Their number.
        level: Coverage of the interval.

    Returns:
        The correlation; `n_units` is the number of layers.

    Raises:
        UsageError: If the arrays do not fit together, a value is infinite, or a number is out of range.

    Example:
        >>> curve = np.array([[0.1, 0.3, 0.2, 0.5, 0.4]])
        >>> found = correlate_layers(curve, 2 * curve)
        >>> round(found.value, 6), found.p, found.interval
        (1.0, 0.2, None)

    Source:
        Harris (2020), "Nonsense correlations in neuroscience", on shifts; Spearman (1904), on noise in correlations.
    """
    check_method(method)
    check_resampling(n_resamples, level)
    pair = _leave_out_missing(_check(one, "one"), _check(other, "other"), units, is_paired=is_paired)
    n_layers = pair.one.shape[1]
    notes = list(pair.notes)
    value = correlate_lists(*pair.means, method) if min(len(pair.one), len(pair.other)) else None
    if value is None:
        notes.append(_why_undefined(pair))
        return _state(n_layers, method, notes)
    p = shift_p(*pair.means, method=method) if n_layers >= _FEWEST_SHIFTED else None
    notes.append(f"over {n_layers} layers p is at least 1/{n_layers}" if p is not None else f"{n_layers} layers: no p")
    interval, said = _interval(pair, value, method, seed=seed, n_resamples=n_resamples, level=level)
    return replace(_state(n_layers, method, [*notes, *said]), value=value, interval=interval, p=p)


def _state(n_layers: int, method: Method, notes: Sequence[str]) -> Correlation:
    """The answer, with its notes as one line and no numbers yet."""
    return Correlation(
        value=None, interval=None, p=None, n_units=n_layers, units="layers", method=method, note="; ".join(notes)
    )


def _check(values: Float[np.ndarray, "prompt layer"], name: str) -> Float[np.ndarray, "prompt layer"]:
    """The array in double precision.

    Raises:
        UsageError: If it has not two axes, or an infinite value.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise UsageError(f"{name} must have the axes [prompt, layer], got shape {list(array.shape)}.")
    if np.isinf(array).any():
        raise UsageError(f"{name} holds {int(np.isinf(array).sum())} infinite values. Leave those prompts out.")
    return array


def _leave_out_missing(
    one: Float[np.ndarray, "prompt layer"],
    other: Float[np.ndarray, "prompt_of_other layer"],
    units: Sequence[int] | None,
    *,
    is_paired: bool,
) -> _Pair:
    """Both without the layers that one of them lacks, and without prompts that hold NaN elsewhere.

    Raises:
        UsageError: If the two do not fit together.
    """
    if one.shape[1] != other.shape[1] or (is_paired and len(one) != len(other)):
        raise UsageError(
            f"one and other must be of the same {'prompts and ' if is_paired else ''}layers, got shapes "
            f"{list(one.shape)} and {list(other.shape)}. Arrays of other prompts take is_paired=False."
        )
    if units is not None and (len(units) != len(one) or not is_paired):
        raise UsageError(f"units needs one cluster for each of {len(one)} prompts, of paired arrays; got {len(units)}.")
    missing = _absent(one) | _absent(other)
    one, other = one[:, ~missing], other[:, ~missing]
    whole, whole_other = ~np.isnan(one).any(axis=1), ~np.isnan(other).any(axis=1)
    if is_paired:
        whole = whole_other = whole & whole_other
    n_left_out = int((~whole).sum()) + (0 if is_paired else int((~whole_other).sum()))
    notes = [f"{int(missing.sum())} layers that one of the two lacks left out"] if missing.any() else []
    notes += [f"{n_left_out} prompts with missing values left out"] if n_left_out else []
    kept = None if units is None else tuple(int(unit) for unit, keep in zip(units, whole, strict=True) if keep)
    return _Pair(one[whole], other[whole_other], kept, is_paired, tuple(notes))


def _absent(values: Float[np.ndarray, "prompt layer"]) -> Bool[np.ndarray, " layer"]:
    """Layers without a value for any prompt."""
    return np.asarray(np.isnan(values).all(axis=0) & (len(values) > 0))


def _why_undefined(pair: _Pair) -> str:
    """Why there is no correlation."""
    if not min(len(pair.one), len(pair.other)):
        return "no prompt has all values"
    n_layers = pair.one.shape[1]
    return f"{n_layers} layers in both: below {FEWEST} no correlation" if n_layers < FEWEST else "one curve is constant"


def shift_p(
    one: Float[np.ndarray, " layer"], other: Float[np.ndarray, " layer"], *, method: Method = "spearman"
) -> float:
    """Two-sided p of the correlation of two curves, over circular shifts; see `correlate_layers`.

    Laws: a multiple of 1/n for n layers, at least 1/n and at most 1; symmetric; of random walks with drift, it is at
    most a at most as often as a says: a random walk less the line through its ends may begin anywhere on its circle.

    Args:
        one: A curve.
        other: The other one, over the same layers.
        method: "spearman" or "pearson".
    """
    return max(_share_as_far(less(one), less(other), method) for less in _LESS)


def _share_as_far(one: Float[np.ndarray, " layer"], other: Float[np.ndarray, " layer"], method: Method) -> float:
    """Share of the shifts whose correlation is as far from 0; 1 where nothing is left of a curve."""
    places = np.arange(len(one))
    shifted = other[(places + places[:, None]) % len(one)]
    correlations = np.abs(correlate(np.broadcast_to(one, shifted.shape), shifted, method))
    if np.isnan(correlations[0]):
        return 1.0
    return float((correlations >= correlations[0] - ROUNDING).mean())


def _less_fitted_line(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """The curve less the line of least squares."""
    depth = centre(np.arange(len(curve), dtype=np.float64))
    return _flatten(curve - (curve @ depth) / (depth @ depth) * depth, curve)


def _less_end_line(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """The curve less the line through its ends."""
    return _flatten(curve - np.linspace(curve[0], curve[-1], len(curve)), curve)


def _with_plain_ends(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """The curve with its first and last layer as their neighbours are."""
    return np.concatenate([curve[1:2], curve[1:-1], curve[-2:-1]])


def _less_line_within(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """The same, less the line of least squares."""
    return _less_fitted_line(_with_plain_ends(curve))


def _less_decays(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """The curve less the line and the exponential decays from either end that fit it best.

    Up to three rates for each end, one for every ten layers: what is left has dimensions enough to agree in.
    """
    n = len(curve)
    depth = np.arange(n, dtype=np.float64)
    rates = [n / (_SLOWEST * _FASTER**number) for number in range(min(_MOST_DECAYS, n // _LAYERS_OF_DECAY))]
    decays = [np.exp(-end / rate) for rate in rates for end in (depth, depth[::-1])]
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), depth, *decays]))
    return _flatten(curve - basis @ (basis.T @ curve), curve)


def _flatten(left: Float[np.ndarray, " layer"], curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """What is left of a curve; zeros where that is rounding."""
    is_line = float(np.ptp(left)) <= _FLAT * max(float(np.ptp(curve)), float(np.abs(curve).max()) * 1e-3)
    return np.zeros_like(left) if is_line else left


def _interval(
    pair: _Pair, value: float, method: Method, *, seed: int, n_resamples: int, level: float
) -> tuple[Interval | None, list[str]]:
    """The interval over prompts, and what must be said of it."""
    sampling, other_seed = Sampling(units=pair.units), seed if pair.is_paired else seed + _OTHER_STREAM
    n_units = min(count_units(sampling, len(pair.one)), len(pair.other))
    what = "prompts" if pair.units is None else "clusters of prompts"
    if n_units < MIN_UNITS:
        return None, [f"{n_units} {what}: no interval below {MIN_UNITS}"]
    one, other = (
        score(resample_mean_curves(values, n_resamples=n_resamples, seed=own, sampling=sampling), method)
        for values, own in ((pair.one, seed), (pair.other, other_seed))
    )
    ends = [percentile_interval(found, level) for found in _resampled_correlations(one, other)]
    low, high = min(value, *(end.low for end in ends)), max(value, *(end.high for end in ends))
    is_unsure = n_units < SURE_UNITS
    said = [f"{n_units} {what}: below {SURE_UNITS} an interval may hold less often than it says"] if is_unsure else []
    return Interval(low=low, high=high, level=float(level)), said


def _resampled_correlations(
    one: Float[np.ndarray, "resample layer"], other: Float[np.ndarray, "resample layer"]
) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
    """The correlation in every resample: as it is, and with the noise of the mean curves taken off.

    A mean curve is the truth with noise, and a resample of it has that noise twice. How much it is, the resamples show:
    twice its variance over the layers, and twice the covariance of the two, are taken off. Where nothing is left of a
    variance, the correlation is -1 or 1, by its sign as it is: how large it is cannot be told.
    """
    one, other = centre(one), centre(other)
    noise, other_noise = one - one.mean(axis=0), other - other.mean(axis=0)
    products = [(one * other).mean(axis=1), (one**2).mean(axis=1), (other**2).mean(axis=1)]
    noises = [float((noise * other_noise).mean()), float((noise**2).mean()), float((other_noise**2).mean())]
    left = [product - 2.0 * off for product, off in zip(products, noises, strict=True)]
    return _ratio(*products, sign=products[0]), _ratio(*left, sign=products[0])


def _ratio(
    product: Float[np.ndarray, " resample"],
    square: Float[np.ndarray, " resample"],
    other: Float[np.ndarray, " resample"],
    *,
    sign: Float[np.ndarray, " resample"],
) -> Float[np.ndarray, " resample"]:
    """Correlations out of covariances and variances; a sign alone where a variance is not positive."""
    is_known = (square > 0.0) & (other > 0.0)
    norm = np.sqrt(np.where(is_known, square * other, 1.0))
    return np.asarray(np.clip(np.where(is_known, product / norm, np.sign(sign)), -1.0, 1.0))


_LESS = (np.asarray, _less_fitted_line, _less_end_line, _with_plain_ends, _less_line_within, _less_decays)
"""What curves are looked at less of; p is the largest of all."""
