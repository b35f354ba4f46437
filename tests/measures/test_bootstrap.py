"""The bootstrap's machinery: counts, chunks, bands, memory and time."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from layertracer import UsageError
from layertracer.measures import Rise, bootstrap_mean_curve, find_task_particle, find_vulnerable_layer
from layertracer.measures._bootstrap import chunk_sizes, layer_interval, resample_counts

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
    """An interval between layers 2 and 9 does not end at 4: its ends are layers that were found."""
    interval = layer_interval(np.array([2, 2, 9, 9]), 0.5)
    assert (interval.low, interval.high, interval.level) == (2.0, 9.0, 0.5)
    shifted = layer_interval(np.array([2, 9, 9]), 0.5)
    assert (shifted.low, shifted.high) == (2.0, 9.0)


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


@pytest.mark.parametrize("compute", [_js(64, 5, 32), _particle(64, 32)], ids=["vulnerable", "particle"])
def test_ten_thousand_resamples_take_a_moment(compute: Callable[[], object]) -> None:
    """10,000 resamples of 64 prompts, 5 draws and 32 layers take well under a second of one core, at best of three."""
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
