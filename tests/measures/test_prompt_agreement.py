"""Correlations over prompts, against plain formulas, enumerated permutations and planted populations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import correlate, correlate_prompts
from layertracer.measures._agreement.correlation import check_method


def p_by_enumeration(one: list[float], other: list[list[float]]) -> float:
    """The share of all orders of the clusters of `other` in which the two correlate as far; Pearson's."""
    flat = np.array(one)

    def far(order: tuple[int, ...]) -> float:
        return abs(float(correlate(flat, np.array([value for i in order for value in other[i]]), "pearson")))

    orders = list(itertools.permutations(range(len(other))))
    return float(np.mean([far(order) >= far(tuple(range(len(other)))) - 1e-9 for order in orders]))


@pytest.mark.parametrize(("seed", "n"), [(0, 4), (1, 6)])
def test_p_is_that_of_all_permutations(seed: int, n: int) -> None:
    """Random permutations give the p of all permutations, but for chance."""
    one, other = np.random.default_rng(seed).standard_normal((2, n))
    found = correlate_prompts(one, other, method="pearson", n_resamples=4000, seed=seed)
    expected = p_by_enumeration(one.tolist(), [[value] for value in other.tolist()])
    assert found.p == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 4000))


def test_clusters_are_permuted_whole() -> None:
    """With clusters, whole ones change places: p is that of all orders of the clusters."""
    rng = np.random.default_rng(0)
    one = (np.array([0.0, 1.0, 2.0, 3.0, 4.0])[:, None] + 0.1 * rng.standard_normal((5, 3))).ravel()
    other = (np.array([1.0, 0.0, 2.0, 4.0, 3.0])[:, None] + 0.1 * rng.standard_normal((5, 3))).tolist()
    units = np.repeat(np.arange(5), 3).tolist()
    found = correlate_prompts(one, np.ravel(other), method="pearson", units=units, n_resamples=4000)
    assert found.p == pytest.approx(p_by_enumeration(one.tolist(), other), abs=0.03)
    alone = correlate_prompts(one, np.ravel(other), method="pearson", n_resamples=4000)
    assert alone.p is not None
    assert found.p is not None
    assert alone.p < found.p / 5


@given(pairs=st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.integers(-3, 3)), min_size=1, max_size=20))
def test_pairs_with_a_gap_are_left_out_and_counted(pairs: list[tuple[int | None, int]]) -> None:
    """None and NaN leave a prompt out; the value is that of the others; nothing is said of a constant or two pairs."""
    one, other = zip(*pairs, strict=True)
    found = correlate_prompts(one, other, n_resamples=20)
    whole = [(a, b) for a, b in pairs if a is not None]
    assert found.n_units == len(whole)
    assert (f"{len(pairs) - len(whole)} of {len(pairs)} prompts without" in found.note) == (len(whole) < len(pairs))
    if len(whole) < 3 or len({a for a, _ in whole}) == 1 or len({b for _, b in whole}) == 1:
        assert (found.value, found.p, found.interval) == (None, None, None)
        assert found.note
        return
    x, y = np.array(whole, dtype=float).T
    assert found.value == pytest.approx(float(correlate(x, y, "spearman")))
    with_nan = correlate_prompts([np.nan if a is None else a for a in one], other, n_resamples=20)
    assert with_nan == found


@given(seed=st.integers(0, 50))
def test_laws_of_a_correlation_over_prompts(seed: int) -> None:
    """Symmetric; Spearman's is blind to rising functions, Pearson's to rising lines; the interval holds the value."""
    one, other = np.random.default_rng(seed).standard_normal((2, 12))
    spearman = correlate_prompts(one, other, n_resamples=100, seed=seed)
    bent = correlate_prompts(np.exp(one), other**3, n_resamples=100, seed=seed)
    assert (bent.value, bent.p) == (pytest.approx(spearman.value), spearman.p)
    pearson = correlate_prompts(one, other, method="pearson", n_resamples=100, seed=seed)
    moved = correlate_prompts(other, 2 * one + 5, method="pearson", n_resamples=100, seed=seed)
    assert moved.value == pytest.approx(pearson.value)
    for found in (spearman, bent, pearson, moved):
        assert found.interval is not None
        assert found.value is not None
        assert -1 <= found.interval.low <= found.value <= found.interval.high <= 1
    again = correlate_prompts(one, other, n_resamples=100, seed=seed)
    assert again == spearman


def test_few_prompts_give_no_interval_and_fewer_no_p() -> None:
    """Below eight prompts there is no interval, below four no p; the note says so."""
    one, other = [1.0, 2.0, 3.0, 5.0, 4.0, 6.0, 8.0, 7.0], [2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0, 8.0]
    three, seven, eight = (correlate_prompts(one[:n], other[:n], n_resamples=50) for n in (3, 7, 8))
    assert (three.p, three.interval) == (None, None)
    assert three.note == "3 prompts: no p below 4; 3 prompts: no interval below 8"
    assert seven.p is not None
    assert (seven.interval, seven.note) == (None, "7 prompts: no interval below 8")
    assert eight.interval is not None
    assert eight.note == ""


