"""Onset criteria, held against their definitions in exact arithmetic, and at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import (
    AbsRatio,
    ChangePoint,
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Ratio,
    Rise,
    TargetCurves,
)

from tests.strategies import make_curves, target_curves
from tests.support.oracles import onsets as naive


def _as_percents(curves: TargetCurves) -> list[list[int]]:
    path = np.concatenate([curves.embedding_prob[:, None], curves.prob], axis=1)
    return np.rint(100 * path).astype(int).tolist()


def _found(criterion: OnsetCriterion, curves: TargetCurves) -> list[int | None]:
    return [None if layer == -1 else layer for layer in criterion.find(curves).tolist()]


def _find_one(criterion: OnsetCriterion, *percents: float, embedding: float = 1.0) -> int | None:
    """The layer in a single curve given in percents."""
    curves = make_curves(np.array([percents]) / 100, np.array([embedding]) / 100)
    return _found(criterion, curves)[0]


@given(
    curves=target_curves(),
    delta=st.integers(1, 100),
    sigmas=st.one_of(st.none(), st.integers(0, 4)),
    floor=st.integers(0, 100),
)
def test_rise_is_its_definition(curves: TargetCurves, delta: int, sigmas: int | None, floor: int) -> None:
    """`Rise` finds what exact arithmetic finds, ties included."""
    criterion = Rise(delta=delta / 100, sigmas=math.inf if sigmas is None else float(sigmas), floor=floor / 100)
    exact = {"delta": Fraction(delta, 100), "floor": Fraction(floor, 100)}
    assert _found(criterion, curves) == [naive.rise(path, sigmas=sigmas, **exact) for path in _as_percents(curves)]


@given(curves=target_curves(), first_layer=st.integers(0, 11))
def test_ratio_is_its_definition(curves: TargetCurves, first_layer: int) -> None:
    """`Ratio` finds what exact quotients find, zero probabilities and too few layers included."""
    expected = [naive.ratio(path, first_layer=first_layer) for path in _as_percents(curves)]
    assert _found(Ratio(first_layer=first_layer), curves) == expected


@given(curves=target_curves(smallest_percent=1))
def test_ratio_is_the_formula_of_the_paper(curves: TargetCurves) -> None:
    """Where the paper's ratio (P[i] - P[i-1]) / P[i] is positive and does not saturate, its argmax is the layer."""
    path = np.concatenate([curves.embedding_prob[:, None], curves.prob], axis=1)
    ratios = np.diff(path, axis=1) / path[:, 1:]
    for layer, of_paper in zip(_found(Ratio(first_layer=0), curves), ratios, strict=True):
        if layer is None:
            assert of_paper.max() <= 1e-9
        else:
            assert of_paper[layer] == pytest.approx(of_paper.max(), abs=1e-9)


@given(curves=target_curves(), eps=st.sampled_from([Fraction(1, 10**6), Fraction(1, 1000), Fraction(1, 2)]))
def test_abs_ratio_is_its_definition(curves: TargetCurves, eps: Fraction) -> None:
    """`AbsRatio` finds what exact quotients find."""
    expected = [naive.abs_ratio(path, eps=eps) for path in _as_percents(curves)]
    assert _found(AbsRatio(eps=float(eps)), curves) == expected


def test_abs_ratio_divides_by_eps_where_nothing_is_left() -> None:
    """A fall from 10 % to nothing wins for a small eps; for a large one the fall by 80 % does."""
    assert _find_one(AbsRatio(eps=1e-6), 90.0, 10.0, 0.0, embedding=10.0) == 2
    assert _find_one(AbsRatio(eps=1.0), 90.0, 10.0, 0.0, embedding=10.0) == 1


@given(curves=target_curves())
def test_half_max_is_its_definition(curves: TargetCurves) -> None:
    """`HalfMax` finds what whole numbers find."""
    assert _found(HalfMax(), curves) == [naive.half_max(path) for path in _as_percents(curves)]


