"""The bootstrap's machinery: counts, chunks, bands, memory and time."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from layertracer import UsageError
from layertracer._types import Draws
from layertracer.measures import (
    Rise,
    Sampling,
    bootstrap_mean_curve,
    find_task_particle,
    find_vulnerable_layer,
    resample_crossed_means,
    resample_mean_curves,
)
from layertracer.measures._bootstrap import layer_interval
from layertracer.measures._resampling import (
    chunk_sizes,
    number_units,
    prompt_weights,
    resample_counts,
    student_deviations,
)

from tests.strategies import make_curves


def test_counts_are_those_of_drawing_with_replacement() -> None:
    """Each resample draws as many as there are; each item is left out with probability (1 - 1/n)^n."""
    counts = resample_counts(np.random.default_rng(0), 20_000, 5)
    assert set(counts.sum(axis=1)) == {5.0}
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.03)
    np.testing.assert_allclose((counts == 0).mean(axis=0), 0.8**5, atol=0.015)
    np.testing.assert_allclose(np.cov(counts.T), np.eye(5) - 0.2, atol=0.03)


@pytest.mark.parametrize("n_items", [1, 3, 64])
def test_chunks_do_not_change_resamples(n_items: int) -> None:
    """Resamples asked for in pieces are those asked for at once."""
    at_once = resample_counts(np.random.default_rng(7), 11, n_items)
    generator = np.random.default_rng(7)
    pieces = [resample_counts(generator, size, n_items) for size in (1, 7, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), at_once)


@pytest.mark.parametrize("floats_per_resample", [1, 1000, 10**9])
def test_chunks_add_up(floats_per_resample: int) -> None:
    """Chunks sum to the resamples asked for, and none is empty, however large one resample is."""
    sizes = list(chunk_sizes(1234, floats_per_resample=floats_per_resample))
    assert sum(sizes) == 1234
    assert min(sizes) >= 1


def test_ends_of_a_layers_interval_are_layers() -> None:
    """An interval between layers 2 and 9 does not end at 4: its ends are layers that were found, or their mirrors."""
    interval = layer_interval(np.array([2, 2, 9, 9]), 0.5, around=5)
    assert (interval.low, interval.high, interval.level) == (1.0, 9.0, 0.5)
    shifted = layer_interval(np.array([2, 9, 9]), 0.5, around=9, n_layers=12)
    assert (shifted.low, shifted.high) == (2.0, 11.0)


@pytest.mark.parametrize("n_prompts", [7, 12, 40])
def test_weighted_means_spread_a_little_more_than_students_t(n_prompts: int) -> None:
    """The means of the resamples have the variance s²/n · (n - 1)/(n - 4): Student's t and a margin."""
    values = np.random.default_rng(n_prompts).normal(size=(n_prompts, 1))
    means = resample_mean_curves(values, n_resamples=200_000, seed=1)
    expected = values.var(ddof=1) / n_prompts * (n_prompts - 1) / (n_prompts - 4)
    assert means.var() == pytest.approx(expected, rel=0.03)


def test_weights_are_those_of_a_dirichlet() -> None:
    """The weights of nine prompts have the quantiles of NumPy's own Dirichlet with a total of four."""
    weights = prompt_weights(np.random.default_rng(0), 60_000, np.arange(9))
    expected = np.random.default_rng(1).dirichlet(np.full(9, 4 / 9), size=60_000)
    at = (0.1, 0.5, 0.9, 0.99)
    np.testing.assert_allclose(np.quantile(weights[:, 4], at), np.quantile(expected[:, 4], at), atol=0.008)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize(("n_rows", "quantile"), [(2, 6.314), (3, 2.920), (5, 2.132), (8, 1.895)])
def test_crossed_means_spread_as_students_t(n_rows: int, quantile: float) -> None:
    """Rows that are ± a spread around their mean as Student's t: its 95 % quantile, from a printed table."""
    rows = np.random.default_rng(n_rows).normal(size=(4000, n_rows))
    centred = rows - rows.mean(axis=1, keepdims=True)
    generator = np.random.default_rng(9)
    ratios = []
    for row in centred:
        means = student_deviations(generator.spawn(1)[0], 200, row[:, None])[:, 0]
        ratios.append(means / (row.std(ddof=1) / math.sqrt(n_rows)))
    # The bootstrap of two or three rows is coarse: the scale is what makes it Student's.
    found = np.quantile(np.concatenate(ratios), 0.95)
    assert found == pytest.approx(quantile, rel=0.12 if n_rows > 2 else 0.3)


def test_prompts_of_one_set_are_weighed_together() -> None:
    """Prompts behind one set of demonstrations have equal weights in every resample, whatever the numbers are."""
    numbered = number_units(Sampling(units=(7, 3, 7, 3, 9)), 5)
    assert numbered.tolist() == [0, 1, 0, 1, 2]
    weights = prompt_weights(np.random.default_rng(0), 50, numbered)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 3])


