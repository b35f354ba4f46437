"""Early exit: agreement, arithmetic and thresholds, by hand on planted readouts; nothing is told of what chose."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import layertracer as lt
from layertracer.hybrids._gates.early_exit import measure_early_exit
from layertracer.runs import TraceRecord
from layertracer.tracing import LayerFlops, layer_flops

from tests.support.records.sample_records import make_record
from tests.support.tiny import tiny

N_LAYERS = 8
FREE = LayerFlops(layers=np.ones(N_LAYERS), readout=0.0)
RIGHT, WRONG = 5, 9


def readouts(
    first_right: list[int], *, confident_from: list[int] | None = None, sets: tuple[int, ...] | None = None
) -> TraceRecord:
    """A trace whose prompts read the final token, which is right, from their own layer on, sure from another on."""
    n_prompts, layers = len(first_right), np.arange(N_LAYERS)
    record = make_record(n_prompts, N_LAYERS, 2, 0)
    agrees = layers >= np.array(first_right)[:, None]
    sure = layers >= np.array(first_right if confident_from is None else confident_from)[:, None]
    top_ids, top_prob = record.top_ids.copy(), record.top_prob.copy()
    top_ids[:, :, 0] = np.where(agrees, RIGHT, WRONG)
    top_prob[:, :, 0] = np.where(sure, 0.9, 0.3)
    prompts = record.prompts
    if sets is not None:
        prompts = tuple(dataclasses.replace(one, demonstration_set=own) for one, own in zip(prompts, sets, strict=True))
    return dataclasses.replace(
        record, prompts=prompts, top_ids=top_ids, top_prob=top_prob, target_rank=np.where(agrees, 1, 7)
    )


def test_agreement_accuracy_and_arithmetic_by_hand() -> None:
    """Of four prompts that settle at layers 1, 3, 3 and 7 of eight: shares, intervals, and what knowing would save."""
    found = measure_early_exit(readouts([1, 3, 3, 7]), FREE)
    kept = found.kept
    np.testing.assert_allclose(kept.agreement, [0, 0.25, 0.25, 0.75, 0.75, 0.75, 0.75, 1])
    np.testing.assert_allclose(kept.stays, kept.agreement)
    np.testing.assert_allclose(kept.accuracy, kept.agreement)
    np.testing.assert_allclose(kept.compute_saved, 1 - np.arange(1, 9) / 8)
    assert kept.full_accuracy == 1.0
    assert found.oracle_saved == pytest.approx((6 / 8 + 4 / 8 + 4 / 8 + 0) / 4)
    assert (found.n_chosen_on, found.n_held_out, kept.thresholds) == (0, 4, ())
    assert kept.threshold_net_saved is None
    assert ((kept.agreement_interval[:, 0] <= kept.agreement) & (kept.agreement <= kept.agreement_interval[:, 1])).all()


def test_agreement_that_does_not_last_is_no_staying() -> None:
    """A prompt whose readout agrees at layer 2, not at layer 4, and then again, stays from layer 5 on."""
    record = readouts([2] * 4)
    top_ids = record.top_ids.copy()
    top_ids[0, 4, 0] = WRONG
    kept = measure_early_exit(dataclasses.replace(record, top_ids=top_ids), FREE).kept
    np.testing.assert_allclose(kept.agreement, [0, 0, 1, 1, 0.75, 1, 1, 1])
    np.testing.assert_allclose(kept.stays, [0, 0, 0.75, 0.75, 0.75, 1, 1, 1])


def test_thresholds_find_where_sure_prompts_agree() -> None:
    """Where all are sure exactly from the layer on from which they agree, 3 or 5, leaving there loses nothing."""
    found = measure_early_exit(readouts([3, 5] * 20), FREE)
    kept = found.kept
    assert found.n_chosen_on + found.n_held_out == 40
    assert kept.thresholds == (0.32,)
    np.testing.assert_allclose(kept.threshold_agreement, [1.0])
    np.testing.assert_allclose(kept.threshold_saved, 1 - (kept.exit_layer + 1) / 8)
    np.testing.assert_allclose(kept.threshold_net_saved, kept.threshold_saved)
    assert kept.threshold_net_saved_interval is not None
    assert kept.threshold_net_saved_interval[0, 0] > 0.2


def test_readouts_on_the_way_are_paid_for() -> None:
    """With a readout of two layers' arithmetic, leaving after the fourth layer costs (4 + 4 · 2) / (8 + 2)."""
    found = measure_early_exit(readouts([3] * 20), LayerFlops(layers=np.ones(N_LAYERS), readout=2.0))
    np.testing.assert_allclose(found.kept.threshold_net_saved, [1 - 12 / 10])
    assert found.one_look is not None
    assert found.one_look.layer == 3
    assert found.one_look.net_saved == pytest.approx(1 - 6 / 10)


