"""Pearson's and Spearman's correlation, and what is said of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer._types import Interval

Method = Literal["spearman", "pearson"]
"""Of the ranks, or of the values."""

ROUNDING = 1e-9
"""By how much correlations that are equal may differ."""

_CONSTANT = 1e-12
"""A spread below this share of the largest value is rounding: the values are constant."""

FEWEST = 3
"""Pairs below which a correlation says nothing: two points always lie on a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """A correlation, how sure it is, and what it is over.

    Attributes:
        value: The correlation, in [-1, 1]; None where it is not defined (one of the two is constant, or there are fewer
            than three pairs).
        interval: Its interval; None where it cannot be told. `note` says why.
        p: Two-sided p-value; None where it cannot be told.
        n_units: How many layers, or prompts, it is over.
        units: What these are.
        method: Of the ranks ("spearman") or of the values ("pearson").
        note: What must be said of it: what was left out, the least p that was possible; "" where nothing must.
    """

    value: float | None
    interval: Interval | None
    p: float | None
    n_units: int
    units: Literal["layers", "prompts"]
    method: Method
    note: str = ""


def check_method(method: str) -> None:
    """Refuse a correlation that is not known.

    Raises:
        UsageError: If it is not known.
    """
    if method not in get_args(Method):
        raise UsageError(f"method must be 'spearman' or 'pearson', got {method!r}.")


def score(values: Float[np.ndarray, "*batch item"], method: Method) -> Float[np.ndarray, "*batch item"]:
    """What is correlated: the values, or their ranks."""
    return average_ranks(values) if method == "spearman" else values


def average_ranks(values: Float[np.ndarray, "*batch item"]) -> Float[np.ndarray, "*batch item"]:
    """Ranks from 1, of the smallest; equal values share their mean rank.

    Laws: the ranks of n values add up to n(n + 1)/2; a rising function of the values has the same ranks.

    Example:
        >>> average_ranks(np.array([0.5, 0.1, 0.5])).tolist()
        [2.5, 1.0, 2.5]
    """
    n_items = values.shape[-1]
    order = np.argsort(values, axis=-1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=-1)
    is_first = np.ones(values.shape, dtype=bool)
    is_first[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    is_last = np.ones(values.shape, dtype=bool)
    is_last[..., :-1] = is_first[..., 1:]
    places = np.arange(n_items)
    first = np.maximum.accumulate(np.where(is_first, places, 0), axis=-1)
    last = np.minimum.accumulate(np.where(is_last, places, n_items)[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2.0 + 1.0, axis=-1)
    return ranks


def centre(values: Float[np.ndarray, "*batch item"]) -> Float[np.ndarray, "*batch item"]:
    """Values less their mean along the last axis; exactly 0 where they are constant but for rounding."""
    centred = values - values.mean(axis=-1, keepdims=True)
    largest = np.abs(values).max(axis=-1, keepdims=True)
    is_constant = np.abs(centred).max(axis=-1, keepdims=True) <= _CONSTANT * largest
    return np.asarray(np.where(is_constant, 0.0, centred))


def correlate(
    first: Float[np.ndarray, "*batch item"], second: Float[np.ndarray, "*batch item"], method: Method
) -> Float[np.ndarray, "*batch"]:
    """Correlation along the last axis; NaN where one of the two is constant.

    Laws: symmetric; in [-1, 1]; 1 of values with themselves; a straight line through the values, rising, changes
    nothing; Spearman's is Pearson's of the ranks, and any rising function changes nothing.

    Example:
        >>> round(float(correlate(np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0]), "spearman")), 6)
        1.0

    Source:
        Spearman (1904), "The proof and measurement of association between two things".
    """
    one, other = centre(score(first, method)), centre(score(second, method))
    squares = (one**2).sum(axis=-1) * (other**2).sum(axis=-1)
    norm = np.sqrt(np.where(squares > 0.0, squares, np.nan))
    return np.asarray(np.clip((one * other).sum(axis=-1) / norm, -1.0, 1.0))


def correlate_lists(one: Float[np.ndarray, " item"], other: Float[np.ndarray, " item"], method: Method) -> float | None:
    """The correlation of two lists; None where it is not defined."""
    if len(one) < FEWEST:
        return None
    value = float(correlate(one, other, method))
    return None if np.isnan(value) else value
