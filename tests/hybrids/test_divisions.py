"""Divisions of a traced model: planted regions are named, layers in a random order are one region."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import layertracer as lt
from layertracer.hybrids._divisions.find import find_divisions
from layertracer.runs import TraceRecord
from layertracer.tracing import LayerProfile, profile_layers, trace_model

from tests.support.models.planted import PlantedModel, planted_answer
from tests.support.records.sample_records import make_record

N_PROMPTS, N_LAYERS = 12, 24
REGIONS = ((0, 5), (6, 15), (16, 23))


def planted_record(*, order: np.ndarray | None = None, seed: int = 0, n_prompts: int = N_PROMPTS) -> TraceRecord:
    """A trace in which layers 0 to 5 break easily and the answer rises in layers 16 to 23; its layers in an order."""
    generator = np.random.default_rng(seed)
    region = np.repeat([0, 1, 2], [last - first + 1 for first, last in REGIONS])

    def measure(levels: list[float]) -> np.ndarray:
        spread = 0.1 * np.ptp(levels)
        noise = generator.normal(size=N_LAYERS) + generator.normal(size=(n_prompts, N_LAYERS))
        values = np.asarray(levels)[region] + spread * noise
        return values if order is None else values[:, order]

    gain, js_bits = measure([0.0, 0.0, 0.5]), np.clip(measure([0.4, 0.1, 0.1]), 0, 1)
    return dataclasses.replace(
        make_record(n_prompts, N_LAYERS, 2, seed),
        target_log_prob=-20 + gain.cumsum(axis=1),
        embedding_log_prob=np.full(n_prompts, -20.0),
        js_bits=np.stack([js_bits, js_bits], axis=1),
        entropy_bits=np.abs(measure([5.0, 4.0, 1.0])),
    )


def test_planted_regions_are_found_and_named() -> None:
    """Three planted regions come out with their layers, intervals that hold them, and the words of what was planted."""
    found = find_divisions(planted_record(), n_resamples=199)
    assert [(region.first, region.last) for region in found.regions] == list(REGIONS)
    for region in found.regions[1:]:
        assert region.first_interval is not None
        assert region.first_interval.low <= region.first <= region.first_interval.high
    assert "breaks easily" in found.regions[0].name
    assert "rises" in found.regions[2].name or "settled" in found.regions[2].name
    assert len({region.name for region in found.regions}) == 3
    assert "in the region before" in found.regions[1].sets_apart
    assert found.p < 0.05


def test_layers_in_a_random_order_are_one_region() -> None:
    """Of 60 shuffles of the planted layers at most 5 are divided, and one that is not says so."""
    generator, n_divided = np.random.default_rng(0), 0
    for seed in range(60):
        order = generator.permutation(N_LAYERS)
        found = find_divisions(planted_record(order=order), n_resamples=99, seed=seed)
        n_divided += len(found.regions) > 1
        if len(found.regions) == 1:
            (region,) = found.regions
            assert (region.first, region.last, region.name) == (0, N_LAYERS - 1, "one region")
            assert "stands out" in found.note
    assert n_divided <= 5


def test_a_trace_alone_says_what_was_not_measured() -> None:
    """Without a profile, KL and CKA are missing, and the note names both."""
    found = find_divisions(planted_record(), n_resamples=99)
    assert set(found.curves) == set(found.units) == {"gain_nats", "js_bits", "entropy_bits"}
    assert "Not measured in this trace: KL(final ‖ readout), CKA with the layer before." in found.note


def test_few_prompts_have_no_intervals_and_the_note_says_why() -> None:
    """Four prompts place boundaries, and do not say how surely."""
    found = find_divisions(planted_record(n_prompts=4), n_resamples=99)
    assert len(found.regions) > 1
    assert all(region.first_interval is None for region in found.regions)
    assert "Fewer than 5 prompts" in found.note


def test_a_site_that_layers_lack_takes_no_part() -> None:
    """Where JS was not measured in every layer, the others divide, and the note names it."""
    record = planted_record()
    js_bits = record.js_bits.copy()
    js_bits[:, :, 4] = np.nan
    found = find_divisions(dataclasses.replace(record, js_bits=js_bits), n_resamples=99)
    assert "js_bits" not in found.curves
    assert "JS divergence of the perturbation took no part: it is not a finite number at 1 of 24 layers." in found.note


def test_a_planted_model_divides_where_its_answer_enters() -> None:
    """In the planted model, of 16 layers, the answer enters at layer 9, and there a region begins."""
    model = lt.wrap_model(PlantedModel(n_layers=16, answer_layer=9, fragile_layer=4))
    prompts = [tuple(np.random.default_rng(seed).permutation(np.arange(1, 19))[:8].tolist()) for seed in range(10)]
    samples = [lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in prompts]
    profile = dataclasses.replace(profile_layers(model, samples), notes=("Something was said of the profile.",))
    found = find_divisions(trace_model(model, samples), profile, n_resamples=199)
    assert found.note.endswith("Something was said of the profile.")
    assert 9 in [region.first for region in found.regions]
    assert {"kl_nats", "cka"} <= set(found.curves)
    assert found.cka is not None
    assert found.cka.shape == (16, 16)


def test_layers_that_no_measure_tells_apart_are_one_region() -> None:
    """Where every measure is constant or missing there is one region, and the note says why of each."""
    record = planted_record()
    same = dataclasses.replace(
        record,
        js_bits=np.full_like(record.js_bits, np.nan),
        entropy_bits=np.ones_like(record.entropy_bits),
        target_log_prob=np.full_like(record.target_log_prob, -np.inf),
    )
    found = find_divisions(same, n_resamples=99)
    assert [(region.first, region.last) for region in found.regions] == [(0, N_LAYERS - 1)]
    assert "no measure" in found.regions[0].sets_apart
    assert "entropy of the readout took no part: it is the same in all layers." in found.note
    assert "the target's gain took no part" in found.note


def test_a_profile_of_other_prompts_is_refused() -> None:
    """A profile must be of the trace's prompts and layers."""
    other = LayerProfile(kl_nats=np.zeros((3, 24)), hsic=np.zeros((3, 25, 25)), n_measured_again=0)
    with pytest.raises(lt.UsageError, match="The profile is of 3 prompts and 24 layers, the trace of 12 and 24"):
        find_divisions(planted_record(), other)
    with pytest.raises(lt.UsageError, match="finished no prompt"):
        find_divisions(make_record(0, 4, 2, 0))