def test_one_look_pays_for_prompts_that_do_not_leave() -> None:
    """Half of the prompts leave after layer 2, the others read two distributions: the mean of both is what is saved."""
    early, late = 3, N_LAYERS + 2
    record = readouts([2, 7] * 30)
    look = measure_early_exit(record, LayerFlops(layers=np.ones(N_LAYERS), readout=1.0)).one_look
    assert look is not None
    assert look.layer == 2
    assert look.agreement == 1.0
    saved = look.leaves * (1 - (early + 1) / 9) + (1 - look.leaves) * (1 - late / 9)
    assert look.net_saved == pytest.approx(saved)
    assert look.net_saved_interval.low <= look.net_saved <= look.net_saved_interval.high


def test_prompts_that_are_sure_of_something_else_have_no_threshold() -> None:
    """Where readouts are surest of what the model will not say, no threshold at which any leaves reaches the asked."""
    found = measure_early_exit(readouts([7] * 24, confident_from=[0] * 24), FREE)
    assert found.kept.thresholds == ()
    assert found.unreached == (0.9, 0.95, 0.99)
    assert found.one_look is None


def test_thresholds_do_not_depend_on_the_prompts_that_are_reported() -> None:
    """Changing held-out prompts changes what is reported, and no threshold; half of the prompts are held out."""
    record = readouts([3, 5] * 10)
    here = measure_early_exit(record, FREE)
    n_changed = 0
    for prompt in range(20):
        top_ids = record.top_ids.copy()
        top_ids[prompt, :-1, 0] = WRONG
        there = measure_early_exit(dataclasses.replace(record, top_ids=top_ids), FREE)
        if not np.array_equal(there.kept.agreement, here.kept.agreement):
            assert there.kept.thresholds == here.kept.thresholds
            n_changed += 1
    assert n_changed == here.n_held_out == 10


def test_sets_of_demonstrations_are_kept_together() -> None:
    """Twelve sets of four prompts are divided as sets: six are held out, and ten prompts behind two sets are not."""
    found = measure_early_exit(readouts([3] * 48, sets=tuple(number // 4 for number in range(48))), FREE)
    assert (found.n_chosen_on, found.n_held_out) == (24, 24)
    few = measure_early_exit(readouts([3] * 10, sets=(0, 1) * 5), FREE)
    assert few.n_chosen_on == 0
    assert few.oracle_interval is None


def test_intervals_are_as_wide_as_over_sets_of_demonstrations() -> None:
    """Ten sets that agree or not as a whole have a wider interval than as many prompts by themselves."""
    settles = [3 if number // 8 % 2 else 6 for number in range(80)]
    by_set = measure_early_exit(readouts(settles, sets=tuple(number // 8 for number in range(80))), FREE).kept
    apart = measure_early_exit(readouts(settles), FREE).kept
    width = [float(np.diff(one.agreement_interval[4])[0]) for one in (by_set, apart)]
    assert width[0] > 1.5 * width[1]


def test_arithmetic_is_that_of_the_matrices() -> None:
    """A layer of a tiny Llama takes two operations for each weight of its matrices, and attention's for each pair."""
    model, n_tokens = tiny("llama"), 12
    flops = layer_flops(model.cost_probe, n_tokens=n_tokens)
    for layer, found in zip(model.anatomy.layers, flops.layers, strict=True):
        weights = sum(one.numel() for one in layer.module.parameters() if one.ndim == 2)
        config = model.module.config
        pairs = 4 * n_tokens * config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
        assert found == pytest.approx(2 * weights + pairs)
    assert flops.readout == pytest.approx(2 * model.anatomy.d_model * model.anatomy.d_vocab)


def test_the_last_layer_is_the_models_own() -> None:
    """On a real model all agree after the last layer, and leaving there saves nothing."""
    model = lt.load_model("mini/attention")
    trace = lt.trace(model, lt.load_task("country-capital", limit=12), perturbation=lt.Mask(draws=1), audit=0)
    found = measure_early_exit(trace, layer_flops(model.cost_probe, n_tokens=16))
    assert found.kept.agreement[-1] == 1.0
    assert found.kept.compute_saved[-1] == 0.0
    assert found.kept.full_accuracy == pytest.approx(found.kept.accuracy[-1])
