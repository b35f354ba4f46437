"""Differences between pairs of models, against tests in closed form and planted masks."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from layertracer._types import Mask
from layertracer.comparisons import PairDifference, compare_records
from layertracer.runs import TraceRecord

from tests.comparisons.conftest import compare_fast
from tests.support.records.model_records import make_model


def _difference(pair: PairDifference, quantity: str) -> tuple[float | None, tuple[float, float]]:
    (found,) = (one for one in pair.differences if one.quantity == quantity and one.criterion in (None, "rise"))
    assert found.interval is not None
    return found.value, (found.interval.low, found.interval.high)


def _given(record: TraceRecord) -> TraceRecord:
    """The same with one draw that is given: nothing about the perturbation is random."""
    spec = dataclasses.replace(record.spec, perturbation={"kind": "skip", "site": "block_output", "draws": 1})
    return dataclasses.replace(
        record, spec=spec, js_bits=record.js_bits[:, :1], dominant_hit=np.zeros((1, record.n_layers), bool)
    )


def test_paired_interval_is_students() -> None:
    """Where draws are given, the paired interval over 30 prompts is that of Student's t test: 2.045 standard errors."""
    records = [_given(make_model(f"model {seed}", seed=seed, n_prompts=30, js_scale=0.8)) for seed in (1, 2)]
    apart = np.subtract(*(record.js_bits.astype(np.float64).mean(axis=(1, 2)) for record in records[::-1]))
    (pair,) = compare_fast(records, n_resamples=40_000).pairs
    value, ends = _difference(pair, "mean_js_bits")
    half = 2.045 * apart.std(ddof=1) / math.sqrt(30)
    assert pair.is_paired
    assert value == pytest.approx(apart.mean())
    assert ends == pytest.approx((apart.mean() - half, apart.mean() + half), abs=0.06 * half)


def test_unpaired_interval_is_that_of_two_samples() -> None:
    """Without a shared prompt the variances of both means add up; with 40 prompts each, 2.0 standard errors."""
    first, second = (_given(make_model(f"model {seed}", seed=seed, n_prompts=40)) for seed in (1, 2))
    second = _with_prompts(second, "other")
    means = [record.js_bits.astype(np.float64).mean(axis=(1, 2)) for record in (first, second)]
    (pair,) = compare_fast([first, second], n_resamples=40_000).pairs
    assert (pair.is_paired, pair.n_shared, pair.n_first, pair.n_second) == (False, 0, 40, 40)
    _, ends = _difference(pair, "mean_js_bits")
    value = means[1].mean() - means[0].mean()
    half = 2.0 * math.sqrt(sum(one.var(ddof=1) / 40 for one in means))
    assert ends == pytest.approx((value - half, value + half), abs=0.06 * half)


def _with_masks(
    seed: int, *, mask_seed: int, draw_sd: float = 0.03, scale: float = 1.0, width: int = 64
) -> TraceRecord:
    """One model on 24 prompts under masks of some seed: its draws are harder or easier, all layers alike."""
    record = make_model("planted", seed=seed, n_prompts=24)
    generator, masks = np.random.default_rng(seed), np.random.default_rng([seed, mask_seed, width])
    n_draws, n_layers = 6, record.n_layers
    js = (
        np.linspace(0.2, 0.4, n_layers)
        + 0.05 * generator.standard_normal((24, 1, 1))
        + draw_sd * masks.standard_normal((1, n_draws, 1))
        + 0.02 * masks.standard_normal((24, n_draws, n_layers))
    )
    asked = Mask(seed=mask_seed, draws=n_draws, scheme="random").to_dict()
    return dataclasses.replace(
        record,
        spec=dataclasses.replace(record.spec, perturbation=asked),
        model=dataclasses.replace(record.model, d_model=width),
        js_bits=np.clip(scale * js, 0.0, 1.0).astype(np.float32),
        dominant_hit=np.zeros((n_draws, n_layers), bool),
    )


