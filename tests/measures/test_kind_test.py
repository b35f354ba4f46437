"""Kinds of mixers at equal depth, against regression and enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import KindContrast, contrast_kinds

THREE_TO_ONE = ["gated_deltanet", "gated_deltanet", "gated_deltanet", "attention"]


def _contrast(profile: np.ndarray, mixers: list[str], **settings: int) -> KindContrast:
    (found,) = contrast_kinds(profile, mixers, generator=np.random.default_rng(0), **settings)
    return found


def _partial(label: np.ndarray, depth: np.ndarray, bands: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Coefficient of the label, and |partial correlation|, out of two regressions solved by NumPy."""
    dummies = (bands[:, None] == np.unique(bands)).astype(float)
    design = np.column_stack([dummies, depth])
    z, r = (one - design @ np.linalg.lstsq(design, one, rcond=None)[0] for one in (label.astype(float), y))
    if z @ z < 1e-9:
        return float("nan"), 0.0
    return float(z @ y / (z @ z)), float(abs(z @ r) / np.sqrt((z @ z) * (r @ r)))


@pytest.mark.parametrize("seed", range(5))
def test_contrast_is_that_of_regressions_over_all_arrangements(seed: int) -> None:
    """Ratio and p-value equal those of least squares, refitted for every arrangement of the labels within bands."""
    profile = np.random.default_rng(seed).uniform(0.05, 0.6, 8)
    depth, bands = np.arange(1, 9) / 8, np.repeat([0, 1], 4)
    label = np.array(THREE_TO_ONE * 2) == "gated_deltanet"
    coefficient, observed = _partial(label, depth, bands, np.log(profile))
    statistics = []
    for others in itertools.product(range(4), range(4)):
        arranged = np.ones(8, dtype=bool)
        arranged[[others[0], 4 + others[1]]] = False
        statistics.append(_partial(arranged, depth, bands, np.log(profile))[1])
    found = _contrast(profile, THREE_TO_ONE * 2)
    assert (found.n_bands, found.n_layers, found.n_others, found.n_arrangements) == (2, 6, 2, 16)
    assert found.ratio == pytest.approx(np.exp(coefficient))
    assert found.p_value == pytest.approx(np.mean(np.array(statistics) >= observed - 1e-9))
    assert found.is_exact


def test_a_decay_with_depth_alone_is_no_difference_of_kinds() -> None:
    """Where divergence falls exponentially with depth, the kind that sits last in every group is no more robust."""
    profile = 0.5 * np.exp(-3 * np.arange(1, 13) / 12)
    found = _contrast(profile, THREE_TO_ONE * 3)
    assert found.ratio == pytest.approx(1.0)
    assert found.p_value == 1.0
    assert found.depth_gap is not None
    assert found.depth_gap < 0


def test_planted_kinds_are_found_with_their_ratio() -> None:
    """Attention layers that are twice as vulnerable are found with a ratio of 2, on top of a decay with depth."""
    generator = np.random.default_rng(4)
    mixers = THREE_TO_ONE * 6
    profile = 0.5 * np.exp(-2 * np.arange(24) / 24 + generator.normal(0, 0.05, 24))
    profile[[i for i, mixer in enumerate(mixers) if mixer == "attention"]] *= 2
    found = _contrast(profile, mixers)
    assert found.mixer == "gated_deltanet"
    assert found.ratio == pytest.approx(0.5, abs=0.1)
    assert found.p_value is not None
    assert found.p_value < 0.01


@pytest.mark.parametrize("layout", ["fixed", "shuffled"])
def test_null_data_are_rejected_at_the_nominal_rate(layout: str) -> None:
    """Without a difference of kinds, p ≤ 0.05 in about 5 % of 400 models that decay with depth, whatever the layout."""
    generator = np.random.default_rng(5)
    rejected = []
    for _ in range(400):
        mixers = THREE_TO_ONE * 3
        if layout == "shuffled":
            mixers = [kind for group in range(3) for kind in generator.permutation(mixers[4 * group : 4 * group + 4])]
        profile = 0.5 * np.exp(-3 * np.arange(12) / 12 + generator.normal(0, 0.3, 12))
        found = _contrast(profile, [str(mixer) for mixer in mixers])
        rejected.append(found.p_value is not None and found.p_value <= 0.05)
    assert 0.015 < np.mean(rejected) < 0.09


