"""Laws of CKA, on generated vectors, and the unbiased estimator against sums over all tuples of tokens."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer.measures import cka_of, unbiased_hsic

seeds = st.integers(0, 2**31)


def vectors(seed: int, n_tokens: int = 12, width: int = 7) -> np.ndarray:
    """Vectors of tokens, unlike each other and away from 0."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n_tokens, width)) * generator.lognormal(size=width) + 3.0


def cka_between(one: np.ndarray, other: np.ndarray) -> float:
    """CKA of two layers given as vectors."""
    return float(cka_of(unbiased_hsic(np.stack([one @ one.T, other @ other.T])))[0, 1])


def summed_over_tuples(one: np.ndarray, other: np.ndarray) -> float:
    """HSIC as the U-statistic that it is: the mean over all ordered quadruples of different tokens."""
    terms = [
        one[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(len(one)), 4)
    ]
    return float(np.mean(terms))


@given(seed=seeds, n_tokens=st.integers(4, 6))
def test_estimator_is_the_mean_over_all_quadruples(seed: int, n_tokens: int) -> None:
    """The closed form equals the sum over quadruples of different tokens that it abbreviates."""
    one, other = vectors(seed, n_tokens), vectors(seed + 1, n_tokens, width=3)
    grams = np.stack([one @ one.T, other @ other.T])
    found = unbiased_hsic(grams)
    for a in range(2):
        for b in range(2):
            assert found[a, b] == pytest.approx(summed_over_tuples(grams[a], grams[b]), rel=1e-8, abs=1e-6)


@given(seed=seeds)
def test_equal_layers_have_a_cka_of_one(seed: int) -> None:
    """CKA of a layer with itself is 1."""
    one = vectors(seed)
    assert cka_between(one, one.copy()) == pytest.approx(1.0, abs=1e-12)


@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_orthogonal_maps_and_isotropic_scaling_change_nothing(seed: int, scale: float, shift: float) -> None:
    """Rotating, scaling and shifting one layer leaves its CKA with another."""
    one, other = vectors(seed), vectors(seed + 1)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(7, 7)))[0]
    moved = scale * one @ rotation + shift
    assert cka_between(moved, other) == pytest.approx(cka_between(one, other), abs=1e-6)
    assert cka_between(moved, one) == pytest.approx(1.0, abs=1e-6)


@given(seed=seeds, n_tokens=st.integers(4, 30))
def test_cka_lies_between_minus_one_and_one(seed: int, n_tokens: int) -> None:
    """However few the tokens, CKA is within [-1, 1] to rounding."""
    assert abs(cka_between(vectors(seed, n_tokens), vectors(seed + 1, n_tokens))) <= 1 + 1e-9


def test_independent_layers_are_near_zero_on_average() -> None:
    """Over 300 samples of 8 tokens in 64 dimensions, where the biased estimator gives 0.9, the mean HSIC gives 0."""
    generator = np.random.default_rng(1)
    samples = generator.normal(size=(300, 2, 8, 64))
    hsic = np.mean([unbiased_hsic(sample @ sample.transpose(0, 2, 1)) for sample in samples], axis=0)
    centring = np.eye(8) - 1 / 8
    centred = [[centring @ one @ one.T @ centring for one in sample] for sample in samples]
    biased = np.mean([[[np.sum(a * b) for a in pair] for b in pair] for pair in centred], axis=0)
    assert abs(cka_of(hsic)[0, 1]) < 0.05
    assert cka_of(biased)[0, 1] > 0.8


def test_a_layer_that_holds_all_tokens_at_one_place_has_no_cka() -> None:
    """Where tokens do not differ there is nothing to compare: NaN, not a number of rounding."""
    hsic = unbiased_hsic(np.stack([np.ones((5, 5)), np.eye(5) + np.arange(5)[:, None] * np.arange(5)]))
    cka = cka_of(hsic)
    assert np.isnan(cka[0]).all()
    assert np.isnan(cka[:, 0]).all()
    assert cka[1, 1] == 1.0


def test_fewer_than_four_tokens_are_refused() -> None:
    """Three tokens cannot be estimated from without bias."""
    with pytest.raises(ValueError, match="at least 4 tokens, got 3"):
        unbiased_hsic(np.zeros((2, 3, 3)))