def test_other_masks_are_no_other_model() -> None:
    """Under 120 pairs of mask seeds one model differs from itself in at most 5 %; with draws ignored, in most."""
    found, ignored = [], []
    for model in range(12):
        records = [_with_masks(model, mask_seed=seed) for seed in range(5)]
        for pair in compare_fast(records).pairs:
            found += [one.excludes_zero for one in pair.differences if one.quantity.endswith("js_bits")]
        means = [record.js_bits.mean(axis=(1, 2)) for record in records]
        for one, other in itertools.combinations(means, 2):
            apart = one - other
            ignored.append(abs(apart.mean()) > 2.07 * apart.std(ddof=1) / math.sqrt(24))
    assert len(found) == 240
    assert np.mean(found) <= 0.05
    assert np.mean(ignored) > 0.5


def test_a_real_difference_is_seen_through_other_masks() -> None:
    """A model a third more fragile is told apart in most pairs, though its masks are others."""
    found = []
    for model in range(20):
        pair = (_with_masks(model, mask_seed=0), _with_masks(model, mask_seed=1, scale=1.33))
        found.append(_excludes_zero(compare_fast(pair).pairs[0]))
    assert np.mean(found) > 0.8


def test_draws_are_paired_where_the_masks_are_the_same() -> None:
    """At equal width and seed both models meet the same masks, which then cancel; at another width they do not."""
    here = _with_masks(1, mask_seed=0)
    same, wider = (_with_masks(1, mask_seed=0, scale=1.05, width=width) for width in (64, 64))
    wider = dataclasses.replace(wider, model=dataclasses.replace(wider.model, d_model=128))
    paired, unpaired = (_difference(compare_fast([here, other]).pairs[0], "mean_js_bits")[1] for other in (same, wider))
    assert paired[1] - paired[0] < 0.3 * (unpaired[1] - unpaired[0])


def test_one_draw_says_nothing_of_a_difference() -> None:
    """With one random draw no interval is stated, a warning says so, and no difference is claimed."""
    a, b = (
        dataclasses.replace(
            record,
            js_bits=record.js_bits[:, :1],
            dominant_hit=record.dominant_hit[:1],
            spec=dataclasses.replace(record.spec, perturbation=dict(record.spec.perturbation) | {"draws": 1}),
        )
        for record in (make_model("a", seed=1), make_model("b", seed=2, js_scale=0.5))
    )
    comparison = compare_fast([a, b])
    found = {one.quantity: one.interval for one in comparison.pairs[0].differences}
    assert [found[name] for name in ("mean_js_bits", "max_js_bits", "vulnerable_depth")] == [None] * 3
    assert comparison.models[0].mean_js is not None
    assert comparison.models[0].mean_js.interval is None
    assert any("a has one draw" in text for text in comparison.warnings)


def test_no_difference_of_vulnerable_layers_without_one_that_stands_out() -> None:
    """Where no layer of either model stands out, nothing is said of how far their vulnerable layers are apart."""
    flat, other = _flat(seed=1), _flat(seed=2)
    comparison = compare_fast([flat, other])
    (found,) = (one for one in comparison.pairs[0].differences if one.quantity == "vulnerable_depth")
    assert all(model.vulnerable is not None and not model.vulnerable.is_clear for model in comparison.models)
    assert (found.interval, found.excludes_zero) == (None, False)


def test_vulnerable_layers_that_stand_out_apart_differ() -> None:
    """Where both stand out at other depths, the difference is that of their depths, without width."""
    early, late = _flat(seed=1, peak=1), _flat(seed=2, peak=6)
    (found,) = (one for one in compare_fast([early, late]).pairs[0].differences if one.quantity == "vulnerable_depth")
    assert found.excludes_zero
    assert found.interval is not None
    assert (found.value, found.interval.low, found.interval.high) == (5 / 8, 5 / 8, 5 / 8)


def _flat(*, seed: int, peak: int | None = None) -> TraceRecord:
    """A model whose layers are all alike but for noise, or but for one."""
    record = make_model(f"flat {seed}", seed=seed, n_prompts=24)
    js = 0.3 + 0.02 * np.random.default_rng(seed).standard_normal(record.js_bits.shape)
    if peak is not None:
        js[..., peak] += 0.3
    return dataclasses.replace(record, js_bits=np.clip(js, 0.0, 1.0).astype(np.float32))


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
    assert np.mean(false) <= 0.12
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
