"""The task particle: layer, interval and prompts."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from jaxtyping import Int

from layertracer import UsageError
from layertracer.measures import FirstTop1, HalfMax, OnsetCriterion, Ratio, Rise, TargetCurves, find_task_particle

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
    particle = find_task_particle(_steps(5, 5, 5), Rise())
    assert (particle.layer, particle.per_prompt, particle.share_found) == (5, (5, 5, 5), 1.0)
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


def _exact_shares(curves: TargetCurves, criterion: OnsetCriterion) -> dict[int, float]:
    """Probability of each layer over all resamples there are, found by writing them all down."""
    n_prompts = curves.log_prob.shape[0]
    shares: dict[int, float] = {}
    for rows in itertools.product(range(n_prompts), repeat=n_prompts):
        taken = list(rows)
        mean = make_curves(
            curves.prob[taken].mean(axis=0),
            np.asarray(curves.embedding_prob[taken].mean()),
            curves.top1_share[taken].mean(axis=0),
        )
        layer = int(criterion.find(mean))
        shares[layer] = shares.get(layer, 0.0) + n_prompts**-n_prompts
    return shares


@pytest.mark.parametrize("criterion", [Rise(), Ratio(), HalfMax(), FirstTop1()])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_interval_is_that_of_all_resamples(criterion: OnsetCriterion, level: float) -> None:
    """With 4 prompts there are 256 resamples; interval and share found are those of trying them all."""
    prob = np.full((4, 8), 0.01)
    for prompt, layer in enumerate((2, 4, 6)):
        prob[prompt, layer:] = (0.30, 0.60, 0.97)[prompt]
    curves = make_curves(prob)
    exact = _exact_shares(curves, criterion)
    particle = find_task_particle(curves, criterion, n_resamples=40_000, level=level, seed=3)
    found = 1.0 - exact.pop(-1, 0.0)
    assert particle.interval_share_found == pytest.approx(found, abs=0.01)
    assert particle.interval is not None
    assert (particle.interval.low, particle.interval.high) == (
        _quantile(exact, (1 - level) / 2),
        _quantile(exact, (1 + level) / 2),
    )


def _quantile(shares: dict[int, float], at: float) -> int:
    """The lowest layer whose cumulated share reaches `at`."""
    total, reached = sum(shares.values()), 0.0
    for layer in sorted(shares):
        reached += shares[layer] / total
        if reached >= at:
            return layer
    return max(shares)


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


def test_one_prompt_has_an_interval_without_width() -> None:
    """One prompt and one layer is enough to look, though not to doubt."""
    particle = find_task_particle(make_curves(np.array([[0.9]]), np.array([0.1])), Rise())
    assert particle.interval is not None
    assert (particle.layer, particle.interval.low, particle.interval.high) == (0, 0.0, 0.0)


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
