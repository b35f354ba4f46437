"""What a comparison holds: summaries, order, prompts of different tokenizers, missing parts."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from layertracer import UsageError
from layertracer.comparisons import COLUMNS, ModelComparison, compare_records
from layertracer.measures import ONSET_NAMES, HalfMax, Rise
from layertracer.runs import TraceRecord

from tests.comparisons.conftest import compare_fast
from tests.support.records.model_records import ATTENTION, HYBRID, MAMBA, make_model


def test_summaries_are_those_of_the_traces() -> None:
    """Robustness, particle and vulnerable layer of every model are what its own trace says."""
    records = [make_model("a", seed=1), make_model("b", seed=2, n_layers=12, mixers=HYBRID)]
    for record, model in zip(records, compare_records(records).models, strict=True):
        assert model.mean_js is not None
        assert model.max_js is not None
        assert model.vulnerable is not None
        assert model.mean_js.value == pytest.approx(record.robustness.mean_bits)
        assert model.max_js.value == pytest.approx(record.robustness.max_bits)
        assert model.mean_js.interval.low < model.mean_js.value < model.mean_js.interval.high
        assert model.vulnerable.layer == record.vulnerable_layer.layer
        assert model.vulnerable.depth == (record.vulnerable_layer.layer + 1) / record.n_layers
        assert model.particles[0].layer == record.task_particle.layer
        assert model.particles[0].depth == (model.particles[0].layer + 1) / record.n_layers
        assert model.js_curve is not None
        np.testing.assert_allclose(model.js_curve.mean, record.robustness.profile_bits)
        np.testing.assert_allclose(model.target_curve.mean, record.target_prob.mean(axis=0), rtol=1e-5)


def test_every_criterion_is_looked_at(three: ModelComparison) -> None:
    """Every criterion is applied, the runs' own is marked, and one with other parameters is one more."""
    for model in three.models:
        assert {one.criterion for one in model.particles} == set(ONSET_NAMES)
        assert [one.criterion for one in model.particles if one.is_headline] == ["rise"]
        assert {one.lens for one in model.particles} == {"logit"}
    onset = Rise(delta=0.2).to_dict()
    other = [
        dataclasses.replace(record, spec=dataclasses.replace(record.spec, onset=onset))
        for record in (make_model("a"), make_model("b", seed=1))
    ]
    names = [one.criterion for one in compare_records(other).models[0].particles]
    assert names == ["rise(delta=0.2)", *ONSET_NAMES]


def test_profiles_share_their_depths(three: ModelComparison) -> None:
    """Models of 8 and 12 layers are interpolated on 20 depths; models of equal depth keep their own layers."""
    assert three.grid.tolist() == [k / 20 for k in range(1, 21)]
    for model in three.models:
        assert model.profile is not None
        first = np.flatnonzero(np.isfinite(model.profile.mean))[0]
        assert three.grid[first] >= 1 / model.n_layers
    equal = compare_fast([make_model("a"), make_model("b", seed=1)])
    assert equal.grid.tolist() == [k / 8 for k in range(1, 9)]
    assert equal.models[0].profile is not None
    assert equal.models[0].js_curve is not None
    np.testing.assert_array_equal(equal.models[0].profile.mean, equal.models[0].js_curve.mean)


def test_neither_the_order_of_runs_nor_of_prompts_matters() -> None:
    """Runs in another order, with their prompts shuffled, give the same numbers to the last bit."""
    records = [
        make_model("a", 1_000_000, seed=1),
        make_model("b", 1_000_000, seed=2),
        make_model("c", 3_000_000, seed=3),
        make_model("d", 9_000_000, seed=4, mixers=HYBRID),
    ]
    here = compare_fast(records)
    shuffled = [record.select(np.random.default_rng(k).permutation(16).tolist()) for k, record in enumerate(records)]
    order = [2, 0, 3, 1]
    there = compare_fast([shuffled[k] for k in order])
    frames = [
        one.to_frame().query("part not in ('difference', 'difference_profile')").drop(columns="note")
        for one in (here, there)
    ]
    rows = [frame.sort_values(list(COLUMNS[:7])).reset_index(drop=True) for frame in frames]
    pd.testing.assert_frame_equal(*rows)
    assert here.verdict("larger_is_more_robust") == there.verdict("larger_is_more_robust")
    turned = {(pair.first, pair.second): pair for pair in there.pairs}
    for pair in here.pairs:
        twin = turned.get((pair.first, pair.second)) or turned[pair.second, pair.first]
        assert [abs(one.value or 0) for one in twin.differences] == [abs(one.value or 0) for one in pair.differences]


