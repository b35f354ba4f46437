"""Runs whose numbers are in their ranges and contradict one another are refused; what logits give never is."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertracer import DamagedRunError, verify_run
from layertracer.runs import TraceRecord, read_run, save_run

from tests.support.records.logit_records import ANSWER, D_VOCAB, record_of

_LOGITS = np.random.default_rng(3).normal(0, 2, (4, 3, D_VOCAB))
_LOGITS[3, -1, ANSWER] = 9.0
RECORD = record_of(_LOGITS)
"""Four prompts, of which the last one is solved."""


def all_prompts(**values: Any) -> dict[str, Any]:
    """The record's prompts with other values."""
    return {"prompts": tuple(dataclasses.replace(prompt, **values) for prompt in RECORD.prompts)}


def all_checks(**values: Any) -> dict[str, Any]:
    """The record's proof at load with other values."""
    checks = tuple(dataclasses.replace(check, **values) for check in RECORD.self_check.checks)
    return {"self_check": dataclasses.replace(RECORD.self_check, checks=checks)}


def audited(**values: Any) -> dict[str, Any]:
    """The record's audit with other values."""
    assert RECORD.audit is not None
    return {"audit": dataclasses.replace(RECORD.audit, **values)}


def full(name: str, value: float) -> dict[str, Any]:
    """A column of the record with one value everywhere."""
    return {name: np.full_like(getattr(RECORD, name), value)}


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    (full("target_log_prob", 0) | full("target_rank", 49), "target_rank is 49 and target_log_prob is 0"),
    (full("target_log_prob", 0), "target_log_prob is 0, a probability of 1,"),
    (full("target_log_prob", -np.inf), "a probability of 0, and top_prob is"),
    (full("target_rank", 1), "and the target's place in top_ids"),
    (full("target_rank", 50), "target_rank is 50 and"),
    (full("entropy_bits", 0), "entropy_bits is 0, and top_prob allows"),
    (full("entropy_bits", np.log2(D_VOCAB)), "entropy_bits is 5.64386, and top_prob allows"),
    (full("top_prob", 1e-9), "are not the last layer's top token"),
    (all_prompts(top_id=3), "top_id 3 with top_prob"),
    (all_prompts(solved=True, begins=False), "solved is true and begins false at prompt 0"),
    (all_prompts(solved=True, begins=True), "begins is true, top_id"),
    (all_prompts(solved=True, begins=None), "solved is true and the last target_rank"),
    (all_prompts(target_ids=(8,)), "target_ids is [8] and not [7], what is followed of answer_ids"),
    (all_prompts(answer_ids=(8, 9), solved=None), "target_ids is [7] and not [8]"),
    (all_prompts(answer_ids=(), solved=None, begins=None), "answer_ids is empty, and the answer is followed"),
    ({"spec": dataclasses.replace(RECORD.spec, target="model")}, "and not the model's top token"),
    ({"tokens": {1: "a"}}, "has no text"),
    (all_checks(error=5.0, tolerance=1e-3, passed=True), "passed is true, its error 5 and its tolerance 0.001"),
    (all_checks(error=0.0, passed=False), "passed is false, its error 0"),
    (all_checks(error=float("nan"), passed=True), "passed is true, its error nan"),
    (audited(n_cells=0, n_forwards=0, n_drawn=10**6), "n_forwards 0 and n_drawn 1000000"),
    (audited(n_cells=0, n_forwards=0, n_drawn=0), "audit.n_cells is 0, n_forwards 0 and worst_nats 1e-07"),
    (audited(worst_nats=None), "worst_nats null"),
    (audited(share=0.0), "its share of the trace 0"),
    ({"method": "plain"}, 'method is "plain", self_check.method "ladder"'),
]


def save_quietly(record: TraceRecord, path: Path) -> Path:
    """A saved record, without the warning that it will not be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return save_run(record, path)


@pytest.mark.parametrize(("changes", "words"), CONTRADICTIONS, ids=[words[:50] for _, words in CONTRADICTIONS])
def test_contradictions_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Values that no trace writes together are refused, with their place and what they are held against."""
    path = save_quietly(dataclasses.replace(RECORD, **changes), tmp_path / "run")
    assert any(words in fault.reason for fault in verify_run(path).faults)
    with pytest.raises(DamagedRunError, match="is damaged"):
        read_run(path)


@pytest.mark.parametrize("top_k", [0, 1, 3, D_VOCAB])
def test_what_logits_give_is_read(top_k: int, tmp_path: Path) -> None:
    """Flat, peaked and tied logits, and tokens that cannot be, obey every law: nothing is refused."""
    generator = np.random.default_rng(top_k)
    logits = generator.normal(0, generator.choice([0, 0.1, 3, 30, 1000], (64, 4, 1)), (64, 4, D_VOCAB))
    logits[::3] = np.round(logits[::3])
    logits[::7, :, 20:] = -np.inf
    path = save_run(record_of(logits, top_k=top_k), tmp_path / "run")
    assert verify_run(path).faults == ()
    assert read_run(path).n_prompts == 64


CHOICES: list[tuple[Callable[[TraceRecord], TraceRecord], str]] = [
    (lambda record: record.select([2, 0, 0]), "It is complete, with 3 of 4 prompts: those that were selected."),
    (lambda record: record.solved_only(), "It is complete, with 1 of 4 prompts: those that were selected."),
]


@pytest.mark.parametrize(("choose", "note"), CHOICES, ids=["select", "solved_only"])
def test_a_choice_of_prompts_is_a_run(choose: Callable[[TraceRecord], TraceRecord], note: str, tmp_path: Path) -> None:
    """What `select` and `solved_only` make is read again: fewer prompts than requested are a note, no fault."""
    chosen = choose(RECORD)
    path = save_run(chosen, tmp_path / "run")
    assert read_run(path) == chosen
    found = verify_run(path)
    assert found.is_intact
    assert note in found.notes


def test_runs_that_measured_nothing_again_are_read(tmp_path: Path) -> None:
    """Of a run without an audit, as older versions wrote, contradictions are a note: it is read as it always was."""
    path = save_run(dataclasses.replace(RECORD, audit=None, **full("entropy_bits", 0)), tmp_path / "run")
    assert read_run(path).entropy_bits.max() == 0
    found = verify_run(path)
    assert found.is_intact
    assert any("They do not go together (layers.parquet: entropy_bits is 0" in note for note in found.notes)
