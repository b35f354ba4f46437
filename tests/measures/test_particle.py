"""The task particle: layer, interval and prompts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from jaxtyping import Int

from layertracer import UsageError
from layertracer.measures import (
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Ratio,
    Rise,
    Sampling,
    TargetCurves,
    find_task_particle,
)

from tests.strategies import make_curves


def _steps(*layers: int | None, n_layers: int = 8) -> TargetCurves:
    """One prompt a layer, whose probability rises from 1 % to 60 % there, or never."""
    prob = np.full((len(layers), n_layers), 0.01)
    for row, layer in zip(prob, layers, strict=True):
        if layer is not None:
            row[layer:] = 0.6
    return make_curves(prob, np.full(len(layers), 0.01))


def test_particle_of_prompts_that_agree() -> None:
    """Prompts that all rise at one layer give that layer, without doubt."""
    particle = find_task_particle(_steps(*[5] * 5), Rise())
    assert (particle.layer, particle.per_prompt, particle.share_found) == (5, (5,) * 5, 1.0)
    assert particle.interval is not None
    assert (particle.interval.low, particle.interval.high, particle.interval.level) == (5.0, 5.0, 0.95)
    assert particle.interval_share_found == 1.0
    assert particle.criterion == Rise().to_dict()


def test_none_is_an_answer() -> None:
    """Where no curve rises there is no layer and no interval, and the shares say 0."""
    particle = find_task_particle(_steps(None, None), Rise())
    assert (particle.layer, particle.interval, particle.per_prompt) == (None, None, (None, None))
    assert (particle.share_found, particle.interval_share_found) == (0.0, 0.0)


def test_a_prompt_without_numbers_leaves_no_mean() -> None:
    """A prompt with NaN has no layer, nor has the mean, while the other prompts keep theirs."""
    prob = np.array([[0.01, 0.6], [0.01, math.nan]])
    particle = find_task_particle(make_curves(prob), Rise())
    assert (particle.layer, particle.per_prompt) == (None, (1, None))


@pytest.mark.parametrize("criterion", [Rise(), Ratio(), HalfMax(), FirstTop1()])
@pytest.mark.parametrize("level", [0.5, 0.7, 0.95])
def test_interval_is_that_of_weights_drawn_by_numpy(criterion: OnsetCriterion, level: float) -> None:
    """With 9 prompts, interval and share found are those of NumPy's Dirichlet, one resample at a time, mirrored."""
    prob = np.full((9, 12), 0.01)
    for prompt, layer in enumerate((2, 4, 6, 6, 7, 7, 9)):
        prob[prompt, layer:] = (0.30, 0.60, 0.97, 0.6, 0.9, 0.7, 0.8)[prompt]
    curves = make_curves(prob)
    layers = []
    for weights in np.random.default_rng(11).dirichlet(np.full(9, 4 / 9), size=4000):
        mean = make_curves(
            weights @ curves.prob, np.asarray(weights @ curves.embedding_prob), weights @ curves.top1_share
        )
        layers.append(int(criterion.find(mean)))
    found = np.array([layer for layer in layers if layer >= 0])
    particle = find_task_particle(curves, criterion, n_resamples=40_000, level=level, seed=3)
    assert particle.interval_share_found == pytest.approx(len(found) / 4000, abs=0.02)
    assert particle.layer is not None
    assert (particle.interval is not None) == (particle.interval_share_found >= level)
    if particle.interval is None:
        assert isinstance(criterion, FirstTop1)
        return
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2), method="inverted_cdf")
    assert particle.interval.low == max(0, min(low, 2 * particle.layer - high))
    assert particle.interval.high == min(11, max(high, 2 * particle.layer - low))


class Knee:
    """A criterion from elsewhere: the layer of the largest second difference."""

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index."""
        return np.asarray(np.diff(curves.prob, 2, axis=-1).argmax(axis=-1) + 1)

    def to_dict(self) -> dict[str, Any]:
        """The name."""
        return {"kind": "knee"}


def test_a_criterion_from_elsewhere() -> None:
    """Anything with `find` and `to_dict` is a criterion."""
    particle = find_task_particle(_steps(5, 5), Knee())
    assert (particle.layer, particle.criterion) == (4, {"kind": "knee"})


@pytest.mark.parametrize(
    ("n_prompts", "note", "has_interval"),
    [
        (1, "one prompt: no interval", False),
        (4, "4 prompts: no interval below 5", False),
        (5, "5 prompts: below 8 an interval may hold less often than it says", True),
        (7, "7 prompts: below 8 an interval may hold less often than it says", True),
        (8, None, True),
    ],
)
def test_few_prompts_are_said(n_prompts: int, note: str | None, has_interval: bool) -> None:
    """Below five prompts there is no interval, below eight a word of warning; one prompt is enough to look."""
    particle = find_task_particle(_steps(*[5] * n_prompts), Rise())
    assert (particle.layer, particle.note, particle.interval is not None) == (5, note, has_interval)


def test_few_sets_of_demonstrations_are_said() -> None:
    """Forty prompts behind three sets of demonstrations are three cases, not forty."""
    sampling = Sampling(units=tuple(prompt % 3 for prompt in range(40)))
    particle = find_task_particle(_steps(*[5] * 40), Rise(), sampling=sampling)
    assert (particle.note, particle.interval) == ("3 sets of demonstrations: no interval below 5", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_resamples": 0}, "n_resamples must be at least 1, got 0"),
        ({"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ({"level": 0.0}, "level must be between 0 and 1, got 0.0"),
        ({"level": math.nan}, "level must be between 0 and 1, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    """Resamples, coverage and seed are refused with the value and the range."""
    with pytest.raises(UsageError, match=message):
        find_task_particle(_steps(5, 5), Rise(), **arguments)


def test_no_prompt_is_refused() -> None:
    """Without a prompt there is no particle."""
    with pytest.raises(UsageError, match=r"find_task_particle needs .* at least one prompt, got shape \[0, 4\]"):
        find_task_particle(make_curves(np.zeros((0, 4))), Rise())


def test_a_single_curve_is_refused() -> None:
    """A curve without a prompt axis is refused, with the remedy."""
    with pytest.raises(UsageError, match=r"got shape \[4\].*log_prob\[None\]"):
        find_task_particle(make_curves(np.full(4, 0.1)), Rise())


def test_a_layer_that_resamples_do_not_find_has_no_interval() -> None:
    """One prompt of twelve makes the rise: resamples that weigh it at less than 0.01 / 0.59 find none, and it is said.

    Its weight is Beta with 7/12 and 77/12.
    """
    particle = find_task_particle(_steps(5, *[None] * 11), Rise())
    lost = float(np.mean(np.random.default_rng(7).beta(7 / 12, 77 / 12, 200_000) < 0.01 / 0.59))
    assert particle.layer == 5
    assert particle.interval_share_found == pytest.approx(1 - lost, abs=0.02)
    assert particle.interval_share_found < 0.95
    assert particle.interval is None
    share = f"{100 * (1 - particle.interval_share_found):.0f} %"
    assert particle.note == f"in {share} of resamples there is none: no interval"


def test_a_layer_that_nearly_all_resamples_find_has_an_interval() -> None:
    """Where at least the level's share of the resamples finds a layer, its interval is stated."""
    particle = find_task_particle(_steps(*[5] * 6, *[None] * 6), Rise())
    assert particle.interval_share_found >= 0.95
    assert (particle.interval is not None, particle.note) == (True, None)