def test_prompts_are_shared_by_text_whatever_the_tokenizer() -> None:
    """Runs whose token ids differ share the prompts whose texts are equal."""
    a, b = make_model("a"), make_model("b", seed=1)
    ids = tuple(dataclasses.replace(prompt, prompt_ids=(1, 2, 3), answer_ids=(4, 5)) for prompt in b.prompts[:10])
    b = dataclasses.replace(b.select(range(10)), prompts=ids)
    (pair,) = compare_fast([a, b]).pairs
    assert (pair.is_paired, pair.n_shared, pair.n_first) == (True, 10, 10)


@pytest.mark.parametrize("same_texts", [True, False])
def test_prompts_of_ids_are_shared_where_the_ids_read_the_same(same_texts: bool) -> None:
    """Without texts, prompts are equal where ids and the texts of the tokens are; equal ids alone are not enough."""

    def without_texts(record: TraceRecord, text: str) -> TraceRecord:
        prompts = tuple(
            dataclasses.replace(prompt, prompt_ids=(row, 3), answer_ids=(7,), prompt_text=None, answer_text=None)
            for row, prompt in enumerate(record.prompts)
        )
        return dataclasses.replace(record, prompts=prompts, tokens={row: f"{text}{row}" for row in range(20)})

    a, b = without_texts(make_model("a"), "x"), without_texts(make_model("b", seed=1), "x" if same_texts else "y")
    comparison = compare_fast([a, b])
    assert comparison.n_shared == (16 if same_texts else 0)
    assert comparison.pairs[0].is_paired is same_texts
    assert any("share 0 prompts" in text for text in comparison.warnings) is not same_texts


def test_a_prompt_that_is_asked_twice_is_two_prompts() -> None:
    """Repetitions are matched one to one."""
    a, b = make_model("a"), make_model("b", seed=1)
    twice = a.select([0, 0, *range(1, 16)])
    assert compare_fast([twice, b]).n_shared == 16
    assert compare_fast([twice, b.select([0, 0, *range(1, 16)])]).n_shared == 17


def test_prompts_with_nan_are_left_out_and_counted() -> None:
    """A prompt with NaN counts for nothing, the others do, and a warning has the number."""
    broken = make_model("broken", seed=1)
    js_bits = broken.js_bits.copy()
    js_bits[3, 0, 2] = np.nan
    broken = dataclasses.replace(broken, js_bits=js_bits)
    comparison = compare_fast([make_model("a"), broken])
    assert "broken: 1 of 16 prompts hold NaN and are left out." in comparison.warnings
    assert comparison.models[1].n_prompts == comparison.pairs[0].n_shared == 15
    hopeless = dataclasses.replace(broken, target_log_prob=np.full_like(broken.target_log_prob, np.nan))
    with pytest.raises(UsageError, match="broken has no prompt whose numbers are all finite"):
        compare_fast([make_model("a"), hopeless])


def test_layers_without_the_site_are_left_out() -> None:
    """Some layers without the site are said and bridged; a model that has it nowhere has no divergence, only depths."""
    partial, nowhere = make_model("partial", seed=1), make_model("nowhere", seed=2)
    js_bits = partial.js_bits.copy()
    js_bits[..., [1, 4]] = np.nan
    partial = dataclasses.replace(partial, js_bits=js_bits)
    nowhere = dataclasses.replace(nowhere, js_bits=np.full_like(js_bits, np.nan))
    comparison = compare_fast([make_model("a"), partial, nowhere])
    assert "partial lacks the perturbed site in 2 of 8 layers: they are left out." in comparison.warnings
    assert "nowhere has the perturbed site in no layer: it has no JS divergence to compare." in comparison.warnings
    first, second, third = comparison.models
    assert first.mean_js is not None
    assert second.mean_js is not None
    assert second.mean_js.value == pytest.approx(partial.robustness.mean_bits)
    assert second.profile is not None
    assert np.isfinite(second.profile.mean).all()
    assert (third.mean_js, third.profile, third.vulnerable) == (None, None, None)
    assert third.particles[0].layer == 6
    assert comparison.trends[0].note is not None
    assert "1 of 3 models have no layer with the perturbed site" in comparison.trends[0].note


def test_solved_prompts_alone() -> None:
    """With prompts="solved" each model keeps what it solves, and a pair shares what both solve."""
    a, b = make_model("a"), make_model("b", seed=1)
    solved = tuple(dataclasses.replace(prompt, solved=row < 12) for row, prompt in enumerate(b.prompts))
    b = dataclasses.replace(b, prompts=solved)
    comparison = compare_fast([a, b], prompts="solved")
    assert [model.n_prompts for model in comparison.models] == [16, 12]
    assert comparison.pairs[0].n_shared == 12
    none = dataclasses.replace(b, prompts=tuple(dataclasses.replace(one, solved=False) for one in b.prompts))
    with pytest.raises(UsageError, match="b has no solved prompt"):
        compare_fast([a, none], prompts="solved")