@given(curves=target_curves())
def test_first_top1_is_its_definition(curves: TargetCurves) -> None:
    """`FirstTop1` finds the start of the last unbroken run of top tokens."""
    assert _found(FirstTop1(), curves) == [naive.first_top1(top) for top in (curves.top1_share == 1.0).tolist()]


@given(curves=target_curves())
def test_change_point_is_its_definition(curves: TargetCurves) -> None:
    """`ChangePoint` finds the split that trying all of them finds."""
    assert _found(ChangePoint(), curves) == [naive.change_point(path) for path in _as_percents(curves)]


def test_sigma_rule_needs_two_earlier_values() -> None:
    """At layer 0 only the embeddings come before: a rise by 3 % counts from layer 1 on, by 5 % at once."""
    assert _find_one(Rise(), 4.0, 4.0, embedding=1.0) is None
    assert _find_one(Rise(), 1.0, 4.0, embedding=1.0) == 1
    assert _find_one(Rise(), 6.0, 6.0, embedding=1.0) == 0


def test_sigma_rule_takes_the_standard_deviation_of_the_population() -> None:
    """After 0 and 20 % the mean is 10 and the deviation 10 (not 14): two of them are exceeded by 35 %."""
    assert _find_one(Rise(delta=0.5), 20.0, 35.0, embedding=0.0) == 1
    assert _find_one(Rise(delta=0.5), 20.0, 29.0, embedding=0.0) is None


def test_floor_keeps_the_sigma_rule_from_noise() -> None:
    """In a flat curve a rise of 1e-9 is many standard deviations and no rise."""
    curves = make_curves(np.array([[1e-9, 1e-9, 2e-9, 1e-8]]))
    assert _found(Rise(), curves) == [None]


def test_rise_of_exactly_delta_counts() -> None:
    """0.15 - 0.10 is 0.05, although not in floating point."""
    assert _find_one(Rise(sigmas=math.inf), 10.0, 15.0, embedding=10.0) == 1


def test_rounding_in_a_flat_curve_is_no_rise() -> None:
    """Without a floor, differences of the last bit still find nothing."""
    flat = np.array([[0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2]])
    for criterion in (Rise(floor=0.0), Ratio(first_layer=0), ChangePoint()):
        assert _found(criterion, make_curves(flat)) == [None], criterion


def test_ratio_does_not_saturate() -> None:
    """Of two enormous gains the larger one is found, though both ratios are 1 in floating point."""
    curves = TargetCurves(
        log_prob=np.array([[-300.0, -200.0, -1.0]]), embedding_log_prob=np.array([-300.0]), top1_share=np.zeros((1, 3))
    )
    assert _found(Ratio(), curves) == [2]


def test_ratio_leaves_out_the_embeddings() -> None:
    """The step to layer 0 counts only where `first_layer` says so."""
    assert _find_one(Ratio(), 30.0, 40.0, embedding=0.1) == 1
    assert _find_one(Ratio(first_layer=0), 30.0, 40.0, embedding=0.1) == 0


def test_nothing_gained_is_no_onset() -> None:
    """A curve that only falls has no rise of any kind, however small its least fall is."""
    for criterion in (Rise(), Ratio(first_layer=0), ChangePoint(), FirstTop1()):
        assert _find_one(criterion, 40.0, 20.0, 19.0, embedding=50.0) is None, criterion


def test_abs_ratio_finds_drops() -> None:
    """The follow-up's ratio prefers a fall from 90 % to 20 % to the rise before it."""
    assert _find_one(AbsRatio(), 10.0, 90.0, 20.0, embedding=10.0) == 2


def test_half_of_the_prompts_is_enough_for_top1() -> None:
    """In a mean curve the target is on top where it is for at least half of the prompts."""
    share = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    mean = make_curves(np.full((2, 3), 0.5), top1_share=share).mean()
    assert int(FirstTop1().find(mean)) == 1