def test_sets_spread_more_than_prompts() -> None:
    """Where prompts of one set agree, the mean is as unsure as a mean over sets is: sets of four double the width."""
    sets = np.random.default_rng(0).normal(size=(40, 1))
    values = np.repeat(sets, 4, axis=0)
    units = tuple(np.repeat(np.arange(40), 4).tolist())
    apart, together = (bootstrap_mean_curve(values, sampling=Sampling(units=given)) for given in (None, units))
    alone = bootstrap_mean_curve(sets)
    assert (together.high - together.low)[0] == pytest.approx((alone.high - alone.low)[0], rel=0.03)
    assert (together.high - together.low)[0] == pytest.approx(2.1 * (apart.high - apart.low)[0], rel=0.1)


def test_units_of_another_number_of_prompts_are_refused() -> None:
    """There is one unit a prompt."""
    with pytest.raises(UsageError, match="units names 2 units for 3 prompts"):
        bootstrap_mean_curve(np.eye(3), sampling=Sampling(units=(0, 1)))


@pytest.mark.parametrize(("draws", "factor"), [("sampled", 19 / 17), ("parts", 19 / 20), ("given", 0.0)])
def test_variance_of_crossed_means_is_the_sum_of_both(draws: Draws, factor: float) -> None:
    """Prompts and draws each add their variance: Student's t, for parts of a partition the bootstrap's, or none."""
    js = np.random.default_rng(3).random((30, 20, 1))
    sampling = Sampling(draws=draws)
    means = resample_crossed_means(js, n_resamples=200_000, seed=2, sampling=sampling)[:, 0]
    of_prompts = js.mean(axis=1).var(ddof=1) / 30 * 29 / 27
    of_draws = js.mean(axis=0).var(ddof=1) / 20 * factor
    assert means.mean() == pytest.approx(js.mean(), abs=1e-3)
    assert means.var() == pytest.approx(of_prompts + of_draws, rel=0.04)


def test_band_has_the_closed_form_of_the_mean() -> None:
    """For many prompts the ends of the band are mean ± 1.96 · std / √n."""
    values = np.random.default_rng(1).normal(size=(200, 3))
    band = bootstrap_mean_curve(values, n_resamples=30_000)
    half_width = 1.959964 * values.std(axis=0) / math.sqrt(200)
    np.testing.assert_allclose(band.low, values.mean(axis=0) - half_width, atol=0.006)
    np.testing.assert_allclose(band.high, values.mean(axis=0) + half_width, atol=0.006)


def test_band_unpacks_as_low_and_high() -> None:
    """A band is a pair, lower end first, layer by layer."""
    low, high = bootstrap_mean_curve(np.array([[0.1, 0.5], [0.3, 0.5], [0.2, 0.5]]))
    assert low.shape == high.shape == (2,)
    assert low[0] < 0.2 < high[0]
    assert low[1] == high[1] == 0.5


def test_band_refuses_what_is_not_finite() -> None:
    """A value that is no number is refused with its place, before it could widen the band unseen."""
    with pytest.raises(UsageError, match="bootstrap_mean_curve needs finite values, got nan at prompt 1, layer 0"):
        bootstrap_mean_curve(np.array([[0.1, 0.2], [math.nan, 0.2]]))


def test_band_refuses_no_prompt() -> None:
    """Without a prompt there is no band."""
    with pytest.raises(UsageError, match=r"at least one prompt, got shape \[0, 3\] for \[prompt, layer\]"):
        bootstrap_mean_curve(np.zeros((0, 3)))


def test_global_random_state_is_left_alone() -> None:
    """Neither read nor changed: the caller's own random numbers are as without us."""
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    before = bootstrap_mean_curve(np.eye(3), seed=1)
    after_us = np.random.random()  # noqa: NPY002 - likewise
    np.random.seed(5)  # noqa: NPY002 - likewise
    assert after_us == np.random.random()  # noqa: NPY002 - likewise
    np.random.seed(6)  # noqa: NPY002 - likewise
    np.testing.assert_array_equal(before, bootstrap_mean_curve(np.eye(3), seed=1))


def _js(n_prompts: int, n_draws: int, n_layers: int) -> Callable[[], object]:
    js = np.random.default_rng(0).random((n_prompts, n_draws, n_layers))
    return lambda: find_vulnerable_layer(js)


def _particle(n_prompts: int, n_layers: int) -> Callable[[], object]:
    curves = make_curves(np.random.default_rng(0).uniform(0.001, 0.9, (n_prompts, n_layers)))
    return lambda: find_task_particle(curves, Rise())


@pytest.mark.parametrize("compute", [_js(64, 5, 40), _particle(64, 40)], ids=["vulnerable", "particle"])
def test_ten_thousand_resamples_take_a_moment(compute: Callable[[], object]) -> None:
    """10,000 resamples of 64 prompts, 5 draws and 40 layers take well under a second of one core, at best of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        compute()
        times.append(time.process_time() - start)
    assert min(times) < 0.7


@pytest.mark.parametrize("compute", [_js(1000, 5, 64), _particle(1000, 64)], ids=["vulnerable", "particle"])
def test_memory_stays_small(compute: Callable[[], object]) -> None:
    """10,000 resamples of 1,000 prompts and 64 layers stay below 100 MB."""
    tracemalloc.start()
    try:
        compute()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100e6
