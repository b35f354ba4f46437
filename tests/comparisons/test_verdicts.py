"""Verdicts on planted families: what is there is found, and little data decide nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from layertracer import Rise, UsageError
from layertracer.comparisons import ModelComparison, Verdict

from tests.comparisons.conftest import compare_fast
from tests.support.records.model_records import ATTENTION, HYBRID, MAMBA, make_model, make_sizes

DEEP, ROBUST = "deep_particles", "larger_is_more_robust"


def _robust(comparison: ModelComparison) -> Verdict:
    return comparison.verdict("larger_is_more_robust")


@pytest.mark.parametrize(("exponent", "outcome"), [(-0.3, "supported"), (0.3, "contradicted")])
def test_a_planted_power_law_is_found(exponent: float, outcome: str) -> None:
    """Five sizes whose divergence falls (rises) with a power of their size support (contradict) claim 2."""
    comparison = compare_fast(make_sizes(exponent))
    verdict = _robust(comparison)
    assert verdict.outcome == outcome
    assert verdict.statistic == pytest.approx(exponent, abs=0.05)
    assert (verdict.n_models, verdict.n_sizes, verdict.p_value) == (5, 5, pytest.approx(1 / 60))
    assert verdict.interval is not None
    assert verdict.interval.low < exponent + 0.05
    assert comparison.trends[0].tau == (-1.0 if exponent < 0 else 1.0)


def test_no_trend_is_undecided() -> None:
    """Five sizes without a trend leave claim 2 undecided."""
    assert _robust(compare_fast(make_sizes(0.0))).outcome == "undecided"


@pytest.mark.parametrize("n_models", [2, 3, 4])
def test_few_sizes_decide_nothing(n_models: int) -> None:
    """Two, three or four sizes of one family leave claim 2 undecided, however clear the slope, and say why."""
    verdict = _robust(compare_fast(make_sizes(-0.5, n_sizes=n_models)))
    assert verdict.outcome == "undecided"
    expected = "2 models count" if n_models == 2 else "no order of so few sizes can give a p below"
    assert expected in verdict.reason


def test_repeats_of_a_size_are_no_new_sizes() -> None:
    """Three seeds of each of three sizes are nine models and three sizes: undecided, with the p-value of three."""
    records = [
        make_model(f"size {size} seed {seed}", 10**6 * 4**size, seed=10 * size + seed, js_scale=0.5**size)
        for size in range(3)
        for seed in range(3)
    ]
    comparison = compare_fast(records)
    verdict = _robust(comparison)
    assert (verdict.outcome, verdict.n_models, verdict.n_sizes) == ("undecided", 9, 3)
    assert comparison.trends[0].p_value == pytest.approx(1 / 3)


def test_repeats_widen_the_interval_of_the_slope() -> None:
    """Seeds of one size that differ much make the slope's interval wider than prompts alone do."""

    def width(spread: float) -> float:
        scales = {0: (1.0 - spread, 1.0, 1.0 + spread), 1: (0.6, 0.6, 0.6), 2: (0.4, 0.4, 0.4)}
        records = [
            make_model(f"{size} {seed}", 10**6 * 4**size, seed=10 * size + seed, js_scale=scale)
            for size, several in scales.items()
            for seed, scale in enumerate(several)
        ]
        interval = compare_fast(records).trends[0].interval
        assert interval is not None
        return interval.high - interval.low

    assert width(0.5) > 3 * width(0.0)


def test_several_families_decide_together() -> None:
    """Three families of three sizes, each falling, support claim 2 together, although none could alone."""
    families = {"plain": ATTENTION, "state": MAMBA, "mixed": HYBRID}
    records = [one for name, m in families.items() for one in make_sizes(-0.5, n_sizes=3, mixers=m, family=name)]
    comparison = compare_fast(records)
    assert _robust(comparison).outcome == "supported"
    assert comparison.trends[0].p_value == pytest.approx(2 / 6**3)
    assert comparison.trends[0].n_models == 9
    alone = compare_fast([*records, make_model("alone", 10**8, mixers=("rwkv",))])
    assert (alone.trends[0].n_models, alone.trends[0].slope) == (9, comparison.trends[0].slope)
    assert comparison.trends[0].n_families == 3


def test_sizes_of_different_families_are_not_compared_unless_asked() -> None:
    """Five models of five kinds and sizes have no trend within families, which is said; in one family they have."""
    kinds = [ATTENTION, MAMBA, HYBRID, ("rwkv",), ("mamba2", "attention")]
    records = [
        dataclasses.replace(one, model=dataclasses.replace(one.model, layers=make_model("x", mixers=kind).model.layers))
        for one, kind in zip(make_sizes(-0.5), kinds, strict=True)
    ]
    verdict = _robust(compare_fast(records))
    assert (verdict.outcome, verdict.n_sizes) == ("undecided", 0)
    assert "families='one'" in verdict.reason
    assert _robust(compare_fast(records, families="one")).outcome == "supported"


