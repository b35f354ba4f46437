"""Effects, layer measures and lenses of a run: kept by name, read whole, refused where they cannot be."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layertracer import DamagedRunError, UsageError, verify_run
from layertracer._types import LayerMeasure, MeasureInfo
from layertracer.runs import HEADER_FILE, EffectRecord, TraceRecord, read_run, save_run

from tests.runs.alterations import (
    Files,
    contents,
    parquet_bytes,
    with_column,
    with_header,
    with_table_bytes,
    write_files,
)
from tests.support.records.logit_records import ANSWER, D_VOCAB, js_by_definition, log_softmax, named_record, record_of
from tests.support.records.sample_records import make_record

RECORD = named_record()
PERTURBATIONS, LAYERS = "perturbations.parquet", "layers.parquet"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a run with several of everything."""
    return contents(save_run(RECORD, tmp_path_factory.mktemp("named") / "run"))


def test_a_run_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """Effects, measures and lenses come back with every number, text and order."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_run(save_run(RECORD, tmp_path / "run"))
    assert found == RECORD
    assert list(found.effects) == ["mixer_output", "mlp_output", "mlp_output#2"]
    assert [effect.n_draws for effect in found.effects.values()] == [5, 2, 1]
    assert list(found.measures) == ["block_influence", "surprise_nats"]
    assert found.measures["surprise_nats"].info == RECORD.measures["surprise_nats"].info
    assert found.lenses["linear"].details == {"fingerprint": "9f2c", "fitted_on": "512 prompts"}
    assert verify_run(tmp_path / "run").summary_agrees


@pytest.mark.parametrize("n_prompts", [0, 1])
def test_few_prompts(n_prompts: int, tmp_path: Path) -> None:
    """A run of which no prompt, or one, was finished keeps everything by name."""
    record = RECORD.select(range(n_prompts))
    assert read_run(save_run(record, tmp_path / "run")) == record


def test_selecting_prompts_selects_everywhere() -> None:
    """Prompts that are selected are so in every effect, measure and lens."""
    chosen = RECORD.select([4, 1])
    for key, effect in chosen.effects.items():
        for name, rows in effect.rows.items():
            assert np.array_equal(rows, RECORD.effects[key].rows[name][[4, 1]], equal_nan=True)
    assert np.array_equal(chosen.measures["block_influence"].values, RECORD.measures["block_influence"].values[[4, 1]])
    assert np.array_equal(chosen.lenses["linear"].top_ids, RECORD.lenses["linear"].top_ids[[4, 1]])
    assert chosen.select([1, 0]) == RECORD.select([1, 4])


def test_a_record_without_effects_has_the_one_of_its_arrays() -> None:
    """The first effect is what `js_bits` and `dominant_*` say, also where a copy has other ones."""
    record = make_record()
    assert list(record.effects) == ["mixer_output"]
    assert record.effects["mixer_output"].vulnerable_layer == record.vulnerable_layer
    assert record.effects["mixer_output"].largest_loss_layer is None
    other = dataclasses.replace(record, js_bits=np.zeros_like(record.js_bits))
    assert not other.effects["mixer_output"].js_bits.any()


def test_the_loss_is_clean_less_perturbed() -> None:
    """The loss of the target, its layer and its mean follow from the log-probabilities by hand."""
    effect = RECORD.effects["mlp_output"]
    perturbed = effect.target_log_prob
    assert perturbed is not None
    expected = RECORD.target_log_prob[:, -1].astype(float)[:, None, None] - perturbed
    np.testing.assert_array_equal(effect.target_log_prob_loss, expected)
    found = effect.largest_loss_layer
    assert found is not None
    assert (found.layer, found.mean_loss_nats) == (2, pytest.approx(expected[:, :, 2].mean()))
    assert (effect.vulnerable_layer.layer, effect.layers_without_site) == (2, (0,))


def test_prompts_with_several_answers_have_no_loss() -> None:
    """Any answer counts in a clean output and one is followed in a perturbed one: there is no loss to tell."""
    prompts = (dataclasses.replace(RECORD.prompts[0], other_answer_ids=((9,),)), *RECORD.prompts[1:])
    effect = dataclasses.replace(RECORD, prompts=prompts).effects["mixer_output"]
    loss = effect.target_log_prob_loss
    assert loss is not None
    assert np.isnan(loss[0]).all()
    assert effect.largest_loss_layer is not None
    assert len(effect.largest_loss_layer.per_prompt) == RECORD.n_prompts - 1


def test_a_lens_has_its_own_particle() -> None:
    """The particle of a lens is that of a trace whose logit lens reads the same."""
    lens = RECORD.lenses["linear"]
    same = dataclasses.replace(
        RECORD,
        target_log_prob=lens.target_log_prob,
        embedding_log_prob=lens.embedding_log_prob,
        target_rank=lens.target_rank,
    )
    assert lens.task_particle == same.task_particle


def test_a_data_frame_has_them_by_name() -> None:
    """A data frame has a column for every measure, further effect and lens."""
    frame = RECORD.to_pandas()
    assert list(frame.columns[8:]) == [
        *("block_influence", "surprise_nats", "target_log_prob_loss"),
        *("mlp_output.js_bits", "mlp_output.target_log_prob_loss"),
        *("mlp_output#2.js_bits", "mlp_output#2.target_log_prob_loss"),
        *("linear.target_prob", "linear.target_rank", "linear.entropy_bits"),
    ]
    means = frame.groupby("layer")["mlp_output.js_bits"].mean().to_numpy()
    np.testing.assert_allclose(means, RECORD.effects["mlp_output"].js_bits.mean(axis=(0, 1)), rtol=1e-6)


def test_means_leave_out_what_is_missing() -> None:
    """The mean of a measure is over the prompts that have one; NaN where none has."""
    info = RECORD.measures["surprise_nats"].info
    measure = LayerMeasure(info=info, values=np.array([[1, np.nan, np.nan], [3, 5, np.nan]]))
    np.testing.assert_array_equal(measure.mean, [2, 5, np.nan])


# ---------------------------------------------------------------- what does not fit


def changed(**changes: Any) -> Callable[[], object]:
    """A copy of the record with other values."""
    return lambda: dataclasses.replace(RECORD, **changes)


def swapped(effects: Mapping[str, EffectRecord]) -> dict[str, EffectRecord]:
    """The effects in another order."""
    first, second, third = effects.values()
    return {"a": first, "b": third, "c": second}


def one_measure(name: str, shape: tuple[int, int] = (6, 4)) -> dict[str, LayerMeasure]:
    """A layer measure under its name."""
    return {name: LayerMeasure(info=MeasureInfo(name=name, unit="bits", meaning="x"), values=np.zeros(shape))}


def first_effect() -> EffectRecord:
    """The first effect."""
    return next(iter(RECORD.effects.values()))


MISFITS: list[tuple[Callable[[], object], str]] = [
    (changed(effects={}), r"effects holds 0 effects, and spec has 3 perturbations\. Give one"),
    (changed(effects=swapped(RECORD.effects)), "is of another perturbation than the one at its place"),
    (changed(measures=one_measure("js_bits")), "cannot be called 'js_bits'"),
    (changed(measures={"a": one_measure("b")["b"]}), "holds 'b' under the name 'a'"),
    (changed(measures=one_measure("x_bits", (6, 3))), r"'x_bits' has values of shape \[6, 3\], this record needs"),
    (changed(lenses={"tuned": RECORD.lenses["linear"]}), "holds 'linear' under the name 'tuned'"),
    (changed(lenses={}), "lenses holds none, and spec.lenses names linear"),
    (lambda: dataclasses.replace(first_effect(), rows={}), "has no 'js_bits' among its rows"),
    (lambda: dataclasses.replace(first_effect(), dominant_ratio=np.ones(3)), r"dominant_ratio .* shape \[3\]"),
    (
        lambda: dataclasses.replace(first_effect(), rows={**first_effect().rows, "odd": first_effect().js_bits}),
        "has rows named 'odd', and infos says nothing",
    ),
    (lambda: one_measure("two words"), "must be an identifier"),
    (lambda: one_measure("ünit"), "must be an identifier"),
    (lambda: MeasureInfo(name="x", unit="\x1b[31m", meaning="x"), "unit of the measure 'x' must be one line"),
    (lambda: MeasureInfo(name="x", unit="bits", meaning=""), "meaning of the measure 'x' must be one line"),
    (lambda: MeasureInfo(name="x", unit="bits", meaning="x", low=1, high=0), r"to lie in \[1, 0\]"),
    (lambda: MeasureInfo(name="x", unit="bits", meaning="x", low=float("nan")), "low .* must be a finite number"),
    (lambda: dataclasses.replace(RECORD.lenses["linear"], meaning="a\nb"), "meaning of the lens 'linear'"),
    (lambda: dataclasses.replace(RECORD.lenses["linear"], target_rank=np.ones((6, 3))), r"shape \[6, 3\]"),
    (lambda: first_effect().select(np.array([0])).vulnerable_layer, "belongs to none"),
]


@pytest.mark.parametrize(("make", "words"), MISFITS, ids=[words[:40] for _, words in MISFITS])
def test_what_does_not_fit_is_refused(make: Callable[[], object], words: str) -> None:
    """Effects, measures and lenses that do not fit a record are refused, with what to do."""
    with pytest.raises(UsageError, match=words):
        make()


# ---------------------------------------------------------------- what cannot have been stored


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Files], Files]:
    """A run with another header."""
    return lambda files: with_header(files, change)


def columns_of(values: dict[str, Any], table: str = LAYERS) -> list[dict[str, Any]]:
    """The columns that a header names for a table."""
    return list(values["files"][table]["columns"])


def rename(table: str, old: str, **changes: Any) -> Callable[[dict[str, Any]], object]:
    """Say something else of a column."""
    return lambda values: next(one for one in values["files"][table]["columns"] if one["name"] == old).update(changes)


def put(table: str, column: str, value: Any) -> Callable[[Files], Files]:
    """A run with another number at the second place of a column."""
    return lambda files: with_column(files, table, column, lambda values: values.__setitem__(1, value))


def name_alike(values: dict[str, Any]) -> None:
    """Give two perturbations sites of which effects would be called alike."""
    for one, site in zip(values["spec"]["further_perturbations"], ("mixer_output#2", "mixer_output"), strict=True):
        one["site"] = site


IMPOSSIBLE: list[tuple[Callable[[Files], Files], str]] = [
    (header(lambda h: h["shape"]["n_further_draws"].pop()), "n_further_draws has 1 numbers, and spec"),
    (header(lambda h: h["shape"].update(n_further_draws=[2, 2])), "further_perturbations[1].draws is 1"),
    (header(lambda h: h["shape"].update(n_further_draws=[2] * 999)), "n_further_draws is a list of 999, and must be"),
    (header(lambda h: h["spec"]["further_perturbations"][0].pop("site")), "further_perturbations[0].site is missing"),
    (header(name_alike), "stands for another one"),
    (header(lambda h: h.update(lenses=[])), "'linear.target_log_prob', which is no measure"),
    (header(lambda h: h["lenses"].append(h["lenses"][0])), "lenses has a name twice"),
    (header(lambda h: h["lenses"][0].update(name="<b>")), "lenses[0].name is '<b>', and must be an identifier"),
    (header(lambda h: h["lenses"][0].update(meaning="\x1b]0;x\x07")), "lenses[0].meaning is"),
    (header(rename(LAYERS, "surprise_nats", name="two words")), "'two words', which is no measure"),
    (header(rename(LAYERS, "surprise_nats", name="target_prob")), "'target_prob', which is no measure"),
    (header(rename(LAYERS, "surprise_nats", name="block_influence")), "is there twice"),
    (header(rename(LAYERS, "surprise_nats", unit="\u202e")), "unit is '\\u202e', and must be one line"),
    (header(rename(LAYERS, "surprise_nats", unit=None)), "must be one line"),
    (header(rename(LAYERS, "surprise_nats", meaning="x" * 401)), "must be one line of 1 to 400"),
    (header(rename(LAYERS, "surprise_nats", type="float64")), "'surprise_nats', which is no measure"),
    (header(rename(LAYERS, "surprise_nats", low=2.0, high=1.0)), "where nothing lies"),
    (header(rename(LAYERS, "surprise_nats", low=None, high=float(-1))), "surprise_nats is"),
    (header(rename(LAYERS, "surprise_nats", high="d_vocab")), "high of the measure 'surprise_nats' must be a finite"),
    (header(rename(LAYERS, "surprise_nats", unit="u" * 41)), "must be one line of 1 to 40 printable characters"),
    (header(lambda h: h["spec"].update(lenses=["linear", "ghost"])), "spec.lenses names 'ghost', which is none of"),
    (header(lambda h: h["spec"].update(lenses=[])), "lenses has 'linear', which spec.lenses does not name"),
    (header(rename(LAYERS, "target_log_prob", unit="bits")), "columns[2].unit is 'bits', and must be 'nats'"),
    (header(rename(LAYERS, "linear.top_ids", type="int32")), "type is 'int32', and must be 'list<int32>'"),
    (header(rename(PERTURBATIONS, "target_log_prob", unit="bits")), "unit is 'bits', and must be 'nats'"),
    (header(rename(PERTURBATIONS, "target_log_prob", high=99.0, name="other")), "not those of the format"),
    (header(lambda h: columns_of(h) and h["files"][LAYERS]["columns"].pop(0)), "columns[0].name is 'layer'"),
    (header(lambda h: h["files"][LAYERS].pop("columns")), "columns is missing"),
    (header(lambda h: h["files"][LAYERS].update(columns=[{}])), "columns[0].name is missing"),
    (put(LAYERS, "block_influence", 2.5), "block_influence is 2.5 at prompt 0, layer 1"),
    (put(LAYERS, "linear.entropy_bits", 0.0), "entropy_bits is 0, and top_prob allows"),
    (put(LAYERS, "linear.target_rank", 50), "target_rank is 50 and"),
    (put(PERTURBATIONS, "target_log_prob", 0.5), "in effect 0, target_log_prob is 0.5 at prompt 0, draw 0, layer 1"),
    (put(PERTURBATIONS, "target_log_prob", -30.0), "target's probability alone makes it"),
    (put(PERTURBATIONS, "effect", 1), "not one per effect × prompt × draw × layer in their order"),
]


@pytest.mark.parametrize(("change", "words"), IMPOSSIBLE, ids=[words[:50] for _, words in IMPOSSIBLE])
def test_what_no_trace_writes_is_refused(
    change: Callable[[Files], Files], words: str, files: Files, tmp_path: Path
) -> None:
    """Columns, effects and lenses that cannot be are refused with their place, whoever made the checksums."""
    path = write_files(change(files), tmp_path / "run")
    reasons = [fault.reason for fault in verify_run(path).faults]
    assert any(words in reason for reason in reasons), reasons
    with pytest.raises(DamagedRunError, match="is damaged"):
        read_run(path)


def test_the_last_layer_is_the_models_through_every_lens(tmp_path: Path) -> None:
    """A lens that reads something else than the model says after the last layer is refused."""
    lens = RECORD.lenses["linear"]
    log_prob = lens.target_log_prob.copy()
    log_prob[2, -1] -= 0.01
    record = dataclasses.replace(RECORD, lenses={"linear": dataclasses.replace(lens, target_log_prob=log_prob)})
    assert any("and the model's own" in one.reason for one in verify_run(save_quietly(record, tmp_path / "run")).faults)


def test_what_is_missing_is_missing_in_both(tmp_path: Path) -> None:
    """A layer without the site has neither a divergence nor a perturbed log-probability."""
    effect = first_effect()
    log_prob = np.array(effect.target_log_prob)
    log_prob[..., 3] = np.nan
    effects = {
        **RECORD.effects,
        effect.key: dataclasses.replace(effect, rows={**effect.rows, "target_log_prob": log_prob}),
    }
    record = dataclasses.replace(RECORD, effects=effects)
    found = verify_run(save_quietly(record, tmp_path / "run")).faults
    assert any("are not missing at the same layers" in one.reason for one in found)


def save_quietly(record: TraceRecord, path: Path) -> Path:
    """A saved record, without the warning that it will not be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return save_run(record, path)


