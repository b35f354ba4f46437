"""Correlations over layers, against plain formulas, counted shifts and planted curves."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import average_ranks, correlate, correlate_layers, shift_p

Curves = Callable[[np.random.Generator, int, int], np.ndarray]


def rank_by_counting(values: list[float]) -> list[float]:
    """Ranks by their definition: how many are smaller, and the middle of the places of the equals."""
    return [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]


def pearson_by_sums(x: list[float], y: list[float]) -> float:
    """Pearson's correlation, written out in sums."""
    n = len(x)
    sxy = n * sum(a * b for a, b in zip(x, y, strict=True)) - sum(x) * sum(y)
    return sxy / ((n * sum(a * a for a in x) - sum(x) ** 2) * (n * sum(b * b for b in y) - sum(y) ** 2)) ** 0.5


def p_by_shifting(x: list[float], y: list[float]) -> float:
    """The share of shifts that correlate as far, the largest over all that a curve is looked at less of."""

    def fitted(values: list[float]) -> list[float]:
        slope, at = np.polyfit(range(len(values)), values, 1)
        return [value - slope * i - at for i, value in enumerate(values)]

    def ends(values: list[float]) -> list[float]:
        step = (values[-1] - values[0]) / (len(values) - 1)
        return [value - values[0] - step * i for i, value in enumerate(values)]

    def plain(values: list[float]) -> list[float]:
        return [values[1], *values[1:-1], values[-2]]

    def faded(values: list[float]) -> list[float]:
        n, columns = len(values), [[1.0] * len(values), list(map(float, range(len(values))))]
        for number in range(min(3, n // 10)):
            rate = n / (3 * 3.2**number)
            columns += [[np.exp(-i / rate) for i in range(n)], [np.exp(-(n - 1 - i) / rate) for i in range(n)]]
        design = np.array(columns).T
        return list(values - design @ np.linalg.lstsq(design, np.array(values), rcond=None)[0])

    shares = []
    for close in (list, fitted, ends, plain, lambda values: fitted(plain(values)), faded):
        a, b = close(x), close(y)
        found = [abs(pearson_by_sums(a, b[shift:] + b[:shift])) for shift in range(len(b))]
        shares.append(sum(one >= found[0] - 1e-9 for one in found) / len(found))
    return max(shares)


numbers = st.lists(st.integers(-5, 5), min_size=4, max_size=12)


@given(values=numbers)
def test_ranks_by_counting(values: list[int]) -> None:
    """Ranks are places among the values; equals share the middle of theirs; their sum is n(n + 1)/2."""
    ranks = average_ranks(np.array([values, values[::-1]], dtype=float))
    assert ranks[0].tolist() == rank_by_counting(list(map(float, values)))
    assert ranks[1].tolist() == rank_by_counting(list(map(float, values[::-1])))
    assert ranks.sum(axis=1).tolist() == [len(values) * (len(values) + 1) / 2] * 2


@given(pairs=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=12))
def test_correlations_by_their_sums(pairs: list[tuple[int, int]]) -> None:
    """Pearson's is that of the textbook, Spearman's is Pearson's of the ranks; a constant has none."""
    x, y = (list(map(float, values)) for values in zip(*pairs, strict=True))
    found = [float(correlate(np.array(x), np.array(y), method)) for method in ("pearson", "spearman")]
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(found).all()
        return
    assert found[0] == pytest.approx(pearson_by_sums(x, y))
    assert found[1] == pytest.approx(pearson_by_sums(rank_by_counting(x), rank_by_counting(y)))


@given(seed=st.integers(0, 1000), n_layers=st.integers(5, 32))
def test_p_by_shifting(seed: int, n_layers: int) -> None:
    """P counts the shifts that correlate as far or farther, the largest over all that a curve is looked at less of."""
    x, y = np.random.default_rng(seed).standard_normal((2, n_layers))
    assert shift_p(x, y, method="pearson") == pytest.approx(p_by_shifting(x.tolist(), y.tolist()))
    assert shift_p(y, x, method="pearson") == pytest.approx(shift_p(x, y, method="pearson"))


def test_lines_say_nothing() -> None:
    """Two curves that are lines agree by nothing beyond both rising or falling: p is 1."""
    assert shift_p(np.arange(30.0), 3 - 0.1 * np.arange(30.0)) == 1.0


@given(seed=st.integers(0, 100), n_prompts=st.integers(1, 9))
def test_correlation_of_the_mean_curves(seed: int, n_prompts: int) -> None:
    """The value is that of the mean curves; symmetric; a rising line through one changes nothing; 1 with itself."""
    one, other = np.random.default_rng(seed).standard_normal((2, n_prompts, 7)).cumsum(axis=2)
    for method in ("pearson", "spearman"):
        found = correlate_layers(one, other, method=method, n_resamples=50)
        expected = correlate(one.mean(axis=0), other.mean(axis=0), method)
        assert found.value == pytest.approx(float(expected))
        back = correlate_layers(other, 3.0 * one + 1.0, method=method, n_resamples=50)
        assert back.value == pytest.approx(found.value)
        assert back.p == pytest.approx(found.p)
        assert correlate_layers(one, one, method=method, n_resamples=50).value == pytest.approx(1.0)
        if n_prompts < 5:
            assert found.interval is None
            assert "no interval below 5" in found.note
        else:
            assert found.interval is not None
            assert -1 <= found.interval.low <= found.value <= found.interval.high <= 1
            assert ("may hold less often" in found.note) == (n_prompts < 8)


def test_what_is_missing_is_left_out_and_counted() -> None:
    """Layers that one lacks are left out of both, then prompts with a NaN; both are said, and nothing else changes."""
    one, other = np.random.default_rng(3).standard_normal((2, 10, 8))
    gappy, whole = one.copy(), other.copy()
    gappy[:, 2] = np.nan
    whole[:, 5] = np.nan
    gappy[4, 0] = np.nan
    found = correlate_layers(gappy, whole, seed=1)
    kept = [layer for layer in range(8) if layer not in (2, 5)]
    rows = [row for row in range(10) if row != 4]
    expected = correlate_layers(one[np.ix_(rows, kept)], other[np.ix_(rows, kept)], seed=1)
    assert (found.value, found.interval, found.p, found.n_units) == (
        expected.value, expected.interval, expected.p, 6,
    )  # fmt: skip
    assert "2 layers that one of the two lacks left out; 1 prompts with missing values left out" in found.note


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (np.zeros((6, 5)), "one curve is constant"),
        (np.full((6, 5), 0.1) + 1e-17, "one curve is constant"),
        (np.arange(30.0).reshape(6, 5)[:, :2].repeat(1, axis=1), "2 layers in both: below 3 no correlation"),
        (np.full((6, 5), np.nan), "0 layers in both: below 3 no correlation"),
        (np.where(np.eye(6, 5, dtype=bool) | (np.arange(6) == 5)[:, None], np.nan, 1.0), "no prompt has all values"),
    ],
)
def test_no_correlation_says_why(one: np.ndarray, message: str) -> None:
    """A constant curve, too few layers, and no whole prompt give no correlation, and the reason."""
    other = np.arange(float(one.size)).reshape(one.shape) ** 2
    found = correlate_layers(one, other)
    assert (found.value, found.interval, found.p) == (None, None, None)
    assert message in found.note


