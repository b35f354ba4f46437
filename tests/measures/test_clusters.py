"""Intervals by clusters, shares of variance, prompts needed and false positives: by hand, and on planted data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import (
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Rise,
    TargetCurves,
    cluster_interval,
    find_task_particle,
    fire_rates,
    join_clusters,
    prompts_needed,
    student_quantile,
    variance_shares,
    wilson,
)

# Quantiles of Student's t as printed in tables (Fisher and Yates): degrees of freedom, 0.95, 0.975, 0.995.
T_TABLE = [(1, 6.314, 12.706, 63.657), (2, 2.920, 4.303, 9.925), (4, 2.132, 2.776, 4.604), (30, 1.697, 2.042, 2.750)]


@pytest.mark.parametrize(("degrees", "q95", "q975", "q995"), T_TABLE)
def test_student_quantiles_are_those_of_the_tables(degrees: int, q95: float, q975: float, q995: float) -> None:
    """Quantiles of Student's t agree with the printed tables, and turn over with the share."""
    found = [student_quantile(share, degrees) for share in (0.95, 0.975, 0.995)]
    assert [round(value, 3) for value in found] == [q95, q975, q995]
    assert student_quantile(0.025, degrees) == pytest.approx(-found[1])


@given(means=st.lists(st.floats(-5, 5), min_size=2, max_size=7), size=st.integers(1, 4), seed=st.integers(0, 99))
def test_few_clusters_have_the_t_interval_of_their_means(means: list[float], size: int, seed: int) -> None:
    """Clusters of one size, fewer than eight: mean ± t · s/√K of the cluster means, whatever is within them."""
    n_clusters = len(means)
    within = np.random.default_rng(seed).standard_normal((n_clusters, size))
    values = np.array(means)[:, None] + within - within.mean(axis=1, keepdims=True)
    order = np.random.default_rng(seed).permutation(values.size)
    found = cluster_interval(values.ravel()[order], np.arange(n_clusters).repeat(size)[order].tolist())
    error = math.sqrt(sum((one - sum(means) / n_clusters) ** 2 for one in means) / (n_clusters - 1) / n_clusters)
    reach = student_quantile(0.975, n_clusters - 1) * error
    assert found.interval is not None
    assert found.mean == pytest.approx(sum(means) / n_clusters, abs=1e-9)
    assert found.interval.low == pytest.approx(found.mean - reach, abs=1e-9)
    assert found.interval.high == pytest.approx(found.mean + reach, abs=1e-9)
    assert f"{n_clusters} clusters: Student's t with {n_clusters - 1} degree" in found.note


