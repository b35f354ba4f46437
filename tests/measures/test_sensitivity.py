"""How far the particle moves with the threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layertracer import UsageError
from layertracer.measures import (
    AbsRatio,
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Ratio,
    Rise,
    TargetCurves,
    find_task_particle,
    sweep_delta,
    sweep_onset,
)

from tests.strategies import make_curves

STAIRS = make_curves(np.array([[0.01, 0.045, 0.10, 0.17, 0.9], [0.01, 0.01, 0.01, 0.01, 0.065]]))
THRESHOLD_ALONE = Rise(sigmas=math.inf)


def test_defaults_are_those_of_the_paper_around_five_percent() -> None:
    """Without thresholds the sweep goes from 0.03 to 0.08."""
    assert sweep_delta(STAIRS).deltas == (0.03, 0.04, 0.05, 0.06, 0.07, 0.08)


def test_each_threshold_is_a_rise() -> None:
    """Every threshold gives the layer of the mean curve and the share of the prompts that `Rise` gives."""
    sweep = sweep_delta(STAIRS, (0.01, 0.03, 0.06, 0.5), criterion=THRESHOLD_ALONE)
    assert sweep.layers == (1, 3, 4, None)
    assert sweep.share_found == (1.0, 1.0, 0.5, 0.5)


def test_spread_is_between_the_thresholds_that_find_one() -> None:
    """The spread is the highest less the lowest layer; thresholds without a layer do not count."""
    assert sweep_delta(STAIRS, (0.5, 0.06, 0.01), criterion=THRESHOLD_ALONE).spread == 3
    assert sweep_delta(STAIRS, (0.5, 0.9), criterion=THRESHOLD_ALONE).spread is None


def test_other_parameters_stay() -> None:
    """The rule of sigmas finds its layer whatever the threshold, unless the criterion says otherwise."""
    assert set(sweep_delta(STAIRS).layers) == {1}


def test_no_threshold_is_refused() -> None:
    """A sweep over nothing is refused."""
    with pytest.raises(UsageError, match="sweep_delta needs at least one threshold, got none"):
        sweep_delta(STAIRS, ())


def test_a_threshold_out_of_range_is_refused() -> None:
    """A threshold that `Rise` refuses is refused in its words."""
    with pytest.raises(UsageError, match=r"Rise needs delta to be a number in \(0, 1\], got 1.5"):
        sweep_delta(STAIRS, (0.03, 1.5))


def test_no_prompt_is_refused() -> None:
    """Without a prompt there is nothing to sweep."""
    with pytest.raises(UsageError, match=r"sweep_delta needs curves .* at least one prompt"):
        sweep_delta(make_curves(np.zeros((0, 3))))


@pytest.mark.parametrize(
    ("criterion", "parameter", "value"),
    [
        (Rise(), "delta", 0.05),
        (Rise(delta=0.2, sigmas=1.0, floor=0.03), "delta", 0.2),
        (THRESHOLD_ALONE, "delta", 0.05),
        (Ratio(), "first_layer", 1),
        (Ratio(first_layer=3), "first_layer", 3),
        (AbsRatio(eps=3e-3), "eps", 3e-3),
    ],
)
def test_a_sweep_says_what_the_criterion_says(criterion: OnsetCriterion, parameter: str, value: float) -> None:
    """The criterion's own value is in the sweep, and there the sweep has the particle's layer and share."""
    sweep, particle = sweep_onset(STAIRS, criterion), find_task_particle(STAIRS, criterion)
    place = sweep.values.index(value)
    assert sweep.parameter == parameter
    assert list(sweep.values) == sorted(set(sweep.values))
    assert (sweep.layers[place], sweep.share_found[place]) == (particle.layer, particle.share_found)


@pytest.mark.parametrize("criterion", [FirstTop1(), HalfMax()])
def test_a_criterion_without_a_parameter_has_no_sweep(criterion: OnsetCriterion) -> None:
    """Where there is nothing to vary the sweep is empty and names no parameter."""
    sweep = sweep_onset(STAIRS, criterion)
    assert (sweep.parameter, sweep.values, sweep.layers, sweep.share_found, sweep.spread) == (None, (), (), (), None)


def _rising_by(*gains: float) -> TargetCurves:
    """One curve that stays at 0.01 for a layer, and then gains so much from layer to layer."""
    return make_curves(np.cumsum([[0.01, *gains]], axis=1), np.array([0.01]))


def test_a_layer_of_the_sigma_rule_is_not_deltas() -> None:
    """A gain of 0.02 over a flat start is found by sigmas at every delta; by delta alone it is the gain of 0.5."""
    sweep = sweep_onset(_rising_by(0.02, 0.02, 0.5), Rise())
    assert set(sweep.layers) == {1}
    assert sweep.note == "found by the sigma rule: delta does not bear on it; by delta alone: layer 3"
    assert sweep_onset(_rising_by(0.02, 0.02), Rise()).note == (
        "found by the sigma rule: delta does not bear on it; by delta alone: no layer"
    )


def test_a_layer_that_small_deltas_move_is_said_to_be_found_by_sigmas_at_the_delta_used() -> None:
    """Layer 0 has no sigma rule: its gain of 0.035 counts at delta 0.03 alone, and above that layer 1's by sigmas."""
    curves = make_curves(np.array([[0.045, 0.085, 0.6]]), np.array([0.01]))
    sweep = sweep_onset(curves, Rise())
    assert sweep.layers[0] == 0
    assert sweep.layers[-1] == 1
    assert sweep.note == "at delta 0.05 found by the sigma rule; by delta alone: layer 2"


@pytest.mark.parametrize("criterion", [Rise(sigmas=math.inf), Rise(delta=0.02), Ratio(), HalfMax()])
def test_nothing_is_said_where_the_parameter_decides(criterion: OnsetCriterion) -> None:
    """Where delta finds the layer by itself, or there is no sigma rule, there is no note."""
    assert sweep_onset(_rising_by(0.02, 0.02, 0.5), criterion).note is None
    assert sweep_onset(_rising_by(0.0, 0.5, 0.3), Rise()).note is None