def test_clusters_are_weighed_whole() -> None:
    """Prompts of a cluster that are copies are as unsure as one prompt each, not as many."""
    one, other = np.random.default_rng(5).standard_normal((2, 8, 20)).cumsum(axis=2)
    units = np.repeat(np.arange(8), 6)
    copies = correlate_layers(one.repeat(6, axis=0), other.repeat(6, axis=0), units=units.tolist(), seed=2)
    single = correlate_layers(one, other, seed=2)
    assert copies.interval is not None
    assert single.interval is not None
    assert copies.interval.low == pytest.approx(single.interval.low)
    assert copies.interval.high == pytest.approx(single.interval.high)
    alone = correlate_layers(one.repeat(6, axis=0), other.repeat(6, axis=0), seed=2)
    assert alone.interval is not None
    assert alone.interval.high - alone.interval.low < single.interval.high - single.interval.low


def test_other_prompts_are_resampled_by_themselves() -> None:
    """Arrays of different prompts are refused unless said; then the interval takes both as independent."""
    one, other = np.random.default_rng(5).standard_normal((2, 12, 20)).cumsum(axis=2)
    with pytest.raises(UsageError, match="of the same prompts and layers, got shapes"):
        correlate_layers(one, other[:9])
    found = correlate_layers(one, other[:9], is_paired=False)
    assert found.value == pytest.approx(float(correlate(one.mean(axis=0), other[:9].mean(axis=0), "spearman")))
    assert found.interval is not None
    same = correlate_layers(one, one.copy(), is_paired=False)
    paired = correlate_layers(one, one.copy())
    assert paired.interval is not None
    assert same.interval is not None
    assert paired.interval.low == pytest.approx(1.0)
    assert same.interval.low < 0.999


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"n_resamples": 0}, "n_resamples must be at least 1"),
        ({"units": [0, 1]}, "one cluster for each of 6 prompts"),
        ({"units": [0] * 6, "is_paired": False}, "of paired arrays"),
    ],
)
def test_arguments_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    """Unknown methods, levels, numbers and clusters are refused with what was got."""
    with pytest.raises(UsageError, match=message):
        correlate_layers(np.ones((6, 5)), np.ones((6, 5)), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="infinite values"):
        correlate_layers(np.full((6, 5), np.inf), np.ones((6, 5)))


