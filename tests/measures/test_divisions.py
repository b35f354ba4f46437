"""Divisions of layers: planted regions are found, layers in a random order have none."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from layertracer.measures import Sampling, divide_layers, unbiased_hsic
from layertracer.measures._divisions.change_points import best_boundaries, region_costs

Curves = dict[str, np.ndarray]


def planted(
    seed: int, *, n_layers: int = 24, boundaries: tuple[int, ...] = (5, 16), n_prompts: int = 20, noise: float = 0.3
) -> Curves:
    """Four measures that step at the boundaries, with noise of the layers and of the prompts."""
    generator = np.random.default_rng(seed)
    region = np.searchsorted(boundaries, np.arange(n_layers), side="right")
    levels = generator.permuted(np.tile(np.arange(len(boundaries) + 1.0), (4, 1)), axis=1)
    return {
        name: level[region] + noise * generator.normal(size=n_layers) + generator.normal(size=(n_prompts, n_layers))
        for name, level in zip("abcd", levels, strict=True)
    }


def planted_hsic(seed: int, *, n_layers: int = 12, boundary: int = 7, n_prompts: int = 8) -> np.ndarray:
    """HSIC of layers that hold tokens one way below a boundary and another way from it on."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(n_prompts):
        before, after = generator.normal(size=(2, 16, 10))
        layers = [before if layer <= boundary else after for layer in range(n_layers + 1)]
        noisy = np.stack([one + 0.3 * generator.normal(size=one.shape) for one in layers])
        found.append(unbiased_hsic(noisy @ noisy.transpose(0, 2, 1)))
    return np.stack(found)


@pytest.mark.parametrize("seed", range(6))
def test_planted_regions_are_found_and_their_intervals_hold_them(seed: int) -> None:
    """Steps of all measures at layers 5 and 16 of 24 are found within a layer, their intervals hold them."""
    found = divide_layers(planted(seed), n_resamples=199)
    assert found.p <= 0.01
    assert np.abs(np.subtract(found.boundaries, (5, 16))).max() <= 1
    for interval, layer in zip(found.intervals, (5, 16), strict=True):
        assert interval is not None
        assert interval.low <= layer <= interval.high
    assert found.explained > 0.6 > found.line_explained


def test_a_bump_is_found_that_no_single_boundary_finds() -> None:
    """A region that differs from both neighbours, which are alike, is found with both of its ends."""
    generator = np.random.default_rng(0)
    curve = np.where((np.arange(20) >= 8) & (np.arange(20) < 13), 1.0, 0.0) + 0.1 * generator.normal(size=(30, 20))
    assert divide_layers({"bump": curve}, n_resamples=199).boundaries == (8, 13)


