"""The first layer that qualifies: ties, rounding, NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layertracer.measures._first_layer import ROUNDING, as_optional, first_largest, first_true


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e12, -1e12])
def test_ties_within_rounding_go_to_the_lowest_layer(size: float) -> None:
    """Scores that differ by less than rounding are equal, whatever their size."""
    scores = size + max(1.0, abs(size)) * ROUNDING * np.array([0.0, 0.5, 0.2])
    assert int(first_largest(scores, above=-math.inf)) == 0


def test_more_than_rounding_is_a_difference() -> None:
    """Scores that differ by more than rounding are told apart."""
    assert int(first_largest(np.array([0.5, 0.5 + 3 * ROUNDING]))) == 1


def test_a_largest_score_that_is_rounding_is_none() -> None:
    """Where nothing exceeds rounding there is no layer, unless one is asked for whatever the scores."""
    scores = np.array([-1.0, ROUNDING / 2])
    assert int(first_largest(scores)) == -1
    assert int(first_largest(scores, above=-math.inf)) == 1


def test_nan_is_none() -> None:
    """NaN among the scores leaves no layer, and the scores beside them keep theirs."""
    assert first_largest(np.array([[1.0, math.nan], [1.0, 2.0]])).tolist() == [-1, 1]


def test_first_flag() -> None:
    """The first flag that is set, or none."""
    layers = first_true(np.array([[False, True, True], [False, False, False]]))
    assert as_optional(layers) == (1, None)
