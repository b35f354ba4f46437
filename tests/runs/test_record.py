"""Traces as data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layertracer import RunError, UsageError
from layertracer.runs import PromptRecord, TraceRecord

from tests.strategies import trace_records
from tests.support.records.sample_records import make_record


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(trace_records())
def test_record_equals_its_copy(record: TraceRecord) -> None:
    """A record equals a copy of itself, also where it holds NaN, and their hashes agree."""
    copy = dataclasses.replace(record)
    assert copy == record
    assert hash(copy) == hash(record)


@pytest.mark.parametrize(
    "name",
    [
        field.name
        for field in dataclasses.fields(TraceRecord)
        if isinstance(getattr(make_record(), field.name), np.ndarray)
    ],
)
def test_one_number_makes_a_difference(name: str) -> None:
    """Records that differ in one number of one array are not equal."""
    record = make_record()
    array = getattr(record, name).copy()
    array.flat[-1] = ~array.flat[-1] if array.dtype == bool else array.flat[-1] + 1
    assert dataclasses.replace(record, **{name: array}) != record


def test_other_fields_make_a_difference() -> None:
    """Records that differ in a word or a setting are not equal, and no record equals something else."""
    record = make_record()
    assert dataclasses.replace(record, status="failed") != record
    assert dataclasses.replace(record, spec=dataclasses.replace(record.spec, seed=1)) != record
    assert dataclasses.replace(record, provenance={**record.provenance, "python": "3.12"}) != record
    assert dataclasses.replace(record, tokens={**record.tokens, 5: "x"}) != record
    assert record != "record"


def test_arrays_are_copies_and_read_only() -> None:
    """What is done later to the arrays that were given does not reach the record."""
    given_js = np.full((2, 3, 4), 0.5)
    record = dataclasses.replace(make_record(2, 4, 3), js_bits=given_js)
    given_js[:] = 0
    assert record.js_bits.dtype == np.float32
    assert (record.js_bits == 0.5).all()
    with pytest.raises(ValueError, match="read-only"):
        record.js_bits[:] = 0


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("target_log_prob", (8, 11), r"target_log_prob has shape \[8, 11\], this record needs \[8, 12\]"),
        ("js_bits", (7, 5, 12), r"js_bits has shape \[7, 5, 12\], this record needs \[8, 'draw', 12\]"),
        ("dominant_hit", (4, 12), r"dominant_hit has shape \[4, 12\], this record needs \[5, 12\]"),
        ("top_prob", (8, 12, 4), r"top_prob has shape \[8, 12, 4\], this record needs \[8, 12, 5\]"),
        ("embedding_log_prob", (8, 1), r"embedding_log_prob has shape \[8, 1\], this record needs \[8\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], expected: str) -> None:
    """An array of another shape than the others is refused, and the message says which and how."""
    with pytest.raises(UsageError, match=expected):
        dataclasses.replace(make_record(), **{name: np.zeros(shape)})


def test_lone_surrogates_become_replacement_characters() -> None:
    """Text that UTF-8 cannot hold is made storable when the record is made."""
    prompt = make_record().prompts[0]
    broken = dataclasses.replace(prompt, prompt_text="a\ud800b", answer_text="\udfff")
    assert (broken.prompt_text, broken.answer_text) == ("a\ufffdb", "\ufffd")
    record = dataclasses.replace(make_record(), tokens={7: "\ud83d"})
    assert record.tokens == {7: "\ufffd"}


def test_solved_share_counts_only_prompts_with_answers() -> None:
    """The share of solved prompts leaves out those without an answer, and is None where none has one."""
    record = make_record(n_prompts=4)
    marks = (True, False, None, False)
    prompts = tuple(dataclasses.replace(p, solved=mark) for p, mark in zip(record.prompts, marks, strict=True))
    assert dataclasses.replace(record, prompts=prompts).solved_share == pytest.approx(1 / 3)
    assert make_record(with_answers=False).solved_share is None


def test_solved_only_keeps_the_solved_prompts() -> None:
    """The trace of the solved prompts has exactly their rows."""
    record = make_record(n_prompts=10)
    solved = record.solved_only()
    rows = [row for row, prompt in enumerate(record.prompts) if prompt.solved]
    assert 0 < len(rows) < 10
    assert solved.prompts == tuple(record.prompts[row] for row in rows)
    np.testing.assert_array_equal(solved.js_bits, record.js_bits[rows])
    np.testing.assert_array_equal(solved.dominant_hit, record.dominant_hit)
    assert solved.n_requested == record.n_requested


@settings(deadline=None)
@given(order=st.permutations(range(6)))
def test_selecting_all_prompts_in_another_order_and_back_changes_nothing(order: list[int]) -> None:
    """Permuting the prompts and permuting them back gives the same record."""
    record = make_record(n_prompts=6, n_layers=3)
    back = [order.index(row) for row in range(6)]
    assert record.select(order).select(back) == record


def test_select_refuses_rows_that_do_not_exist() -> None:
    """Asking for a prompt beyond the last one is refused with the number of prompts."""
    with pytest.raises(UsageError, match="There is no prompt 8: this trace has 8 prompts"):
        make_record().select([0, 8])


def test_answers_are_those_of_the_planted_curves() -> None:
    """The synthetic trace rises at three quarters of its depth and breaks at its first layer."""
    record = make_record(n_layers=16, n_prompts=20)
    assert record.task_particle.layer in {9, 10, 11}
    assert record.vulnerable_layer.layer == 0
    assert record.vulnerable_layer.is_edge
    assert record.sensitivity.layers[0] is not None
    assert record.robustness.max_bits == pytest.approx(record.vulnerable_layer.mean_js_bits)
    assert record.dominant.draw_share == pytest.approx(np.full(16, 0.2))


@pytest.mark.parametrize(
    "quantity", ["task_particle", "vulnerable_layer", "by_mixer", "robustness", "sensitivity", "dominant"]
)
def test_a_run_without_prompts_has_no_answer(quantity: str) -> None:
    """A run that failed before its first prompt says so when it is asked for an answer."""
    record = make_record(n_prompts=0, status="failed", n_requested=8)
    with pytest.raises(RunError, match=r"none of the 8 prompts was finished \(status 'failed': NaN after layer 3"):
        getattr(record, quantity)


def test_to_pandas_has_one_row_per_prompt_and_layer() -> None:
    """The table has a row per prompt and layer, with the mean JS divergence over draws."""
    record = make_record(n_prompts=3, n_layers=4)
    table = record.to_pandas()
    assert list(table.columns) == [
        "prompt",
        "layer",
        "mixer",
        "target_prob",
        "target_log_prob",
        "target_rank",
        "entropy_bits",
        "js_bits",
    ]
    assert len(table) == 12
    row = table[(table["prompt"] == 2) & (table["layer"] == 3)].iloc[0]
    assert row["mixer"] == "attention"
    assert row["target_prob"] == pytest.approx(float(record.target_prob[2, 3]))
    assert row["js_bits"] == pytest.approx(float(record.js_bits[2, :, 3].mean()))


def test_repr_is_one_short_line() -> None:
    """A record prints as one line that names the model, the task and the sizes."""
    assert repr(make_record(3, n_requested=8, status="interrupted")) == (
        "<TraceRecord of 'planted-135m' on 'antonym': 3 of 8 prompts, 5 draws, 12 layers, interrupted>"
    )


def test_prompt_records_are_values() -> None:
    """Two prompts of the same values are equal."""
    fields = {"prompt_ids": (1,), "answer_ids": (), "target_ids": (2,), "top_id": 2, "top_prob": 0.5, "solved": None}
    assert PromptRecord(**fields) == PromptRecord(**fields)