@given(
    profile=st.lists(st.floats(0.01, 0.9), min_size=8, max_size=8),
    factor=st.floats(0.1, 10),
    data=st.data(),
)
def test_laws_of_a_contrast(profile: list[float], factor: float, data: st.DataObject) -> None:
    """A common factor changes nothing; exchanged labels invert the ratio and leave the p-value."""
    mixers = data.draw(st.permutations(["a"] * 4 + ["b"] * 4))
    js_bits = np.array(profile)
    here = _contrast(js_bits, mixers, n_bands=2)
    scaled = _contrast(js_bits * factor, mixers, n_bands=2)
    exchanged = _contrast(js_bits, ["b" if mixer == "a" else "a" for mixer in mixers], n_bands=2)
    for other in (scaled, exchanged):
        assert (other.p_value is None) == (here.p_value is None)
        if here.p_value is not None:
            assert other.p_value == pytest.approx(here.p_value, abs=0.011)  # ties that rounding parts: 1 of 4,900
    if here.ratio is not None:
        assert scaled.ratio == pytest.approx(here.ratio, rel=1e-6)
        # `a` may stand first or not: the contrast is of the kind that appears first, so exchanging names keeps it.
        assert exchanged.ratio == pytest.approx(here.ratio, rel=1e-6)
        assert exchanged.mixer != here.mixer


def test_turned_labels_invert_the_ratio() -> None:
    """The contrast of the other kind, which three kinds let one ask for, has the inverse ratio where two remain."""
    profile = np.random.default_rng(6).uniform(0.1, 0.5, 12)
    mixers = ["a", "b", "b", "a", "a", "b", "a", "b", "b", "a", "b", "a"]
    first = _contrast(profile, mixers, n_bands=3)
    by_kind = {
        one.mixer: one for one in contrast_kinds(profile, [*mixers[:-1], "c"], generator=np.random.default_rng(0))
    }
    assert set(by_kind) == {"a", "b", "c"}
    swapped = _contrast(profile[::-1].copy(), mixers[::-1], n_bands=3)
    assert swapped.mixer == first.mixer == "a"
    assert swapped.ratio == pytest.approx(first.ratio)
    assert swapped.p_value == pytest.approx(first.p_value)


def test_many_layers_are_permuted_at_random_with_the_correction() -> None:
    """Where there are too many arrangements, so many as asked for are drawn, p is never 0, and seeds decide."""
    mixers = (["a", "b"] * 20)[:40]
    profile = np.where(np.arange(40) % 2, 0.1, 0.5) * np.exp(np.random.default_rng(7).normal(0, 0.01, 40))
    results = [
        contrast_kinds(profile, mixers, generator=np.random.default_rng(seed), n_bands=2, n_permutations=999)[0]
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1]
    assert not results[0].is_exact
    assert results[0].n_arrangements == 999
    assert results[0].p_value == pytest.approx(1 / 1000)


def test_layers_without_the_site_take_no_part() -> None:
    """NaN layers change nothing but the bands' members: kinds that have the site nowhere are not compared."""
    profile = np.array([0.5, np.nan, 0.4, np.nan, 0.3, np.nan, 0.2, np.nan])
    assert contrast_kinds(profile, ["mamba", "none"] * 4, generator=np.random.default_rng(0)) == ()
    found = _contrast(profile, ["mamba", "none", "attention", "none"] * 2, n_bands=1)
    assert (found.n_layers, found.n_others) == (2, 2)


def test_kinds_that_follow_from_depth_get_no_answer() -> None:
    """Where every band holds one layer of each kind in the same order, kind is depth, and that is said."""
    found = _contrast(np.array([0.4, 0.3, 0.2, 0.1]), ["a", "b", "a", "b"], n_bands=2)
    assert (found.ratio, found.p_value) == (None, None)
    assert found.note == "kind and depth cannot be told apart: inside the bands, one follows from the other"


def test_bands_that_hold_one_kind_get_no_answer() -> None:
    """Kinds that never share a band are not compared, and that is said."""
    found = _contrast(np.array([0.4, 0.3, 0.2, 0.1]), ["a", "a", "b", "b"], n_bands=2)
    assert found.p_value is None
    assert found.note == "no band of depth holds this kind and another one"


def test_zero_divergence_gets_no_answer() -> None:
    """A divergence of exactly 0 has no logarithm, and that is said."""
    found = _contrast(np.array([0.4, 0.0, 0.2, 0.1, 0.3]), ["a", "b", "a", "b", "a"])
    assert found.note == "a layer has a JS divergence of 0, which has no logarithm"


def test_lengths_must_fit() -> None:
    """One mixer a layer is asked for."""
    with pytest.raises(UsageError, match="got 3 layers, 2 mixers"):
        contrast_kinds(np.full(3, 0.1), ["a", "b"], generator=np.random.default_rng(0))
