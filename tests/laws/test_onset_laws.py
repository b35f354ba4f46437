"""Laws of the onset criteria and of the task particle, on generated curves."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layertracer.measures import (
    AbsRatio,
    ChangePoint,
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Ratio,
    Rise,
    TargetCurves,
    find_task_particle,
    sweep_delta,
)

from tests.strategies import make_curves, onset_criteria, target_curves, upward_criteria

SOME = 50


def _or_late(layers: np.ndarray) -> np.ndarray:
    """Layers with "none" later than all of them, so that "not earlier" can be compared."""
    return np.where(layers == -1, 10**6, layers)


@given(curves=target_curves(), deltas=st.tuples(st.floats(0.001, 1.0), st.floats(0.001, 1.0)))
def test_a_larger_delta_is_never_earlier(curves: TargetCurves, deltas: tuple[float, float]) -> None:
    """With the rule of sigmas off, a larger threshold finds the same layer, a later one, or none."""
    smaller, larger = (Rise(delta=delta, sigmas=math.inf).find(curves) for delta in sorted(deltas))
    assert (_or_late(smaller) <= _or_late(larger)).all()


@given(curves=target_curves(), sigmas=st.floats(0.0, 5.0))
def test_the_sigma_rule_only_adds(curves: TargetCurves, sigmas: float) -> None:
    """With the rule of sigmas on, no layer is later than with it off."""
    off, on = Rise(sigmas=math.inf).find(curves), Rise(sigmas=sigmas).find(curves)
    assert (_or_late(on) <= _or_late(off)).all()


@given(curves=target_curves())
def test_sweep_is_monotone(curves: TargetCurves) -> None:
    """With the rule of sigmas off, layers of the sweep never fall and shares never grow."""
    sweep = sweep_delta(curves, criterion=Rise(sigmas=math.inf))
    layers = [10**6 if layer is None else layer for layer in sweep.layers]
    assert layers == sorted(layers)
    assert list(sweep.share_found) == sorted(sweep.share_found, reverse=True)


@given(curves=target_curves(), criterion=onset_criteria())
def test_a_stack_is_its_curves(curves: TargetCurves, criterion: OnsetCriterion) -> None:
    """The layer of a curve does not depend on what it is stacked with, nor on how many axes lead."""
    together = criterion.find(curves)
    for prompt, layer in enumerate(together):
        alone = TargetCurves(
            log_prob=curves.log_prob[prompt],
            embedding_log_prob=np.asarray(curves.embedding_log_prob[prompt]),
            top1_share=curves.top1_share[prompt],
        )
        assert criterion.find(alone).shape == ()
        assert int(criterion.find(alone)) == layer
    doubled = TargetCurves(
        log_prob=np.stack([curves.log_prob] * 2)[:, None],
        embedding_log_prob=np.stack([curves.embedding_log_prob] * 2)[:, None],
        top1_share=np.stack([curves.top1_share] * 2)[:, None],
    )
    np.testing.assert_array_equal(criterion.find(doubled), np.stack([together] * 2)[:, None])


@given(curves=target_curves(), criterion=onset_criteria())
def test_a_layer_is_one_of_the_model(curves: TargetCurves, criterion: OnsetCriterion) -> None:
    """Every criterion gives a layer that exists, or -1, and never an infinity or a fraction."""
    layers = criterion.find(curves)
    assert np.issubdtype(layers.dtype, np.integer)
    assert ((layers >= -1) & (layers < curves.n_layers)).all()


@given(curves=target_curves(smallest_percent=1), scale=st.floats(1e-6, 1.0))
def test_ratios_do_not_see_the_scale(curves: TargetCurves, scale: float) -> None:
    """`Ratio` and `HalfMax` find the same layer after scaling all probabilities."""
    scaled = make_curves(curves.prob * scale, curves.embedding_prob * scale)
    for criterion in (Ratio(), Ratio(first_layer=0), HalfMax()):
        np.testing.assert_array_equal(criterion.find(scaled), criterion.find(curves))


@given(curves=target_curves())
def test_half_max_is_not_later_than_the_maximum(curves: TargetCurves) -> None:
    """Half of the largest probability is reached before or with the largest, unless all are zero."""
    layers = HalfMax().find(curves)
    found = layers != -1
    assert (layers <= curves.prob.argmax(axis=-1)).all()
    np.testing.assert_array_equal(found, curves.prob.max(axis=-1) > 0)


@given(curves=target_curves())
def test_top1_holds_from_the_layer_on_and_not_before(curves: TargetCurves) -> None:
    """From the layer found the target is on top to the end; in the layer before it is not."""
    for layer, top in zip(FirstTop1().find(curves), curves.top1_share, strict=True):
        start = len(top) if layer == -1 else layer
        assert (top[start:] == 1.0).all()
        assert start == 0 or top[start - 1] == 0.0


@given(
    n_layers=st.integers(2, 40),
    data=st.data(),
    low=st.floats(1e-6, 0.01),
    high=st.floats(0.2, 0.999),
    criterion=upward_criteria(),
)
def test_a_planted_step_is_found(
    n_layers: int, data: st.DataObject, low: float, high: float, criterion: OnsetCriterion
) -> None:
    """A step in a flat curve is found at its layer by every criterion that looks for a rise."""
    layer = data.draw(st.integers(1, n_layers - 1))
    prob = np.full((1, n_layers), low)
    prob[0, layer:] = high
    assert criterion.find(make_curves(prob)).tolist() == [layer]


@given(
    n_layers=st.integers(3, 40),
    data=st.data(),
    noise=hnp.arrays(np.float64, 40, elements=st.floats(0.5, 1.0)),
    criterion=upward_criteria(),
)
def test_a_planted_step_is_found_in_noise(
    n_layers: int, data: st.DataObject, noise: np.ndarray, criterion: OnsetCriterion
) -> None:
    """Noise by a factor of two below 0.2 % and above 40 % hides the step from no criterion."""
    layer = data.draw(st.integers(1, n_layers - 1))
    prob = np.where(np.arange(n_layers) < layer, 0.002, 0.8)[None] * noise[:n_layers]
    assert criterion.find(make_curves(prob)).tolist() == [layer]


@given(curves=target_curves())
def test_a_falling_curve_has_no_rise(curves: TargetCurves) -> None:
    """Sorted downwards, no curve has a rise of any kind."""
    falling = -np.sort(-np.concatenate([curves.embedding_prob[:, None], curves.prob], axis=1), axis=1)
    down = make_curves(falling[:, 1:], falling[:, 0])
    for criterion in (Rise(), Ratio(first_layer=0), ChangePoint()):
        assert set(criterion.find(down)) == {-1}


@given(before=st.integers(2, 100), data=st.data())
def test_abs_ratio_prefers_drops(before: int, data: st.DataObject) -> None:
    """A drop to less than half, well above eps, beats every rise."""
    after = data.draw(st.integers(1, (before - 1) // 2 or 1).filter(lambda value: 2 * value < before))
    rise = data.draw(st.integers(1, before - 1))
    prob = np.array([[rise, before, after]]) / 100
    assert AbsRatio().find(make_curves(prob)).tolist() == [2]


@given(curves=target_curves(), criterion=onset_criteria(), data=st.data())
def test_permuting_prompts_permutes_per_prompt(
    curves: TargetCurves, criterion: OnsetCriterion, data: st.DataObject
) -> None:
    """The order of the prompts is the order of `per_prompt`, and nothing else."""
    order = np.array(data.draw(st.permutations(range(curves.log_prob.shape[0]))))
    shuffled = TargetCurves(
        log_prob=curves.log_prob[order],
        embedding_log_prob=curves.embedding_log_prob[order],
        top1_share=curves.top1_share[order],
    )
    here = find_task_particle(curves, criterion, n_resamples=SOME)
    there = find_task_particle(shuffled, criterion, n_resamples=SOME)
    assert there.per_prompt == tuple(here.per_prompt[prompt] for prompt in order)
    assert there.share_found == here.share_found
    assert there.layer == here.layer


@given(curves=target_curves(), criterion=onset_criteria(), seed=st.integers(0, 2**31))
def test_equal_seeds_give_equal_particles(curves: TargetCurves, criterion: OnsetCriterion, seed: int) -> None:
    """The same curves, criterion and seed give the same particle in every field."""
    first, second = (find_task_particle(curves, criterion, n_resamples=SOME, seed=seed) for _ in range(2))
    assert first == second


@given(curves=target_curves(max_prompts=1), criterion=onset_criteria(), copies=st.integers(1, 6))
def test_identical_prompts_leave_no_doubt(curves: TargetCurves, criterion: OnsetCriterion, copies: int) -> None:
    """Copies of one prompt have the layer of that prompt, and, where they are five or more, an interval of it alone."""
    same = TargetCurves(
        log_prob=np.repeat(curves.log_prob, copies, axis=0),
        embedding_log_prob=np.repeat(curves.embedding_log_prob, copies, axis=0),
        top1_share=np.repeat(curves.top1_share, copies, axis=0),
    )
    particle = find_task_particle(same, criterion, n_resamples=SOME)
    assert set(particle.per_prompt) == {particle.layer}
    if particle.layer is None:
        assert (particle.interval, particle.interval_share_found) == (None, 0.0)
    elif particle.interval is None:
        assert len(particle.per_prompt) < 5
    else:
        assert particle.interval.low == particle.interval.high == particle.layer
        assert particle.interval_share_found == 1.0
