"""Trends over model size, against enumeration and textbook least squares."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import (
    SizeGroups,
    group_sizes,
    monotone_trend,
    pool_groups,
    scaling_slope,
)


def _families(*counts: int) -> SizeGroups:
    """Groups of so many sizes in each stratum, each size twice the last one."""
    sizes = [1000 * 2**i for count in counts for i in range(count)]
    strata = [f"family {number}" for number, count in enumerate(counts) for _ in range(count)]
    return group_sizes(sizes, strata)


def _enumerate_p(values: np.ndarray, strata: np.ndarray) -> float:
    """The p-value by looking at every order of the values in every stratum."""
    inside = [values[strata == stratum].tolist() for stratum in np.unique(strata)]

    def score(orders: tuple[tuple[float, ...], ...]) -> int:
        return sum((b > a) - (b < a) for order in orders for a, b in itertools.combinations(order, 2))

    observed = abs(score(tuple(map(tuple, inside))))
    scores = [abs(score(orders)) for orders in itertools.product(*(itertools.permutations(one) for one in inside))]
    return sum(one >= observed for one in scores) / len(scores)


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda counts: max(counts) > 1),
    data=st.data(),
)
def test_p_value_is_that_of_all_orders(counts: list[int], data: st.DataObject) -> None:
    """The exact p-value, with ties and several strata, equals that of enumerating every order."""
    groups = _families(*counts)
    values = np.array(data.draw(st.lists(st.integers(0, 3), min_size=sum(counts), max_size=sum(counts))), dtype=float)
    trend = monotone_trend(values, groups)
    assert trend is not None
    assert trend.p_value == pytest.approx(_enumerate_p(values, groups.stratum), abs=1e-12)
    assert trend.n_contrasts == sum(math.comb(count, 2) for count in Counter(groups.stratum.tolist()).values())


@given(values=st.lists(st.integers(0, 6), min_size=2, max_size=9))
def test_turned_around_values_turn_tau_around(values: list[int]) -> None:
    """Minus the values has minus the tau and the same p-value; an increasing transformation changes neither."""
    groups, array = _families(len(values)), np.array(values, dtype=float)
    here, turned, curved = (monotone_trend(one, groups) for one in (array, -array, np.exp(array)))
    assert here is not None
    assert turned is not None
    assert (turned.tau, turned.p_value) == (-here.tau, here.p_value)
    assert curved == here


@pytest.mark.parametrize(
    ("n_sizes", "least"), [(2, 1.0), (3, 1 / 3), (4, 1 / 12), (5, 1 / 60), (20, 2 / math.factorial(20))]
)
def test_a_perfect_trend_has_the_least_p_value(n_sizes: int, least: float) -> None:
    """A strictly falling series of n sizes has p = 2 / n!, which is what it says is the least there is."""
    trend = monotone_trend(-np.arange(n_sizes, dtype=float), _families(n_sizes))
    assert trend is not None
    assert trend.tau == -1.0
    assert trend.p_value == trend.least_p_value == pytest.approx(least)


def test_repeats_of_a_size_are_not_new_sizes() -> None:
    """Nine models of three sizes leave three sizes: the p-value is that of three, however clear the trend."""
    groups = group_sizes([10, 100, 1000] * 3, ["a"] * 9)
    values = np.array([0.3, 0.2, 0.1] * 3) + np.repeat([0.0, 0.01, 0.02], 3)
    trend = monotone_trend(pool_groups(values, groups), groups)
    assert trend is not None
    assert (trend.n_sizes, trend.p_value) == (3, pytest.approx(1 / 3))


def test_nothing_to_compare_is_none() -> None:
    """Where no family has two sizes, or values are missing, there is no trend and no slope."""
    groups = group_sizes([10, 10, 20], ["a", "b", "c"])
    assert monotone_trend(np.array([0.1, 0.2, 0.3]), groups) is None
    assert np.isnan(scaling_slope(np.array([0.1, 0.2, 0.3]), groups))
    two = _families(2)
    assert monotone_trend(np.array([0.1, np.nan]), two) is None


def test_equal_values_are_no_trend() -> None:
    """Values that are all tied have tau 0 and p 1."""
    trend = monotone_trend(np.full(4, 0.25), _families(4))
    assert trend is not None
    assert (trend.tau, trend.p_value) == (0.0, 1.0)


def test_null_data_are_rejected_at_the_rate_of_the_p_value() -> None:
    """Without a trend, p falls to each value that it can take as often as that value says, over 3,000 data sets."""
    generator, groups = np.random.default_rng(1), _families(5, 4)
    found = [monotone_trend(generator.normal(size=9), groups) for _ in range(3000)]
    p_values = np.array([one.p_value for one in found if one is not None])
    assert len(p_values) == 3000
    for level in np.unique(p_values):
        assert np.mean(p_values <= level + 1e-12) == pytest.approx(level, abs=0.03)
    assert 0.02 < np.mean(p_values <= 0.05) < 0.06


def test_a_planted_trend_is_found() -> None:
    """A fall of 1.5 standard deviations a size, in families of five and four sizes, is found in most data sets."""
    generator, groups = np.random.default_rng(2), _families(5, 4)
    planted = -1.5 * np.concatenate([np.arange(5.0), np.arange(4.0)])
    found = [monotone_trend(planted + generator.normal(size=9), groups) for _ in range(300)]
    assert np.mean([one is not None and one.p_value <= 0.05 and one.tau < 0 for one in found]) > 0.8


@given(slope=st.floats(-2, 2), offsets=st.lists(st.floats(-3, 3), min_size=1, max_size=3))
def test_slope_of_a_power_law(slope: float, offsets: list[float]) -> None:
    """Values a·size^b have slope b, whatever a is in each family."""
    groups = _families(*([3] * len(offsets)))
    log_values = np.repeat(offsets, 3) + slope * groups.log_size
    assert float(scaling_slope(log_values, groups)) == pytest.approx(slope, abs=1e-9)


def test_slope_is_that_of_least_squares() -> None:
    """The slope equals that of a regression with a dummy variable for each family, solved by NumPy."""
    groups = _families(4, 3, 1)
    y = np.random.default_rng(3).normal(size=8)
    dummies = (groups.stratum[:, None] == np.arange(3)).astype(float)
    expected = np.linalg.lstsq(np.column_stack([groups.log_size, dummies]), y, rcond=None)[0][0]
    assert float(scaling_slope(y, groups)) == pytest.approx(expected)
    batch = scaling_slope(np.stack([y, 2 * y]), groups)
    assert batch == pytest.approx([expected, 2 * expected])


def test_missing_sizes_are_left_out_of_the_slope() -> None:
    """A size without a value changes nothing: the slope is that of the others."""
    groups, y = _families(4), np.array([0.5, np.nan, 0.1, 0.4])
    rest = group_sizes([1000, 4000, 8000], ["a"] * 3)
    assert float(scaling_slope(y, groups)) == pytest.approx(float(scaling_slope(y[[0, 2, 3]], rest)))


@given(order=st.permutations(range(5)))
def test_order_of_models_does_not_matter(order: list[int]) -> None:
    """Models in any order are in the same groups, and have the same pooled values."""
    sizes, strata = [100, 105, 300, 100, 900], ["a", "a", "a", "b", "b"]
    values = np.arange(5.0)
    here = group_sizes(sizes, strata)
    there = group_sizes([sizes[i] for i in order], [strata[i] for i in order])
    assert there.group.tolist() == [int(here.group[i]) for i in order]
    assert pool_groups(values[list(order)], there) == pytest.approx(pool_groups(values, here))
    assert here.group.tolist() == [0, 0, 1, 2, 3]


def test_weights_are_repetitions() -> None:
    """A weight of 2 is the model twice; a size whose models all have weight 0 or NaN is NaN."""
    groups = group_sizes([10, 10, 90, 500], ["a"] * 4)
    values = np.array([1.0, 4.0, 5.0, np.nan])
    pooled = pool_groups(values, groups, np.array([2.0, 1.0, 0.0, 1.0]))
    assert pooled[0] == pytest.approx(2.0)
    assert np.isnan(pooled[1:]).all()


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_near_sizes_are_one_size_within_the_tolerance(tolerance: float) -> None:
    """Sizes that differ by less than the tolerance count as one; with 0 only equal ones do."""
    groups = group_sizes([100, 109, 100], ["a"] * 3, tolerance=tolerance)
    assert groups.n_groups == (1 if tolerance else 2)


def test_sizes_must_be_positive() -> None:
    """A size of 0 is refused."""
    with pytest.raises(UsageError, match="needs one size above 0"):
        group_sizes([0, 1], ["a", "a"])
