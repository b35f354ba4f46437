"""Laws of the bootstrap, the vulnerable layer and the summaries, on generated arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layertracer.measures import (
    Sampling,
    attribute_to_dominant,
    bootstrap_mean_curve,
    find_vulnerable_layer,
    measure_robustness,
)

from tests.strategies import js_arrays

SOME = 100

curves_of_prompts = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.floats(-1e3, 1e3),
)


@given(values=curves_of_prompts)
def test_band_lies_within_the_values(values: np.ndarray) -> None:
    """A mean of values taken from the prompts lies between their smallest and largest; low is below high."""
    low, high = bootstrap_mean_curve(values, n_resamples=SOME)
    assert (low <= high).all()
    assert (low >= values.min(axis=0) - 1e-9).all()
    assert (high <= values.max(axis=0) + 1e-9).all()


@given(constant=st.floats(-1e6, 1e6), n_prompts=st.integers(1, 50), n_layers=st.integers(1, 40))
def test_band_of_a_constant_is_that_constant(constant: float, n_prompts: int, n_layers: int) -> None:
    """Prompts that agree leave a band without width that holds the mean, to the last bit."""
    low, high = bootstrap_mean_curve(np.full((n_prompts, n_layers), constant), n_resamples=SOME)
    assert (low == constant).all()
    assert (high == constant).all()


@given(values=curves_of_prompts, shift=st.floats(-1e3, 1e3), seed=st.integers(0, 2**31))
def test_band_moves_with_the_values(values: np.ndarray, shift: float, seed: int) -> None:
    """Adding a constant moves the band by that constant."""
    here = bootstrap_mean_curve(values, n_resamples=SOME, seed=seed)
    there = bootstrap_mean_curve(values + shift, n_resamples=SOME, seed=seed)
    np.testing.assert_allclose(there, np.asarray(here) + shift, atol=1e-8)


@given(values=curves_of_prompts, seed=st.integers(0, 2**31))
def test_equal_seeds_give_equal_bands(values: np.ndarray, seed: int) -> None:
    """The same values and seed give the same band, to the last bit."""
    first, second = (bootstrap_mean_curve(values, n_resamples=SOME, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_other_seeds_give_other_bands() -> None:
    """The seed is used: two of them do not give the same band."""
    values = np.random.default_rng(0).random((20, 4))
    assert not np.array_equal(bootstrap_mean_curve(values, seed=1), bootstrap_mean_curve(values, seed=2))


@given(values=curves_of_prompts, levels=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)))
def test_a_higher_level_is_wider(values: np.ndarray, levels: tuple[float, float]) -> None:
    """The band of a higher coverage holds that of a lower one."""
    narrow, wide = (bootstrap_mean_curve(values, n_resamples=SOME, level=level) for level in sorted(levels))
    assert (wide.low <= narrow.low + 1e-9).all()
    assert (wide.high >= narrow.high - 1e-9).all()


def test_band_shrinks_with_the_square_root_of_the_prompts() -> None:
    """Sixteen times as many prompts make the band a quarter as wide."""
    values = np.random.default_rng(2).normal(size=(1024, 64))
    few, many = bootstrap_mean_curve(values[:64]), bootstrap_mean_curve(values)
    ratio = np.mean(few.high - few.low) / np.mean(many.high - many.low)
    assert ratio == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_band_covers_the_truth_as_often_as_it_says(level: float) -> None:
    """Over 2,000 experiments of 80 prompts with a known mean, the band holds it as often as its level says."""
    n_experiments = 2000
    prob = np.random.default_rng(3).beta(2.0, 3.0, size=(80, n_experiments))
    low, high = bootstrap_mean_curve(prob, n_resamples=2000, level=level)
    covered = np.mean((low <= 0.4) & (high >= 0.4))
    assert covered == pytest.approx(level, abs=0.03)


@given(js=js_arrays(), data=st.data())
def test_order_of_prompts_and_draws_does_not_matter(js: np.ndarray, data: st.DataObject) -> None:
    """Permuting prompts permutes `per_prompt`; permuting draws too leaves layer, mean and robustness."""
    prompts = np.array(data.draw(st.permutations(range(js.shape[0]))))
    draws = np.array(data.draw(st.permutations(range(js.shape[1]))))
    shuffled = js[prompts][:, draws]
    here = find_vulnerable_layer(js, n_resamples=SOME)
    there = find_vulnerable_layer(shuffled, n_resamples=SOME)
    assert there.layer == here.layer
    assert there.per_prompt == tuple(here.per_prompt[prompt] for prompt in prompts)
    assert there.mean_js_bits == pytest.approx(here.mean_js_bits, abs=1e-12)
    np.testing.assert_allclose(measure_robustness(shuffled).profile_bits, measure_robustness(js).profile_bits)


@given(js=js_arrays())
def test_the_layer_has_the_largest_mean(js: np.ndarray) -> None:
    """No layer has a larger mean, no lower layer has as large a one; so too for every prompt."""
    found = find_vulnerable_layer(js, n_resamples=SOME)
    curves = [(js, found.layer), *((js[[prompt]], layer) for prompt, layer in enumerate(found.per_prompt))]
    for array, layer in curves:
        percents = np.rint(100 * array).astype(int).sum(axis=(0, 1))
        assert layer == percents.tolist().index(percents.max())


@given(js=js_arrays(max_prompts=9), seed=st.integers(0, 2**31))
def test_equal_seeds_give_equal_layers(js: np.ndarray, seed: int) -> None:
    """The same divergences and seed give the same result in every field, within what it may be."""
    first, second = (find_vulnerable_layer(js, n_resamples=SOME, seed=seed) for _ in range(2))
    assert first == second
    assert 0.0 <= first.stability <= 1.0
    assert first.layer in first.contenders
    assert sorted(set(first.contenders)) == list(first.contenders)
    assert (first.interval is None) == (js.shape[0] < 5 or js.shape[1] == 1)
    assert (first.note is None) == (first.interval is not None and js.shape[0] >= 8)
    assert not (first.is_clear and first.interval is None)
    if first.interval is not None:
        assert (first.interval.low, first.interval.high) == (first.contenders[0], first.contenders[-1])


@given(
    js=js_arrays(max_prompts=9),
    levels=st.tuples(st.floats(0.05, 0.99), st.floats(0.05, 0.99)),
    shift=st.floats(0.0, 0.5),
)
def test_contenders_grow_with_the_level(js: np.ndarray, levels: tuple[float, float], shift: float) -> None:
    """A higher level leaves out no more layers; adding a constant to all layers leaves out the same."""
    few, many = (find_vulnerable_layer(js, n_resamples=SOME, level=level) for level in sorted(levels))
    assert set(few.contenders) <= set(many.contenders)
    assert find_vulnerable_layer(js + shift, n_resamples=SOME, level=max(levels)).contenders == many.contenders


@given(js=js_arrays(max_prompts=1, max_draws=1), n_prompts=st.integers(5, 9), n_draws=st.integers(2, 6))
def test_data_without_spread_leave_no_doubt(js: np.ndarray, n_prompts: int, n_draws: int) -> None:
    """Copies of one curve have the layers of its largest value as contenders and a stability of 1."""
    found = find_vulnerable_layer(np.tile(js, (n_prompts, n_draws, 1)), n_resamples=SOME)
    assert found.stability == 1.0
    assert found.contenders == tuple(np.flatnonzero(js[0, 0] == js.max()).tolist())
    assert found.layer == found.contenders[0]


def test_stability_grows_with_the_prompts() -> None:
    """A layer that is ahead by a little becomes surer with more prompts."""
    js = np.random.default_rng(4).normal(size=(512, 1, 6)) * 0.1 + 0.5
    js[..., 2] += 0.03
    given = Sampling(draws="given")
    stabilities = [find_vulnerable_layer(js[:n_prompts], sampling=given).stability for n_prompts in (32, 512)]
    assert stabilities[1] > stabilities[0]
    assert stabilities[1] > 0.9


@given(js=js_arrays())
def test_robustness_is_ordered(js: np.ndarray) -> None:
    """The mean is at most the maximum, both lie within the profile, and the profile ends at depth 1."""
    robustness = measure_robustness(js)
    assert robustness.mean_bits <= robustness.max_bits + 1e-12
    assert robustness.max_bits == robustness.profile_bits.max()
    assert robustness.profile_depth[-1] == 1.0
    assert (np.diff(robustness.profile_depth) > 0).all()


@given(js=js_arrays(), data=st.data())
def test_shares_of_hits_and_misses_are_one(js: np.ndarray, data: st.DataObject) -> None:
    """What comes from draws that hit and from those that miss sums to 1; all hits are 1, no hit is 0."""
    hit = data.draw(hnp.arrays(np.bool_, js.shape[1:]))
    ids, ratios = np.zeros(js.shape[2], int), np.ones(js.shape[2])

    def shares(mask: np.ndarray) -> np.ndarray:
        return attribute_to_dominant(js, mask, dominant_dimension=ids, dominant_ratio=ratios).js_share

    with_js = js.sum(axis=(0, 1)) > 0
    np.testing.assert_array_equal(np.isnan(shares(hit)), ~with_js)
    np.testing.assert_allclose((shares(hit) + shares(~hit))[with_js], 1.0)
    assert (shares(np.ones_like(hit))[with_js] == 1.0).all()
    assert (shares(np.zeros_like(hit))[with_js] == 0.0).all()


@given(hit=hnp.arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 5))), n_prompts=st.integers(1, 4))
def test_equal_draws_share_as_chance_would(hit: np.ndarray, n_prompts: int) -> None:
    """Where every draw has the same divergence, the share of the divergence is the share of the draws."""
    found = attribute_to_dominant(
        np.full((n_prompts, *hit.shape), 0.2),
        hit,
        dominant_dimension=np.zeros(hit.shape[1], int),
        dominant_ratio=np.ones(hit.shape[1]),
    )
    np.testing.assert_allclose(found.js_share, found.draw_share)