def test_one_cluster_says_nothing_of_others() -> None:
    """One cluster gives a mean and no interval; eight are resampled; what does not fit is refused."""
    one = cluster_interval(np.array([1.0, 2.0]), [3, 3])
    assert (one.mean, one.interval, one.note) == (1.5, None, "one cluster: no interval")
    eight = cluster_interval(np.arange(16.0), [i // 2 for i in range(16)])
    assert eight.interval is not None
    assert (eight.n_clusters, eight.note) == (8, "")
    assert eight.interval.low < 7.5 < eight.interval.high
    with pytest.raises(UsageError, match="units names 1 units for 2 prompts"):
        cluster_interval(np.array([1.0, 2.0]), [0])
    with pytest.raises(UsageError, match="finite"):
        cluster_interval(np.array([1.0, np.nan]), [0, 1])


def cluster_coverage(*, n_clusters: int, per_cluster: int, runs: int, spread: float, seed: int = 0) -> float:
    """How often the interval holds the mean of the population, by clusters of unequal sizes."""
    rng = np.random.default_rng(seed)
    held = []
    for run in range(runs):
        sizes = rng.integers(max(1, per_cluster // 2), per_cluster + per_cluster // 2 + 1, n_clusters)
        clusters = np.arange(n_clusters).repeat(sizes)
        values = spread * rng.standard_normal(n_clusters)[clusters] + rng.standard_normal(len(clusters))
        interval = cluster_interval(values, clusters.tolist(), n_resamples=600, seed=run).interval
        assert interval is not None
        held.append(interval.low <= 0.0 <= interval.high)
    return float(np.mean(held))


def test_intervals_by_clusters_hold() -> None:
    """At 95 % they hold the population's mean, where an interval over prompts would hold it in half of the cases."""
    assert cluster_coverage(n_clusters=5, per_cluster=6, runs=200, spread=1.0) >= 0.95 - 0.046


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("n_clusters", [2, 3, 5, 7, 8, 12, 30])
def test_intervals_by_clusters_hold_whatever_their_number(n_clusters: int, spread: float) -> None:
    """At 95 %, at least 93 % of 2000 intervals hold the mean, of clusters of unequal sizes."""
    assert cluster_coverage(n_clusters=n_clusters, per_cluster=6, runs=2000, spread=spread) >= 0.93


@given(labels=st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=14))
def test_prompts_that_share_anything_are_of_one_cluster(labels: list[tuple[int, int | None]]) -> None:
    """Clusters are the connected groups of prompts, found here by walking from prompt to prompt."""
    found = join_clusters(*zip(*labels, strict=True))

    def touch(a: tuple[int, int | None], b: tuple[int, int | None]) -> bool:
        return a[0] == b[0] or (a[1] is not None and a[1] == b[1])

    for start in range(len(labels)):
        reached, queue = {start}, [start]
        while queue:
            here = queue.pop()
            new = {there for there in range(len(labels)) if touch(labels[here], labels[there])} - reached
            reached |= new
            queue += new
        assert {place for place, number in enumerate(found) if number == found[start]} == reached


def test_sets_and_templates_as_clusters() -> None:
    """Sets within templates give the templates, crossed ones one cluster; without labels there is none."""
    assert join_clusters([4, 7, 9, 5], [0, 1, 0, 1]) == (0, 1, 0, 1)
    assert join_clusters([0, 0, 1, 1], [0, 1, 0, 1]) == (0, 0, 0, 0)
    assert join_clusters([None, None], [1, 0]) == (0, 1)
    assert join_clusters([None, None], [None, None]) == (None, None)


def mean_squares(y: np.ndarray) -> dict[str, float]:
    """The analysis of variance of a full array [a, b, c] with random effects, written out as in the textbook.

    Expected mean squares of the crossed random model with all interactions, solved for the components by hand:
    σ²a = (MSa − MSab − MSac + MSabc)/(bc), and likewise; σ²ab = (MSab − MSabc)/c; σ²abc = MSabc.
    """
    a, b, c = y.shape
    mean, a_, b_, c_ = y.mean(), y.mean(axis=(1, 2)), y.mean(axis=(0, 2)), y.mean(axis=(0, 1))
    ab, ac, bc = y.mean(axis=2), y.mean(axis=1), y.mean(axis=0)
    ms_a = b * c * sum((one - mean) ** 2 for one in a_) / (a - 1)
    ms_b = a * c * sum((one - mean) ** 2 for one in b_) / (b - 1)
    ms_c = a * b * sum((one - mean) ** 2 for one in c_) / (c - 1)
    cells = itertools.product(range(a), range(b), range(c))
    ms_ab = c * sum((ab[i, j] - a_[i] - b_[j] + mean) ** 2 for i in range(a) for j in range(b)) / (a - 1) / (b - 1)
    ms_ac = b * sum((ac[i, k] - a_[i] - c_[k] + mean) ** 2 for i in range(a) for k in range(c)) / (a - 1) / (c - 1)
    ms_bc = a * sum((bc[j, k] - b_[j] - c_[k] + mean) ** 2 for j in range(b) for k in range(c)) / (b - 1) / (c - 1)
    ms_abc = sum(
        (y[i, j, k] - ab[i, j] - ac[i, k] - bc[j, k] + a_[i] + b_[j] + c_[k] - mean) ** 2 for i, j, k in cells
    ) / ((a - 1) * (b - 1) * (c - 1))
    interactions = (ms_ab - ms_abc) / c + (ms_ac - ms_abc) / b + (ms_bc - ms_abc) / a
    return {
        "prompts": (ms_a - ms_ab - ms_ac + ms_abc) / (b * c),
        "demonstrations": (ms_b - ms_ab - ms_bc + ms_abc) / (a * c),
        "templates": (ms_c - ms_ac - ms_bc + ms_abc) / (a * b),
        "rest": interactions + ms_abc,
    }


def test_two_by_two_by_two_by_hand() -> None:
    """Prompts 0 and 4 apart, sets 0 and 2, templates the same, one interaction: the components worked out on paper.

    y = 4·prompt + 2·set + d, where d is 1 if set equals template and else 0. Half the mean squared difference of cells
    that share nothing (d stays): (6² + 2²)/4 = 10. That share the prompt (d stays): 2²/2 = 2, so prompts have 10 − 2 =
    8. The set (d turns): (5² + 3²)/4 = 8.5, so sets have 1.5. The template: (5² + 3² + 7² + 1²)/8 = 10.5, so templates
    have −0.5, set to 0. What is left of 10 is 1.
    """
    prompt, in_set, template = np.indices((2, 2, 2))
    values = 4.0 * prompt + 2.0 * in_set + (in_set == template)
    found = variance_shares(values)
    expected = mean_squares(values)
    assert dict(found.variances) == pytest.approx(expected)
    assert found.variances["prompts"] == pytest.approx(8.0)
    assert found.variances["demonstrations"] == pytest.approx(1.5)
    assert found.variances["templates"] == pytest.approx(-0.5)
    assert found.variances["rest"] == pytest.approx(1.0)
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.shares["templates"] == 0.0
    assert found.shares["prompts"] == pytest.approx(8.0 / 10.5)


@given(shape=st.tuples(*[st.integers(2, 5)] * 3), seed=st.integers(0, 99))
def test_full_designs_agree_with_the_analysis_of_variance(shape: tuple[int, int, int], seed: int) -> None:
    """Without missing cells the components are those of the expected mean squares, the interactions in the rest."""
    values = np.random.default_rng(seed).standard_normal(shape)
    assert dict(variance_shares(values).variances) == pytest.approx(mean_squares(values))


@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4).filter(lambda s: sum(n > 1 for n in s) > 1),
    seed=st.integers(0, 99),
)
def test_laws_of_shares(shape: list[int], seed: int) -> None:
    """Shares lie in [0, 1] and add up to 1; constants, factors and the order of levels change nothing."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    found = variance_shares(values)
    assert all(0 <= share <= 1 for share in found.shares.values())
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert set(found.shares) == {
        *(name for name, size in found.levels.items() if size > 1), "rest",
    }  # fmt: skip
    moved = values * 3.0 + 7.0
    for axis, size in enumerate(shape):
        moved = np.take(moved, rng.permutation(size), axis=axis)
    assert dict(variance_shares(moved).shares) == pytest.approx(dict(found.shares), abs=1e-9)
    for name, size in found.levels.items():
        assert (f"one level of {name}" in found.note) == (size == 1)
        assert (f"{size} {name}: below 8" in found.note) == (size > 1)


@pytest.mark.parametrize("axis", range(3))
def test_one_source_has_all_of_its_variance(axis: int) -> None:
    """A number that varies with one source only has its whole share there; constants have none to share out."""
    values = np.broadcast_to(np.arange(4.0).reshape([4 if i == axis else 1 for i in range(3)]), (4, 4, 4))
    name = ("prompts", "demonstrations", "templates")[axis]
    assert variance_shares(values).shares[name] == pytest.approx(1.0)
    constant = variance_shares(np.full((4, 4, 4), 0.1))
    assert constant.shares == {}
    assert "no variance to share out" in constant.note


def crossed(rng: np.random.Generator, sds: tuple[float, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Crossed data with these standard deviations of the main effects and, last, of the rest."""
    values = sds[-1] * rng.standard_normal(shape)
    for axis, sd in enumerate(sds[:-1]):
        values = values + sd * rng.standard_normal([n if i == axis else 1 for i, n in enumerate(shape)])
    return values


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_planted_variances_are_found_in_the_mean(missing: float) -> None:
    """Over many crossed data sets the variances are right in the mean, with cells missing as well as without."""
    sds, shape, runs = (1.0, 0.5, 0.7, 1.2), (8, 6, 5), 300
    rng = np.random.default_rng(0)
    found = []
    for _ in range(runs):
        values = crossed(rng, sds, shape)
        values[rng.random(shape) < missing] = np.nan
        measured = variance_shares(values)
        assert measured.n_missing == np.isnan(values).sum()
        assert ("have no value and are left out" in measured.note) == (missing > 0)
        found.append([measured.variances[name] for name in ("prompts", "demonstrations", "templates", "rest")])
    error = np.std(found, axis=0) / math.sqrt(runs)
    assert np.mean(found, axis=0) == pytest.approx(np.square(sds), abs=float(4 * error.max()))


def test_planted_shares_with_draws_are_found() -> None:
    """With many levels, the shares of four sources are those planted, to a few hundredths."""
    values = crossed(np.random.default_rng(1), (1.0, 0.8, 0.0, 0.6, 0.5), (40, 30, 20, 10))
    shares = variance_shares(values).shares
    total = 1.0 + 0.64 + 0.36 + 0.25
    planted = {"prompts": 1 / total, "demonstrations": 0.64 / total, "templates": 0, "draws": 0.36 / total}
    assert {name: shares[name] for name in planted} == pytest.approx(planted, abs=0.12)
    assert shares["rest"] == pytest.approx(0.25 / total, abs=0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(4), r"an axis for each of 2 to 4 sources .* got shape \[4\]"),
        (np.zeros((4, 1, 1)), "needs two sources with two levels or more"),
        (np.full((4, 4), np.inf), "infinite values"),
        (np.where(np.eye(3, dtype=bool), 1.0, np.nan), "no two values share prompts and nothing else"),
        (np.full((3, 3), np.nan), "cannot tell the sources apart"),
    ],
)
def test_what_is_no_crossed_design_is_refused(values: np.ndarray, message: str) -> None:
    """One axis, one source that varies, infinite values and too many missing cells are refused with the reason."""
    with pytest.raises(UsageError, match=message):
        variance_shares(values)


