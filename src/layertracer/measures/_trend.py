"""Trends over model size: slope in logarithms, and an exact test of a monotone trend; repeats are not new sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer.measures._first_layer import ROUNDING


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SizeGroups:
    """Models grouped by size within their stratum (a family): the sizes are the units of a trend, not the models.

    Attributes:
        group: Group of every model, shape [model]. Groups are numbered by stratum, then by size.
        stratum: Stratum of every group, shape [group].
        log_size: Mean natural logarithm of the sizes in every group, shape [group]; ascending within a stratum.
    """

    group: Int[np.ndarray, " model"]
    stratum: Int[np.ndarray, " group"]
    log_size: Float[np.ndarray, " group"]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.stratum)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonotoneTrend:
    """Whether values rise or fall with size.

    Attributes:
        tau: Kendall's tau-b over pairs of sizes of one stratum, in [-1, 1]; positive where larger is higher. 0 where
            all values are tied.
        p_value: Exact two-sided p-value: the share of all orders of the values within their strata whose tau is at
            least as far from 0.
        least_p_value: The smallest p-value that so many sizes allow: what a perfectly monotone trend without ties
            would get.
        n_sizes: Number of sizes that are compared with another one.
        n_contrasts: Number of pairs of sizes.
    """

    tau: float
    p_value: float
    least_p_value: float
    n_sizes: int
    n_contrasts: int


def group_sizes(sizes: Sequence[int], strata: Sequence[str], *, tolerance: float = 0.1) -> SizeGroups:
    """Group models by size: within a stratum, sizes within `tolerance` of the group's smallest are one size.

    Laws: the order of the models does not matter; equal sizes of one stratum are one group.

    Args:
        sizes: Number of parameters of every model, above 0.
        strata: Family of every model; only models of one family are compared in size.
        tolerance: Relative difference up to which sizes count as one, at least 0.

    Raises:
        UsageError: If there is no model, lengths differ, or a number is out of range.

    Example:
        >>> groups = group_sizes([1000, 3000, 1010, 1000], ["attention", "attention", "attention", "mamba"])
        >>> groups.group.tolist(), groups.stratum.tolist()
        ([0, 1, 0, 2], [0, 0, 1])
    """
    if not sizes or len(sizes) != len(strata) or min(sizes) <= 0 or tolerance < 0:
        raise UsageError(
            f"group_sizes needs one size above 0 and one stratum a model, and a tolerance of at least 0, got sizes "
            f"{list(sizes)}, strata {list(strata)} and tolerance {tolerance}."
        )
    group = np.zeros(len(sizes), dtype=np.int64)
    stratum_of: list[int] = []
    members: list[list[int]] = []
    for number, name in enumerate(sorted(set(strata))):
        start = 0
        for model in sorted((i for i, one in enumerate(strata) if one == name), key=lambda i: sizes[i]):
            if not stratum_of or stratum_of[-1] != number or sizes[model] > start * (1 + tolerance):
                start = sizes[model]
                stratum_of.append(number)
                members.append([])
            group[model] = len(members) - 1
            members[-1].append(sizes[model])
    log_size = np.array([np.mean(np.log(sorted(one))) for one in members])
    return SizeGroups(group=group, stratum=np.array(stratum_of), log_size=log_size)


def pool_groups(
    values: Float[np.ndarray, "*batch model"],
    groups: SizeGroups,
    weights: Float[np.ndarray, "*batch model"] | None = None,
) -> Float[np.ndarray, "*batch group"]:
    """Mean over the models of every size; NaN values are left out, and a size without any is NaN.

    Laws: weights of 1 are no weights; a weight of 2 is the model twice.
    """
    counts = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.where(np.isnan(values), 0.0, counts)
    member = (groups.group[:, None] == np.arange(groups.n_groups)).astype(np.float64)
    total = counts @ member
    pooled = np.full(total.shape, np.nan)
    np.divide((counts * np.nan_to_num(values)) @ member, total, out=pooled, where=total > 0)
    return pooled


def scaling_slope(log_values: Float[np.ndarray, "*batch group"], groups: SizeGroups) -> Float[np.ndarray, "*batch"]:
    """Slope of log values over log size, common to all strata: least squares with one intercept a stratum.

        slope = Σ_s Σ_g∈s (x_g − x̄_s) y_g / Σ_s Σ_g∈s (x_g − x̄_s)²,    x log size, y log value

    A slope of -0.1 means that ten times as many parameters multiply the value by 10^-0.1 = 0.79. Groups that are NaN
    are left out.

    Laws: a power law y = a·size^b has slope b, whatever the intercepts of the strata; multiplying all values or all
    sizes by a constant changes nothing; a stratum with one size changes nothing.

    Returns:
        The slope per leading index; NaN where no stratum has two sizes.

    Example:
        >>> groups = group_sizes([10, 100, 1000], ["a", "a", "a"])
        >>> round(float(scaling_slope(np.log([0.4, 0.2, 0.1]), groups)), 3)
        -0.301
    """
    known = np.isfinite(log_values).astype(np.float64)
    y = np.where(known > 0, log_values, 0.0)
    numerator, denominator = np.zeros(y.shape[:-1]), np.zeros(y.shape[:-1])
    for stratum in np.unique(groups.stratum):
        inside = groups.stratum == stratum
        weight, x = known[..., inside], groups.log_size[inside]
        n = np.maximum(weight.sum(axis=-1), 1.0)
        centred = (x - ((weight * x).sum(axis=-1) / n)[..., None]) * weight
        numerator += (centred * y[..., inside]).sum(axis=-1)
        denominator += (centred**2).sum(axis=-1)
    slope = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=slope, where=denominator > ROUNDING)
    slope[np.abs(slope) <= ROUNDING] = 0.0  # what rounding leaves of equal values
    return slope


def monotone_trend(values: Float[np.ndarray, " group"], groups: SizeGroups) -> MonotoneTrend | None:
    """Kendall's tau between size and value within strata, with its exact p-value.

        S = Σ_s Σ_{g<h in s} sign(v_h − v_g),    tau-b = S / √(pairs · pairs with different values)

    Under the hypothesis that size does not matter, all orders of the values within each stratum are equally likely.
    The distribution of S over all of them is computed exactly, ties included: S is the number of untied pairs minus
    twice the inversions, the inversions of a multiset are counted by a Gaussian multinomial coefficient, and those of
    several strata by the product of theirs. No simulation, no normal approximation.

    Laws: the p-value equals that of enumerating all orders; turning the values around turns tau around and leaves the
    p-value; strictly increasing transformations change nothing; a stratum with one size changes nothing.

    Args:
        values: One value a group; groups that are NaN are left out.
        groups: The sizes.

    Returns:
        The trend; None where no stratum has two sizes with a value.

    Example:
        >>> groups = group_sizes([10, 20, 40, 80], ["a"] * 4)
        >>> trend = monotone_trend(np.array([0.4, 0.3, 0.2, 0.1]), groups)
        >>> trend.tau, round(trend.p_value, 4)
        (-1.0, 0.0833)

    Source:
        Kendall (1938), "A new measure of rank correlation"; Mann (1945), "Nonparametric tests against trend"; Hirsch,
        Slack and Smith (1982) for the sum over strata; MacMahon (1916) for the inversions of multisets.
    """
    s, n_untied, n_pairs, n_sizes = 0, 0, 0, 0
    counts, best = [1], [1]
    for stratum in np.unique(groups.stratum):
        inside = values[groups.stratum == stratum]
        ranks = _rank(inside[np.isfinite(inside)])
        if len(ranks) < 2:
            continue
        ties = tuple(Counter(ranks).values())
        ours = _inversion_counts(ties)
        counts, best = _multiply(counts, ours), _multiply(best, _inversion_counts((1,) * len(ranks)))
        s += sum((b > a) - (b < a) for i, a in enumerate(ranks) for b in ranks[i + 1 :])
        n_untied += len(ours) - 1
        n_pairs += math.comb(len(ranks), 2)
        n_sizes += len(ranks)
    if n_pairs == 0:
        return None
    extreme = sum(count for k, count in enumerate(counts) if abs(n_untied - 2 * k) >= abs(s))
    return MonotoneTrend(
        tau=s / math.sqrt(n_pairs * n_untied) if n_untied else 0.0,
        p_value=extreme / sum(counts),
        least_p_value=2 / sum(best),
        n_sizes=n_sizes,
        n_contrasts=n_pairs,
    )


def _rank(values: Float[np.ndarray, " item"]) -> list[int]:
    """Ranks in the order given; values within `ROUNDING` of one another are tied."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order]) > ROUNDING
    ranks = np.zeros(len(values), dtype=np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(steps)]) if len(values) else []
    return [int(rank) for rank in ranks]


def _inversion_counts(ties: tuple[int, ...]) -> list[int]:
    """How many orders of a multiset have 0, 1, 2, … inversions: the coefficients of a Gaussian multinomial."""
    counts, n_before = [1], 0
    for size in ties:
        for i in range(1, size + 1):
            counts = _divide(_multiply(counts, [1] * (n_before + i)), i)
        n_before += size
    return counts


def _multiply(left: list[int], right: list[int]) -> list[int]:
    product = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] += a * b
    return product


def _divide(counts: list[int], n: int) -> list[int]:
    """Divide a polynomial by 1 + q + … + q^(n-1), which goes without a remainder."""
    quotient: list[int] = []
    for degree in range(len(counts) - n + 1):
        quotient.append(counts[degree] - sum(quotient[max(0, degree - n + 1) : degree]))
    return quotient
