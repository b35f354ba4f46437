"""Placements that nobody searched for, by hand and against what was published."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from layertracer.advice import published_placements
from layertracer.hybrids._placing.baselines import (
    around_particle,
    joint_js,
    most_vulnerable,
    random_placements,
    uniform_placements,
)

LAYERS = tuple(range(30))


class TestUniform:
    """Evenly spaced layers."""

    def test_published_uniform_lists_are_among_them(self) -> None:
        """Every published uniform list is one of the two, but for one whose step is rounded up (36 layers, 5 kept)."""
        lists = [one for one in published_placements() if one.selector == "uniform"]
        missing = [
            one for one in lists if one.layers not in uniform_placements(tuple(range(one.n_layers)), len(one.layers))
        ]
        assert len(lists) > 10
        assert [(one.n_layers, len(one.layers)) for one in missing] == [(36, 5)]

    @pytest.mark.parametrize("size", range(1, 31))
    def test_gaps_differ_by_one_at_most(self, size: Any) -> None:
        """Evenly spaced, distinct, of the size asked for."""
        for kept in uniform_placements(LAYERS, size):
            assert len(set(kept)) == size
            assert list(kept) == sorted(kept)
            assert size == 1 or np.ptp(np.diff(kept)) <= 1

    def test_only_placeable_layers_are_taken(self) -> None:
        """Where only some layers can be placed, the spacing is among those."""
        assert uniform_placements((3, 7, 11, 15), 2) == ((7, 15), (3, 11))
        assert uniform_placements(LAYERS, 0) == ((),)


class TestRandom:
    """Layers drawn at random."""

    def test_they_are_distinct_and_of_the_seed(self) -> None:
        """Equal seeds draw alike, others otherwise; none twice."""
        first = random_placements(LAYERS, 8, n=200, seed=0)
        assert len(set(first)) == 200
        assert first == random_placements(LAYERS, 8, n=200, seed=0)
        assert first != random_placements(LAYERS, 8, n=200, seed=1)
        assert all(list(kept) == sorted(set(kept)) and len(kept) == 8 for kept in first)

    def test_layers_are_drawn_alike(self) -> None:
        """Each layer is kept in about its share of them."""
        drawn = random_placements(LAYERS, 6, n=2_000, seed=3)
        counts = np.bincount(np.concatenate(drawn), minlength=30) / 2_000
        assert np.abs(counts - 0.2).max() < 4 * math.sqrt(0.2 * 0.8 / 2_000)

    def test_few_are_all_taken(self) -> None:
        """Where there are no more than asked for, they are all there."""
        assert len(random_placements(tuple(range(8)), 2, n=200, seed=0)) == 28
        assert random_placements((2, 5), 2, n=200, seed=0) == ((2, 5),)


class TestByMeasuresOfTheTrace:
    """Layers named by a trace."""

    def test_most_vulnerable_are_the_largest_of_those_that_have_one(self) -> None:
        """Layers without the site, and those that cannot be placed, are no candidates."""
        js = np.array([0.9, np.nan, 0.5, 0.7, 0.1])
        assert most_vulnerable(js, (1, 2, 3, 4), 2) == (2, 3)
        assert most_vulnerable(js, (1, 2), 2) is None

    def test_around_the_particle_the_nearest_are_kept(self) -> None:
        """Nearest first, the lower of two."""
        assert around_particle(0, LAYERS, 3) == (0, 1, 2)
        assert around_particle(29, LAYERS, 3) == (27, 28, 29)
        assert around_particle(10, (2, 9, 13, 20), 2) == (9, 13)

    def test_the_joint_js_adds_shares_of_the_largest(self) -> None:
        """Each site counts by its own scale; a layer without one of them has none; zeros stay zeros."""
        mixer, state = np.array([0.2, 0.4, np.nan]), np.array([0.01, 0.0, 0.02])
        np.testing.assert_allclose(joint_js(mixer, state), [1.0, 1.0, np.nan])
        np.testing.assert_allclose(joint_js(np.zeros(2), np.zeros(2)), 0.0)
