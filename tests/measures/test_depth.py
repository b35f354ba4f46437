"""Profiles on a common grid of relative depth, against NumPy's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layertracer import UsageError
from layertracer.measures import interpolate_profile, relative_depth

curves = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(0, 1))


@given(values=curves)
def test_on_the_layers_themselves_nothing_changes(values: np.ndarray) -> None:
    """On the model's own depths every value comes back, to the last bit."""
    n_layers = values.shape[1]
    np.testing.assert_array_equal(interpolate_profile(values, relative_depth(n_layers)), values)


@given(values=curves, n_grid=st.integers(1, 30))
def test_interpolation_is_numpys(values: np.ndarray, n_grid: int) -> None:
    """Between the first and the last layer the line is NumPy's; before the first layer there is nothing."""
    depths, grid = relative_depth(values.shape[1]), relative_depth(n_grid)
    found = interpolate_profile(values, grid)
    is_before = grid < depths[0] - 1e-9
    expected = np.stack([np.interp(grid, depths, row) for row in values])
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(is_before, found.shape))
    np.testing.assert_allclose(found[:, ~is_before], expected[:, ~is_before], atol=1e-9)


@given(values=curves, n_grid=st.integers(1, 30))
def test_the_mean_of_profiles_is_the_profile_of_the_mean(values: np.ndarray, n_grid: int) -> None:
    """Averaging before or after the interpolation gives the same."""
    grid = relative_depth(n_grid)
    mean = interpolate_profile(values.mean(axis=0), grid)
    np.testing.assert_allclose(interpolate_profile(values, grid).mean(axis=0), mean, atol=1e-12)


def test_layers_without_values_are_bridged() -> None:
    """A layer without the site is left out: the line goes between its neighbours, and none begins before the first."""
    values = np.array([np.nan, 0.2, np.nan, 0.6])
    found = interpolate_profile(values, relative_depth(4))
    np.testing.assert_allclose(found, [np.nan, 0.2, 0.4, 0.6])


def test_nothing_to_interpolate_is_refused() -> None:
    """A model in which no layer has values, and a depth outside (0, 1], are refused."""
    with pytest.raises(UsageError, match="at least one layer that has values"):
        interpolate_profile(np.full((2, 3), np.nan), np.array([0.5]))
    with pytest.raises(UsageError, match=r"relative depths in \(0, 1\]"):
        interpolate_profile(np.zeros(3), np.array([0.0, 0.5]))