def test_half_of_many_prompts_is_exactly_half() -> None:
    """7 of 14 prompts are half of them, whatever the rounding."""
    share = np.repeat([[0.0], [1.0]], 7, axis=0)
    assert int(FirstTop1().find(make_curves(np.full((14, 1), 0.5), top1_share=share).mean())) == 0


def test_change_point_of_certainty() -> None:
    """Probabilities of exactly 0 and 1 have log-odds that are numbers."""
    assert _find_one(ChangePoint(), 0.0, 0.0, 100.0, 100.0) == 2


def test_change_point_leaves_out_noise_below_float32() -> None:
    """Below 6e-8, where float32 sees no difference from 0, a change is none."""
    curves = make_curves(np.array([[1e-30, 1e-20, 1e-9, 1e-9]]))
    assert _found(ChangePoint(), curves) == [None]


@pytest.mark.parametrize("criterion", [Rise(), Ratio(), AbsRatio(), HalfMax(), ChangePoint()])
def test_nan_has_no_onset(criterion: OnsetCriterion) -> None:
    """A curve with NaN anywhere has no onset, and the curve beside it keeps its own."""
    curves = make_curves(np.array([[0.01, 0.01, 0.9, math.nan], [0.01, 0.01, 0.9, 0.9]]))
    assert _found(criterion, curves) == [None, 2]


def test_nan_in_the_share_has_no_onset() -> None:
    """`FirstTop1` finds nothing where a share is NaN."""
    curves = make_curves(np.full((1, 3), 0.5), top1_share=np.array([[math.nan, 1.0, 1.0]]))
    assert _found(FirstTop1(), curves) == [None]


def test_nan_from_the_embeddings_matters_to_those_who_look() -> None:
    """Without a reading of the embeddings `Rise` finds nothing; `Ratio` from layer 1 on does not look at it."""
    assert _find_one(Rise(), 1.0, 90.0, embedding=math.nan) is None
    assert _find_one(Ratio(), 1.0, 90.0, embedding=math.nan) == 1
    assert _find_one(Ratio(first_layer=0), 1.0, 90.0, embedding=math.nan) is None


@pytest.mark.parametrize("criterion", [Ratio(), ChangePoint()])
def test_one_layer_has_nothing_to_compare(criterion: OnsetCriterion) -> None:
    """Criteria that leave out the embeddings find nothing in a model of one layer."""
    assert _find_one(criterion, 90.0, embedding=1.0) is None


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rise(delta=0.0), r"Rise needs delta to be a number in \(0, 1\], got 0.0"),
        (lambda: Rise(delta=1.5), r"Rise needs delta to be a number in \(0, 1\], got 1.5"),
        (lambda: Rise(delta=math.nan), r"Rise needs delta .* got nan"),
        (lambda: Rise(delta="0.05"), r"Rise needs delta .* got '0.05'"),
        (lambda: Rise(delta=True), r"Rise needs delta .* got True"),
        (lambda: Rise(sigmas=-1.0), r"Rise needs sigmas to be a number in \[0, inf\], got -1.0"),
        (lambda: Rise(floor=-0.1), r"Rise needs floor to be a number in \[0, 1\], got -0.1"),
        (lambda: AbsRatio(eps=0.0), r"AbsRatio needs eps to be a number in \(0, 1\], got 0.0"),
        (lambda: Ratio(first_layer=-1), r"Ratio needs first_layer to be a whole number of at least 0, got -1"),
        (lambda: Ratio(first_layer=1.5), r"Ratio needs first_layer .* got 1.5"),
        (lambda: Ratio(first_layer=True), r"Ratio needs first_layer .* got True"),
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], OnsetCriterion], message: str) -> None:
    """A parameter out of its range is refused with its name, the value and the range."""
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.usefixtures("unchecked_shapes")
def test_whole_numbers_become_floats() -> None:
    """A threshold given as a whole number is the same criterion."""
    assert Rise(delta=1, sigmas=2, floor=0) == Rise(delta=1.0, sigmas=2.0, floor=0.0)