def test_mean_and_maximum_must_agree() -> None:
    """Where the mean falls with size and the largest value rises, the headline is undecided and each part decides."""
    records = []
    for size, record in enumerate(make_sizes(-0.5)):
        js_bits = record.js_bits.copy()
        js_bits[..., 0] = 0.4 + 0.1 * size
        js_bits[..., 1:] = 0.35 * 0.5**size
        records.append(dataclasses.replace(record, js_bits=js_bits))
    comparison = compare_fast(records)
    outcomes = {one.quantity: one.outcome for one in comparison.verdicts if one.claim == ROBUST}
    assert outcomes == {None: "undecided", "mean_js_bits": "supported", "max_js_bits": "contradicted"}


def _depth_models(particles: tuple[int, ...]) -> list[object]:
    kinds = (ATTENTION, MAMBA, HYBRID, ATTENTION)
    return [
        make_model(f"model {k}", 10**6 * 2**k, seed=k, mixers=kinds[k], particle=particle)
        for k, particle in enumerate(particles)
    ]


@pytest.mark.parametrize(
    ("particles", "outcome", "part"),
    [
        ((5, 6, 7, 6), "supported", "All 4 intervals begin deeper than 0.5, over 4 sizes and 3 sets of mixers."),
        ((5, 6, 1, 6), "contradicted", "Not deeper than 0.5: model 2 (0.25, 0.25 to 0.25)."),
        ((5, 6), "undecided", "2 models count; a claim about models needs at least 3."),
        ((1, 6), "undecided", "2 models count"),
    ],
)
def test_planted_depths_are_judged(particles: tuple[int, ...], outcome: str, part: str) -> None:
    """All deep supports claim 1, one shallow model contradicts it, and two models decide nothing either way."""
    verdict = compare_fast(_depth_models(particles)).verdict("deep_particles")
    assert verdict.outcome == outcome
    assert part in verdict.reason


def test_the_least_deep_particle_is_shown() -> None:
    """It is the one at the smallest depth, also beside a deeper one whose interval begins earlier."""
    records = [
        make_model(f"model {k}", 10**6 * 2**k, seed=k, particle=particle) for k, particle in enumerate((5, 6, 6))
    ]
    early = records[2].target_log_prob.copy()
    early[0] = np.log(0.9)  # one prompt of 16 is solved from the first layer on
    records[2] = dataclasses.replace(records[2], target_log_prob=early)
    comparison = compare_fast(records, onsets=(Rise(delta=0.07),))
    intervals = [model.particles[0].interval for model in comparison.models]
    assert [interval.low for interval in intervals if interval is not None] == [0.75, 0.875, 0.125]
    verdict = comparison.verdict("deep_particles")
    assert verdict.statistic == 0.75
    assert verdict.interval == intervals[0]


def test_the_threshold_of_depth_is_a_setting() -> None:
    """Particles at 0.75 of the depth are deep for 0.5, and not for 0.8."""
    records = _depth_models((5, 5, 5, 5))
    assert compare_fast(records).verdict("deep_particles").outcome == "supported"
    assert compare_fast(records, deep_depth=0.8).verdict("deep_particles").outcome == "contradicted"


def test_models_that_are_alike_say_nothing_of_others() -> None:
    """Deep particles in models of one kind of mixer, or of one size, leave a claim on all of them undecided."""
    one_kind = [make_model(f"m{k}", 10**6 * 2**k, seed=k) for k in range(3)]
    verdict = compare_fast(one_kind).verdict("deep_particles")
    assert (verdict.outcome, "alike in their kinds of mixers" in verdict.reason) == ("undecided", True)
    one_size = [make_model(f"m{k}", seed=k, mixers=kind) for k, kind in enumerate((ATTENTION, MAMBA, HYBRID))]
    verdict = compare_fast(one_size).verdict("deep_particles")
    assert (verdict.outcome, "alike in their size" in verdict.reason) == ("undecided", True)


def test_a_model_that_does_not_solve_the_task_does_not_count() -> None:
    """The shallow particle of a model that solves nothing contradicts nothing; it is named as not counted."""
    records = _depth_models((5, 6, 7, 1))
    prompts = tuple(dataclasses.replace(prompt, solved=False) for prompt in records[3].prompts)  # type: ignore[attr-defined]  # a record
    records[3] = dataclasses.replace(records[3], prompts=prompts)  # type: ignore[type-var]  # likewise
    verdict = compare_fast(records).verdict("deep_particles")
    assert (verdict.outcome, verdict.n_models) == ("supported", 3)
    assert "Not counted, for few prompts or an unsolved task: model 3." in verdict.reason


def test_the_same_model_three_times_is_one_model() -> None:
    """A run given three times counts once, and decides nothing."""
    comparison = compare_fast([make_model("a")] * 3)
    assert {one.outcome for one in comparison.verdicts} == {"undecided"}
    assert {one.n_models for one in comparison.verdicts if one.claim == DEEP} == {1}
    assert {one.n_models for one in comparison.verdicts if one.claim == ROBUST} == {0}


def test_an_unknown_claim_is_refused() -> None:
    """The names of the claims are in the message."""
    with pytest.raises(UsageError, match="Known claims: deep_particles, larger_is_more_robust"):
        compare_fast([make_model("a"), make_model("b")]).verdict("deep")