def test_the_table_is_tidy_and_whole(three: ModelComparison, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One row a number, with its unit; no number twice; the file holds what the table holds."""
    frame = three.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert frame[["part", "quantity", "unit"]].notna().all().all()
    identity = ["part", "model", "other", "quantity", "lens", "criterion", "depth"]
    assert not frame[identity].duplicated().any()
    differences = frame.query("part == 'difference'")
    assert len(differences) == 3 * (3 + len(ONSET_NAMES))
    assert (frame["low"] <= frame["high"]).where(frame["low"].notna(), other=True).all()
    path = three.to_csv(tmp_path_factory.mktemp("csv") / "new" / "numbers.csv")
    assert len(pd.read_csv(path)) == len(frame)
    with pytest.raises(UsageError, match="it is a folder"):
        three.to_csv(path.parent)


def test_the_dictionary_is_json(three: ModelComparison) -> None:
    """Everything can be written as JSON without NaN, and holds every part."""
    document = json.loads(json.dumps(three.to_dict(), allow_nan=False))
    assert len(document["models"]) == len(document["pairs"]) == 3
    assert document["models"][0]["profile"]["mean"][0] is None
    assert document["question"]["task"]["name"] == "antonym"
    assert {one["claim"] for one in document["verdicts"]} == {"deep_particles", "larger_is_more_robust"}


def test_kinds_of_mixers_are_compared_inside_hybrids_only(three: ModelComparison) -> None:
    """The hybrid alone has a contrast of its kinds."""
    assert [(one.label, one.contrast.mixer) for one in three.mixers] == [("hybrid", "gated_deltanet")]


def test_families_are_sets_of_mixers_unless_given() -> None:
    """Models of the same kinds are a family; one family, or names, can be asked for."""
    records = [
        make_model(name, seed=k, mixers=m)
        for k, (name, m) in enumerate([("a", ATTENTION), ("b", MAMBA), ("c", HYBRID)])
    ]
    assert [one.family for one in compare_fast(records).models] == ["attention", "mamba2", "attention + gated_deltanet"]
    assert {one.family for one in compare_fast(records, families="one").models} == {"all models"}
    assert [one.family for one in compare_fast(records, families=("x", "y", "x")).models] == ["x", "y", "x"]
    with pytest.raises(UsageError, match="families names 2 families"):
        compare_fast(records, families=("x", "y"))


def test_labels_tell_models_apart() -> None:
    """Given labels are used, and must be as many as the runs and different; made ones show what is hidden."""
    records = [make_model("x/a"), make_model("y/a", seed=1)]
    assert [one.label for one in compare_fast(records).models] == ["x/a", "y/a"]
    named = compare_records(records, labels=["one", "two"])
    assert [one.label for one in named.models] == ["one", "two"]
    assert named.pair("one", "two").n_shared == 16
    hidden = compare_fast([make_model("a\u202e\x1b[31m"), make_model("b", seed=1)])
    assert hidden.models[0].label == "a\\u202e\\x1b[31m"
    with pytest.raises(UsageError, match="There is no pair"):
        named.pair("two", "one")
    with pytest.raises(UsageError, match="all different"):
        compare_records(records, labels=["one", "one"])


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    """The seed alone decides the resamples."""
    records = [make_model("a"), make_model("b", seed=1)]
    frames = [compare_fast(records, seed=seed).to_frame() for seed in (3, 3, 4)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0]["low"].equals(frames[2]["low"])


def test_several_criteria_of_the_runs_are_all_looked_at() -> None:
    """Where the runs used different criteria, both are applied to both, and a warning says so."""
    a, b = make_model("a"), make_model("b", seed=1)
    b = dataclasses.replace(b, spec=dataclasses.replace(b.spec, onset=HalfMax().to_dict()))
    comparison = compare_records([a, b])
    assert [one.criterion for one in comparison.models[0].particles][:2] == ["rise", "half_max"]
    assert any("onset criterion" in text for text in comparison.warnings)


@pytest.mark.parametrize(("n_prompts", "has_band"), [(2, False), (4, False), (5, True)])
def test_few_prompts_have_no_band_of_probability(n_prompts: int, has_band: bool) -> None:
    """A model's mean curve of probabilities has an interval from five prompts on, as its own report has."""
    comparison = compare_fast([make_model(name, seed=seed).select(range(n_prompts)) for seed, name in enumerate("ab")])
    for model in comparison.models:
        assert np.isfinite(model.target_curve.low).all() == has_band
        assert np.isfinite(model.target_curve.high).any() == has_band