@pytest.mark.parametrize("n_layers", [8, 24])
def test_shuffled_layers_are_divided_at_the_error_rate(n_layers: int) -> None:
    """Of 200 shuffles of planted layers, 8 % at most are divided, where the stated rate is 5 %."""
    generator, n_divided = np.random.default_rng(3), 0
    curves = planted(1, n_layers=n_layers, boundaries=(n_layers // 3,), n_prompts=4)
    for seed in range(200):
        order = generator.permutation(n_layers)
        shuffled = {name: values[:, order] for name, values in curves.items()}
        found = divide_layers(shuffled, n_resamples=99, seed=seed)
        n_divided += found.n_regions > 1
    assert n_divided <= 16


def test_layers_divide_by_cka_alone() -> None:
    """Where the tokens' places change at one layer and nothing else is known, the boundary is there."""
    found = divide_layers({}, planted_hsic(0), n_resamples=199)
    assert found.boundaries == (7,)
    assert found.cka is not None
    assert found.cka[0, 6] > 0.8
    assert abs(found.cka[0, 7]) < 0.2
    assert found.curves["cka"].argmin() == 7  # with the layer before it


def test_order_of_prompts_does_not_matter() -> None:
    """Permuting prompts leaves regions, p and curves."""
    curves, hsic = planted(2, n_layers=12, boundaries=(4,), n_prompts=8), planted_hsic(1, boundary=4)
    order = np.random.default_rng(0).permutation(8)
    here = divide_layers(curves, hsic, n_resamples=99)
    moved = {name: values[order] for name, values in curves.items()}
    there = divide_layers(moved, hsic[order], n_resamples=99)
    assert (there.boundaries, there.p) == (here.boundaries, here.p)
    for name, curve in here.curves.items():
        np.testing.assert_allclose(there.curves[name], curve, atol=1e-12)


def test_scaling_and_shifting_a_measure_does_not_matter() -> None:
    """A measure in other units divides the layers alike."""
    curves = planted(3)
    scaled = {name: 1e4 * values - 7.0 if name == "a" else values for name, values in curves.items()}
    here, there = (divide_layers(one, n_resamples=99) for one in (curves, scaled))
    assert (there.boundaries, there.p, there.intervals) == (here.boundaries, here.p, here.intervals)


@pytest.mark.parametrize("n_regions", [1, 2, 3, 4])
def test_least_squares_are_those_of_all_divisions(n_regions: int) -> None:
    """Dynamic programming gives the least cost of all divisions into regions of two layers or more."""
    curves = np.random.default_rng(5).normal(size=(3, 9))
    curves -= curves.mean(axis=1, keepdims=True)

    def cost(ends: tuple[int, ...]) -> float:
        parts = [curves[:, first:end] for first, end in zip((0, *ends), (*ends, 9), strict=True)]
        return sum(float(((part - part.mean(axis=1, keepdims=True)) ** 2).sum()) for part in parts)

    allowed = [
        ends
        for ends in combinations(range(2, 8), n_regions - 1)
        if all(end - first >= 2 for first, end in zip((0, *ends), (*ends, 9), strict=True))
    ]
    best = min(allowed, key=cost)
    totals, boundaries = best_boundaries(region_costs((curves.T @ curves)[None]), n_regions)
    assert tuple(boundaries[0].tolist()) == best
    assert totals[0, -1] == pytest.approx(cost(best))


def test_few_prompts_have_no_intervals() -> None:
    """Prompts behind fewer than five sets of demonstrations place boundaries, and tell nothing of how surely."""
    sampling = Sampling(units=(0, 1) * 10)
    found = divide_layers(planted(0), n_resamples=99, sampling=sampling)
    assert len(found.boundaries) == 2
    assert found.intervals == (None, None)


def test_a_steady_slope_says_that_lines_would_do() -> None:
    """A straight line is cut, and explained by a line better than by regions."""
    curve = np.linspace(0, 1, 20) + 0.01 * np.random.default_rng(0).normal(size=(10, 20))
    found = divide_layers({"slope": curve}, n_resamples=99)
    assert found.line_explained > 0.99
    assert found.line_explained > found.explained


def test_three_layers_are_one_region() -> None:
    """A model of too few layers for two regions has one, and p says that nothing was beaten."""
    found = divide_layers({"a": np.array([[0.0, 1.0, 5.0]])}, n_resamples=19)
    assert (found.boundaries, found.p) == ((), 1.0)


def test_measures_that_cannot_divide_are_left_out_with_the_reason() -> None:
    """A constant measure and one with a missing layer are left out, the others decide."""
    curves = planted(0)
    missing = curves["b"].copy()
    missing[:, 3] = np.nan
    found = divide_layers({**curves, "b": missing, "c": np.ones((20, 24))}, n_resamples=99)
    assert set(found.left_out) == {"b", "c"}
    assert found.left_out["b"] == "it is not a finite number at 1 of 24 layers"
    assert set(found.curves) == {"a", "d"}
    alone = divide_layers({"c": np.ones((20, 24))})
    assert (alone.boundaries, alone.p, alone.curves) == ((), 1.0, {})
    with pytest.raises(ValueError, match=r"measures of one shape .* got none"):
        divide_layers({})
    with pytest.raises(ValueError, match="measures of one shape"):
        divide_layers({"a": np.ones((2, 4)), "b": np.ones((2, 5))})