def autoregressive(rho: float) -> Curves:
    """Stationary curves in which neighbours correlate by `rho`."""

    def draw(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
        steps = rng.standard_normal((n, n_layers)) * np.sqrt(1 - rho**2)
        steps[:, 0] /= np.sqrt(1 - rho**2) or 1.0
        return np.array([list(itertools.accumulate(row, lambda last, step: rho * last + step)) for row in steps])

    return draw


def smooth(length: float) -> Curves:
    """Gaussian processes that vary over this share of the depth."""

    def draw(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
        depth = np.arange(n_layers) / n_layers
        kernel = np.exp(-0.5 * ((depth[:, None] - depth) / length) ** 2) + 1e-6 * np.eye(n_layers)
        return np.asarray(rng.standard_normal((n, n_layers)) @ np.linalg.cholesky(kernel).T)

    return draw


def rising(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
    """Curves that rise or fall with depth, and some noise."""
    return np.asarray(
        4 * rng.standard_normal((n, 1)) * np.arange(n_layers) / n_layers + 0.3 * rng.standard_normal((n, n_layers))
    )


def walking(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
    """Random walks with drift."""
    return np.asarray((rng.standard_normal((n, n_layers)) + rng.standard_normal((n, 1))).cumsum(axis=1))


def humped(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
    """One hump of a random place and width, and some noise."""
    middle, width, depth = rng.uniform(0.2, 0.8, (n, 1)), rng.uniform(0.1, 0.4, (n, 1)), np.arange(n_layers) / n_layers
    return np.asarray(np.exp(-0.5 * ((depth - middle) / width) ** 2) + 0.05 * rng.standard_normal((n, n_layers)))


def fading(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
    """Decays from the first layer, of a random rate and sign, and a little noise."""
    sign, rate = rng.choice([-1.0, 1.0], (n, 1)), rng.uniform(0.5, 8, (n, 1))
    return np.asarray(sign * np.exp(-np.arange(n_layers) / rate) + 0.02 * rng.standard_normal((n, n_layers)))


def with_special_ends(rng: np.random.Generator, n: int, n_layers: int) -> np.ndarray:
    """Noise with a first and a last layer that stand out, each by a random amount and sign."""
    curves = 0.1 * rng.standard_normal((n, n_layers))
    curves[:, [0, -1]] += rng.uniform(1, 3, (n, 2)) * rng.choice([-1.0, 1.0], (n, 2))
    return curves


NULLS: dict[str, Curves] = {
    "independent layers": autoregressive(0.0),
    "neighbours 0.8": autoregressive(0.8),
    "neighbours 0.95": autoregressive(0.95),
    "smooth 0.1": smooth(0.1),
    "smooth 0.4": smooth(0.4),
    "rising": rising,
    "walking": walking,
    "humped": humped,
    "fading": fading,
    "special ends": with_special_ends,
}


def share_found(draw: Curves, *, n_layers: int, n: int, method: str, seed: int = 0) -> float:
    """How often two curves that have nothing to do with one another are found to agree at 5 %."""
    rng = np.random.default_rng(seed)
    ones, others = draw(rng, n, n_layers), draw(rng, n, n_layers)
    return float(np.mean([shift_p(a, b, method=method) <= 0.05 for a, b in zip(ones, others, strict=True)]))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["rising", "smooth 0.1", "fading", "special ends"])
def test_curves_that_have_nothing_in_common_seldom_agree(name: str) -> None:
    """Of curves that are drawn independently, however smooth, at most 5 % are found to agree at 5 %."""
    assert share_found(NULLS[name], n_layers=20, n=300, method="pearson") <= 0.05 + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("n_layers", [20, 30, 48])
@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("name", NULLS)
def test_curves_of_all_kinds_that_have_nothing_in_common_seldom_agree(name: str, method: str, n_layers: int) -> None:
    """At most 5 % of 2000 independent pairs are found to agree at 5 %, whatever their kind, but for chance."""
    share = share_found(NULLS[name], n_layers=n_layers, n=2000, method=method)
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
