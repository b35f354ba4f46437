"""Differences between pairs of models, against brute force over all resamples."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from layertracer.comparisons import PairDifference, compare_records
from layertracer.runs import TraceRecord

from tests.comparisons.conftest import compare_fast
from tests.model_records import make_model


def _difference(pair: PairDifference, quantity: str) -> tuple[float | None, tuple[float, float]]:
    (found,) = (one for one in pair.differences if one.quantity == quantity and one.criterion in (None, "rise"))
    assert found.interval is not None
    return found.value, (found.interval.low, found.interval.high)


def _reduce(js: np.ndarray, rows: tuple[int, ...], quantity: str) -> float:
    mean = js[list(rows)].mean(axis=0)
    return float(mean.mean() if quantity == "mean_js_bits" else mean.max())


@pytest.mark.parametrize("quantity", ["mean_js_bits", "max_js_bits"])
def test_paired_interval_is_that_of_all_resamples(quantity: str) -> None:
    """With four prompts the interval is that of all 256 resamples, each drawing the same prompts for both models."""
    records = [make_model(f"model {seed}", seed=seed, n_prompts=4, js_scale=0.8) for seed in (1, 2)]
    curves = [record.js_bits.astype(np.float64).mean(axis=1) for record in records]
    every = [
        _reduce(curves[1], rows, quantity) - _reduce(curves[0], rows, quantity)
        for rows in itertools.product(range(4), repeat=4)
    ]
    (pair,) = compare_fast(records, n_resamples=40_000, min_shared=2, level=0.8).pairs
    value, ends = _difference(pair, quantity)
    assert pair.is_paired
    assert value == pytest.approx(
        _reduce(curves[1], (0, 1, 2, 3), quantity) - _reduce(curves[0], (0, 1, 2, 3), quantity)
    )
    assert ends == pytest.approx(np.quantile(every, (0.1, 0.9)), abs=0.03 * np.ptp(every))


def test_unpaired_interval_is_that_of_independent_resamples() -> None:
    """With three prompts each and none shared, the interval is that of all 27 × 27 resamples."""
    first, second = (make_model(f"model {seed}", seed=seed, n_prompts=3) for seed in (1, 2))
    second = _with_prompts(second, "other")
    curves = [record.js_bits.astype(np.float64).mean(axis=(1, 2)) for record in (first, second)]
    means = [[np.mean(curve[list(rows)]) for rows in itertools.product(range(3), repeat=3)] for curve in curves]
    every = np.subtract.outer(means[1], means[0]).ravel()
    (pair,) = compare_fast([first, second], n_resamples=40_000, level=0.8).pairs
    assert (pair.is_paired, pair.n_shared, pair.n_first, pair.n_second) == (False, 0, 3, 3)
    _, ends = _difference(pair, "mean_js_bits")
    assert ends == pytest.approx(np.quantile(every, (0.1, 0.9)), abs=0.03 * np.ptp(every))


def _with_prompts(record: TraceRecord, word: str) -> TraceRecord:
    prompts = tuple(
        dataclasses.replace(prompt, prompt_text=f"{word} {row}") for row, prompt in enumerate(record.prompts)
    )
    return dataclasses.replace(record, prompts=prompts)


def test_a_run_compared_with_itself_is_zero() -> None:
    """Every difference of a run with itself is exactly 0, and so are its intervals; it is one model, and said to be."""
    record = make_model("one")
    comparison = compare_records([record, record])
    (pair,) = comparison.pairs
    for one in pair.differences:
        if one.value is not None:
            assert one.interval is not None
            assert (one.value, one.interval.low, one.interval.high) == (0.0, 0.0, 0.0)
    assert pair.profile is not None
    assert not np.any([pair.profile.mean, pair.profile.low, pair.profile.high])
    assert [model.label for model in comparison.models] == ["one #1", "one #2"]
    assert "one #2 is the same model as one #1 (equal fingerprint): together they count as one." in comparison.warnings


@pytest.mark.parametrize("overlap", [True, False])
def test_turning_a_pair_around_turns_its_differences_around(overlap: bool) -> None:
    """(b, a) has the numbers of (a, b) with the other sign, paired or not."""
    a, b = make_model("a", seed=1), make_model("b", 2_000_000, seed=2, particle=3)
    if not overlap:
        b = _with_prompts(b, "other")
    (here,), (there,) = compare_fast([a, b]).pairs, compare_fast([b, a]).pairs
    for one, other in zip(here.differences, there.differences, strict=True):
        assert one.value is not None
        assert other.value == pytest.approx(-one.value)
        assert one.interval is not None
        assert other.interval is not None
        assert (other.interval.low, other.interval.high) == pytest.approx((-one.interval.high, -one.interval.low))
    assert here.profile is not None
    assert there.profile is not None
    np.testing.assert_allclose(there.profile.low, -here.profile.high, atol=1e-12)


def test_null_differences_are_found_at_the_nominal_rate_and_real_ones_nearly_always() -> None:
    """Of 150 pairs of like models the 90 % interval leaves 0 out in about 10 %; a tenth less divergence is seen."""
    false, true = [], []
    for group in range(10):
        records = [make_model(f"like {k}", seed=100 * group + k, n_prompts=24) for k in range(6)]
        records.append(make_model("weak", seed=100 * group + 50, n_prompts=24, js_scale=0.9))
        for pair in compare_fast(records, level=0.9).pairs:
            (true if pair.second == "weak" else false).append(_excludes_zero(pair))
    assert len(false) == 150
    assert 0.04 < np.mean(false) < 0.2
    assert np.mean(true) > 0.9


def _excludes_zero(pair: PairDifference) -> bool:
    (found,) = (one for one in pair.differences if one.quantity == "mean_js_bits")
    return found.excludes_zero


def test_pairing_removes_what_prompts_have_in_common() -> None:
    """Where prompts are hard for both models, the paired interval is much narrower than the unpaired one."""
    a, b = make_model("a", seed=1), make_model("b", seed=2)
    (paired,), (unpaired,) = compare_fast([a, b]).pairs, compare_fast([a, b], min_shared=100).pairs
    assert (paired.is_paired, unpaired.is_paired) == (True, False)
    widths = [high - low for low, high in (_difference(one, "mean_js_bits")[1] for one in (paired, unpaired))]
    assert widths[0] < 0.3 * widths[1]


def test_a_planted_difference_of_depth_is_found() -> None:
    """Particles planted at layers 2 and 5 of 8 are 3/8 apart, in every resample."""
    a, b = make_model("a", seed=1, particle=2), make_model("b", seed=2, particle=5)
    value, ends = _difference(compare_fast([a, b]).pairs[0], "particle_depth")
    assert value == pytest.approx(3 / 8)
    assert ends == pytest.approx((3 / 8, 3 / 8))


def test_a_missing_particle_has_no_difference() -> None:
    """Where one model has no particle, there is no difference, and the share says so."""
    silent = make_model("silent", seed=3)
    silent = dataclasses.replace(silent, target_log_prob=np.full_like(silent.target_log_prob, -12.0))
    comparison = compare_fast([make_model("a"), silent])
    (found,) = (one for one in comparison.pairs[0].differences if one.quantity == "particle_depth")
    assert (found.value, found.interval, found.share_found) == (None, None, 0.0)
    assert comparison.models[1].particles[0].depth is None