@pytest.mark.parametrize("seed", range(20))
def test_what_distributions_give_obeys_the_law_of_one_token(seed: int, tmp_path: Path) -> None:
    """No two distributions, near or far apart, are nearer than what they say of the target: nothing is refused."""
    generator = np.random.default_rng(seed)
    shape = (3, 2, 4, D_VOCAB)
    clean = generator.normal(0, generator.choice([0.1, 3, 30], (3, 1)), (3, D_VOCAB))
    perturbed = clean[:, None, None] + generator.normal(0, generator.choice([1e-4, 1, 50], (*shape[:3], 1)), shape)
    log_p, log_q = log_softmax(clean)[:, None, None], log_softmax(perturbed)
    logits = np.repeat(clean[:, None], 4, axis=1)
    js, target = js_by_definition(log_p, log_q), np.minimum(log_q[..., ANSWER], 0)
    base = record_of(logits, js_bits=js)
    rows = {"js_bits": js, "target_log_prob": target}
    effect = dataclasses.replace(base.effects["mixer_output"], rows=rows)
    record = dataclasses.replace(base, effects={"mixer_output": effect})
    assert read_run(save_run(record, tmp_path / "run")) == record


def test_an_unknown_measure_is_loaded(files: Files, tmp_path: Path) -> None:
    """A measure that this version has never heard of is read with its name, unit, meaning and bounds."""
    unknown = {"name": "lipschitz", "unit": "ratio", "meaning": "of a later version", "low": 0.0, "high": None}
    altered = with_header(files, rename(LAYERS, "block_influence", **unknown))
    table = pq.read_table(pa.BufferReader(files[LAYERS]))
    names = [{"block_influence": "lipschitz"}.get(name, name) for name in table.schema.names]
    altered = with_table_bytes(altered, LAYERS, parquet_bytes(table.rename_columns(names)))
    found = read_run(write_files(altered, tmp_path / "run")).measures["lipschitz"]
    assert found.info == MeasureInfo(**unknown)
    assert np.array_equal(found.values, RECORD.measures["block_influence"].values)


def test_the_header_names_every_column(files: Files) -> None:
    """Every column of every table stands in the header in its order, with its type."""
    header = json.loads(files[HEADER_FILE])
    for name, entry in header["files"].items():
        schema = pq.read_schema(pa.BufferReader(files[name]))
        assert [one["name"] for one in entry["columns"]] == schema.names
        assert all(one["meaning"] for one in entry["columns"])