def rising(rng: np.random.Generator, n: int, *, sd: float, n_layers: int = 24) -> TargetCurves:
    """Prompts whose target rises around layer 12, each where it does, `sd` layers apart."""
    onset = 12 + sd * rng.standard_normal((n, 1))
    layers = np.arange(-1, n_layers)
    prob = 0.02 + 0.9 / (1 + np.exp(-1.2 * (layers - onset)))
    return TargetCurves(
        log_prob=np.log(prob[:, 1:]), embedding_log_prob=np.log(prob[:, 0]), top1_share=(prob[:, 1:] > 0.5) * 1.0
    )


def test_as_many_prompts_as_foretold_give_the_width() -> None:
    """Intervals of fresh samples of the foretold size are about as narrow as asked, and of a third of it wider."""
    rng = np.random.default_rng(0)
    needed = prompts_needed(rising(rng, 48, sd=4.0), HalfMax(), half_width=1.0)
    assert needed.n_prompts is not None
    assert sorted(needed.measured) == [8, 16, 32, 48]

    def mean_width(n: int) -> float:
        found = [
            find_task_particle(rising(rng, n, sd=4.0), HalfMax(), n_resamples=500, seed=seed).interval
            for seed in range(25)
        ]
        return float(np.mean([(one.high - one.low) / 2 for one in found if one is not None]))

    assert mean_width(needed.n_prompts) <= 1.35
    assert mean_width(max(8, needed.n_prompts // 3)) > 1.0


def test_no_more_is_foretold_than_can_be() -> None:
    """Beyond ten times the prompts, below eight, and where the criterion finds none, none is the answer."""
    rng = np.random.default_rng(0)
    far = prompts_needed(rising(rng, 16, sd=5.0), HalfMax(), half_width=0.05)
    assert far.n_prompts is None
    assert far.note == "more than 10 times the 16 prompts measured: too far to be foretold"
    few = prompts_needed(rising(rng, 7, sd=1.0), HalfMax())
    assert (few.n_prompts, dict(few.measured)) == (None, {})
    assert "7 prompts: below 8" in few.note
    flat = TargetCurves(
        log_prob=np.full((9, 5), -3.0), embedding_log_prob=np.full(9, -3.0), top1_share=np.zeros((9, 5))
    )
    none = prompts_needed(flat, Rise())
    assert none.n_prompts is None
    assert "finds too often none" in none.note
    with pytest.raises(UsageError, match="half_width must be positive, got 0"):
        prompts_needed(flat, Rise(), half_width=0)


def test_equal_prompts_need_eight_and_wider_intervals_fewer() -> None:
    """Prompts of one curve need the fewest that are measured; a wider interval never takes more."""
    rng = np.random.default_rng(2)
    same = prompts_needed(rising(rng, 20, sd=0.0), HalfMax())
    assert same.n_prompts == 8
    assert set(same.measured.values()) == {0.0}
    curves = rising(rng, 32, sd=3.0)
    numbers = [prompts_needed(curves, HalfMax(), half_width=width).n_prompts for width in (0.8, 1.0, 1.5, 3.0)]
    known = [n for n in numbers if n is not None]
    assert known == sorted(known, reverse=True)
    assert len(known) >= 3


def test_clusters_are_counted_in_prompts() -> None:
    """With clusters, whole ones are drawn, and what is needed is said in prompts: copies need as many clusters."""
    curves = rising(np.random.default_rng(3), 16, sd=3.0)
    tripled = TargetCurves(
        log_prob=curves.log_prob.repeat(3, axis=0),
        embedding_log_prob=curves.embedding_log_prob.repeat(3),
        top1_share=curves.top1_share.repeat(3, axis=0),
    )
    single = prompts_needed(curves, HalfMax())
    copies = prompts_needed(tripled, HalfMax(), units=tuple(np.arange(16).repeat(3).tolist()))
    assert sorted(copies.measured) == [3 * size for size in sorted(single.measured)]
    assert list(copies.measured.values()) == pytest.approx(list(single.measured.values()))
    assert single.n_prompts is not None
    assert copies.n_prompts == pytest.approx(3 * single.n_prompts, abs=3)


def random_tokens(fires: np.ndarray) -> TargetCurves:
    """Curves [prompt, token, layer] of which those given are on top at the last layer."""
    shares = np.zeros((*fires.shape, 3))
    shares[..., -1] = fires
    flat = np.full(shares.shape, -5.0)
    return TargetCurves(log_prob=flat, embedding_log_prob=flat[..., 0], top1_share=shares)


def test_fire_rates_by_hand() -> None:
    """A rate is the share of curves; where none fires, or tokens repeat one another, they are worth one a prompt."""
    rng = np.random.default_rng(0)
    fires = rng.random((20, 1)) < 0.3
    criteria: dict[str, OnsetCriterion] = {"first": FirstTop1(), "rise": Rise()}
    single, copies = (fire_rates(random_tokens(one), criteria) for one in (fires, fires.repeat(7, axis=1)))
    assert single["first"].rate == copies["first"].rate == fires.mean()
    assert (copies["first"].n_fired, copies["first"].n_curves) == (7 * fires.sum(), 140)
    assert copies["first"].interval.low == pytest.approx(single["first"].interval.low, abs=0.01)
    assert copies["first"].interval.high == pytest.approx(single["first"].interval.high, abs=0.01)
    worth = 20 * (1.959963984540054 / student_quantile(0.975, 19)) ** 2
    assert copies["rise"].interval.low == 0.0
    assert copies["rise"].interval.high == pytest.approx(wilson(0.0, worth).high)
    free = fire_rates(random_tokens(rng.random((20, 200)) < 0.3), criteria)["first"].interval
    assert free.high - free.low < 0.15
    with pytest.raises(UsageError, match="of two prompts or more"):
        fire_rates(random_tokens(fires[:1]), criteria)


def fire_coverage(*, between: float, runs: int, n_prompts: int = 16, n_tokens: int = 20) -> float:
    """How often the interval holds the rate, of prompts whose own rates differ by a beta distribution."""
    rng, rate = np.random.default_rng(0), 0.1
    held = []
    for _ in range(runs):
        own = (
            rng.beta(rate / between, (1 - rate) / between, (n_prompts, 1)) if between else np.full((n_prompts, 1), rate)
        )
        fires = rng.random((n_prompts, n_tokens)) < own
        interval = fire_rates(random_tokens(fires), {"first": FirstTop1()})["first"].interval
        held.append(interval.low <= rate <= interval.high)
    return float(np.mean(held))


def test_intervals_of_rates_hold() -> None:
    """At 95 % they hold the rate of prompts that differ."""
    assert fire_coverage(between=0.2, runs=300) >= 0.95 - 0.038


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 0.05, 0.2, 0.5])
def test_intervals_of_rates_hold_however_prompts_differ(between: float) -> None:
    """At 95 %, at least 93 % of 2000 intervals hold the rate."""
    assert fire_coverage(between=between, runs=2000) >= 0.93