def test_clusters_of_other_sizes_are_brought_to_one() -> None:
    """Few prompts are left out of permutations, and said; where many would be, there is no p."""
    one, other = np.random.default_rng(1).standard_normal((2, 23))
    units = [i % 6 for i in range(23)]
    found = correlate_prompts(one, other, units=units, n_resamples=50)
    assert found.p is not None
    assert "p leaves out 5 prompts" in found.note
    uneven = correlate_prompts(one, other, units=[min(i, 4) for i in range(23)], n_resamples=50)
    assert uneven.p is None
    assert "differ too much in size" in uneven.note


def test_copies_in_clusters_are_no_more_sure() -> None:
    """Clusters of copies give the interval of one prompt each."""
    one, other = np.random.default_rng(7).standard_normal((2, 10))
    for method in ("pearson", "spearman"):
        single = correlate_prompts(one, other, method=method, n_resamples=200)
        copies = correlate_prompts(
            one.repeat(4), other.repeat(4), method=method, units=np.arange(10).repeat(4).tolist(), n_resamples=200
        )
        assert single.interval is not None
        assert copies.interval is not None
        assert copies.value == pytest.approx(single.value)
        assert copies.interval.low == pytest.approx(single.interval.low, abs=0.02)
        assert copies.interval.high == pytest.approx(single.interval.high, abs=0.02)


def test_what_does_not_fit_is_refused() -> None:
    """Lists of different lengths, infinite values, clusters of other prompts and unknown methods are refused."""
    with pytest.raises(UsageError, match="a number for each prompt, got 3 and 2"):
        correlate_prompts([1, 2, 3], [1, 2])
    with pytest.raises(UsageError, match="infinite values"):
        correlate_prompts([1, 2, np.inf], [1, 2, 3])
    with pytest.raises(UsageError, match="units names 2 units for 3 prompts"):
        correlate_prompts([1, 2, 3], [1, 2, 3], units=[0, 1])
    with pytest.raises(UsageError, match="method must be 'spearman' or 'pearson', got 'kendall'"):
        check_method("kendall")


def layers_of_prompts(rng: np.random.Generator, n: int, rho: float, *, n_units: int = 0) -> np.ndarray:
    """Two layers of each prompt that correlate by `rho` before rounding, with set effects where there are sets."""
    shared = rng.standard_normal((2, n))
    if n_units:
        by_unit = rng.standard_normal((2, n_units))
        shared = np.sqrt(0.5) * shared + np.sqrt(0.5) * by_unit[:, np.arange(n) % n_units]
    one, other = shared
    return np.round(4 * np.stack([one, rho * one + np.sqrt(1 - rho**2) * other]) + 12)


def error_rate(*, n: int, n_units: int, method: str, runs: int, seed: int = 0) -> float:
    """How often unrelated layers are found to agree at 5 %."""
    rng = np.random.default_rng(seed)
    units = [i % n_units for i in range(n)] if n_units else None
    found = [
        correlate_prompts(*layers_of_prompts(rng, n, 0.0, n_units=n_units), method=method, units=units,  # type: ignore[arg-type]
                          n_resamples=99, seed=run)
        for run in range(runs)
    ]  # fmt: skip
    return float(np.mean([one.p is not None and one.p <= 0.05 for one in found]))


def coverage(*, n: int, rho: float, n_units: int, method: str, runs: int, seed: int = 0) -> float:
    """How often the interval holds the correlation of the population."""
    rng = np.random.default_rng(seed)
    truth = float(correlate(*layers_of_prompts(rng, 400_000, rho, n_units=0), method))  # type: ignore[arg-type]
    units = [i % n_units for i in range(n)] if n_units else None
    held = []
    for run in range(runs):
        interval = correlate_prompts(
            *layers_of_prompts(rng, n, rho, n_units=n_units),
            method=method,
            units=units,
            n_resamples=400,
            seed=run,  # type: ignore[arg-type]
        ).interval
        assert interval is not None
        held.append(interval.low <= truth <= interval.high)
    return float(np.mean(held))


def test_unrelated_layers_seldom_agree_and_intervals_hold() -> None:
    """Layers of prompts in sets that are unrelated agree at 5 % in about one of twenty; intervals hold their level."""
    assert error_rate(n=32, n_units=8, method="spearman", runs=150) <= 0.05 + 0.055
    assert coverage(n=32, rho=0.7, n_units=0, method="spearman", runs=150) >= 0.95 - 0.055


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize(("n", "n_units"), [(8, 0), (16, 0), (64, 0), (32, 8), (40, 5), (64, 16)])
def test_unrelated_layers_agree_in_one_of_twenty(n: int, n_units: int, method: str) -> None:
    """At most 5 % of unrelated layers agree at 5 %, prompts by themselves or in sets, but for chance."""
    assert error_rate(n=n, n_units=n_units, method=method, runs=2000) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
@pytest.mark.parametrize(("n", "n_units"), [(8, 0), (16, 0), (64, 0), (32, 8), (64, 16)])
def test_intervals_of_correlations_over_prompts_hold(n: int, n_units: int, rho: float, method: str) -> None:
    """At 95 %, at least 93 % of 1000 intervals hold the population's correlation, of whole layers with ties."""
    assert coverage(n=n, rho=rho, n_units=n_units, method=method, runs=1000) >= 0.93
