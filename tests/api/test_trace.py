"""What a user's program calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import layertracer as lt
from layertracer.runs import read_run, save_run
from layertracer.tracing import Progress

from tests.support.interruptions import interrupting
from tests.support.models.planted import planted_answer
from tests.support.records.sample_records import make_record
from tests.support.tiny import tiny

SAMPLES = [
    lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in [(3, 5, 9), (7, 2, 4), (11, 1), (4, 4, 8, 2)]
]


@pytest.fixture(scope="module")
def planted() -> lt.TracedModel:
    """A model that answers at layer 3 and breaks at layer 1."""
    return tiny("planted")


def test_trace_finds_what_was_planted(planted: lt.TracedModel) -> None:
    """From Python, with default settings, the planted layers are found."""
    trace = lt.trace(planted, SAMPLES)
    assert isinstance(trace, lt.Trace)
    assert trace.task_particle.layer == 3
    assert trace.vulnerable_layer.layer == 1
    assert trace.status == "complete"
    assert trace.spec.perturbation == lt.Mask().to_dict()
    assert trace.spec.onset == lt.Rise().to_dict()


def test_settings_reach_the_trace(planted: lt.TracedModel) -> None:
    """What is asked for in Python stands in the trace, and progress is called to the end."""
    seen = []
    trace = lt.trace(
        planted,
        SAMPLES,
        perturbation=lt.Noise(scale=0.2, draws=2),
        onset=lt.HalfMax(),
        target="model",
        seed=4,
        memory="64MiB",
        progress=seen.append,
        command=["mine", "--fast"],
    )
    assert trace.spec.perturbation == lt.Noise(scale=0.2, draws=2).to_dict()
    assert (trace.spec.onset, trace.spec.target, trace.spec.seed) == ({"kind": "half_max"}, "model", 4)
    assert trace.provenance["command"] == ["mine", "--fast"]
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_a_trace_is_loaded_as_it_was_saved(planted: lt.TracedModel, tmp_path: Path) -> None:
    """Saving and loading a real trace gives the same trace, with the same answers."""
    trace = lt.trace(planted, SAMPLES, perturbation=lt.Mask(fraction=0.5, draws=2))
    loaded = lt.load_run(trace.save(tmp_path / "run"))
    assert isinstance(loaded, lt.Trace)
    assert loaded == trace
    assert loaded.task_particle == trace.task_particle
    assert loaded.vulnerable_layer == trace.vulnerable_layer


def test_ctrl_c_carries_what_was_finished(planted: lt.TracedModel, tmp_path: Path) -> None:
    """A KeyboardInterrupt has what was finished as its record, which can be saved."""

    def press(_progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="of 4 prompts") as stop:
        lt.trace(planted, SAMPLES, progress=press)
    partial = stop.value.record
    assert isinstance(partial, lt.Trace)
    assert partial.status == "interrupted"
    assert 0 < partial.n_prompts < 4
    assert lt.load_run(partial.save(tmp_path / "run")) == partial


def _trace_up_to(model: lt.TracedModel, line: int) -> tuple[int, lt.Trace]:
    """A trace that is interrupted at a line after its last prompt, and how many lines there were."""

    def arm(progress: Progress) -> None:
        moment.armed = progress.done == progress.total

    with interrupting(line, armed=False) as moment:
        try:
            trace = lt.trace(model, SAMPLES, perturbation=lt.Mask(fraction=0.5, draws=2), progress=arm)
        except KeyboardInterrupt as stop:
            return moment.n_seen, stop.record  # type: ignore[attr-defined]  # it has one
        return moment.n_seen, trace


def _lines_to_try(n_lines: int, n_tries: int) -> list[int]:
    """Lines drawn evenly, and the last ones each."""
    return sorted({*range(1, n_lines + 1, max(1, n_lines // n_tries)), *range(max(1, n_lines - 2), n_lines + 1)})


@pytest.mark.parametrize("n_tries", [4, pytest.param(300, marks=pytest.mark.slow)])
def test_ctrl_c_after_the_last_prompt_loses_nothing(planted: lt.TracedModel, n_tries: int) -> None:
    """Wherever it comes after the last prompt, the interruption carries a complete trace with the same numbers.

    An audit that was cut short says so, and states no bound.
    """
    whole = lt.trace(planted, SAMPLES, perturbation=lt.Mask(fraction=0.5, draws=2))
    n_lines, same = _trace_up_to(planted, 0)
    assert n_lines > 500
    assert np.array_equal(same.js_bits, whole.js_bits)
    cut = []
    for line in _lines_to_try(n_lines, n_tries):
        _, kept = _trace_up_to(planted, line)
        assert isinstance(kept, lt.Trace), line
        assert (kept.status, kept.n_prompts) == ("complete", 4), line
        assert np.array_equal(kept.js_bits, whole.js_bits), line
        assert np.array_equal(kept.target_log_prob, whole.target_log_prob), line
        assert kept.audit is not None
        assert whole.audit is not None
        is_cut = any("interrupted after its last prompt" in note for note in kept.audit.notes)
        assert (kept.audit.n_forwards, kept.audit.bound) == (whole.audit.n_forwards, whole.audit.bound) or is_cut
        cut.append(is_cut)
    assert not all(cut)


def test_a_record_becomes_a_trace_and_stays_equal(tmp_path: Path) -> None:
    """A trace made of a record equals it, also through the disk, and selections of a trace are traces."""
    record = make_record()
    trace = lt.Trace.from_record(record)
    assert trace == record
    assert record == trace
    assert read_run(save_run(record, tmp_path / "a")) == lt.load_run(tmp_path / "a")
    assert isinstance(trace.solved_only(), lt.Trace)
    np.testing.assert_array_equal(trace.select([2]).js_bits, record.js_bits[[2]])
    assert repr(trace).startswith("<Trace of 'planted-135m'")


def test_report_is_one_file(tmp_path: Path) -> None:
    """`report` writes a page and returns where."""
    path = lt.Trace.from_record(make_record()).report(tmp_path / "x.html")
    assert path == tmp_path / "x.html"
    assert path.read_bytes().startswith(b"<!DOCTYPE html>")


def test_save_refuses_to_overwrite_unasked(tmp_path: Path) -> None:
    """A trace is not saved over another unless asked."""
    trace = lt.Trace.from_record(make_record())
    trace.save(tmp_path / "run")
    with pytest.raises(lt.RunError, match="There is a run at"):
        trace.save(tmp_path / "run")
    trace.save(tmp_path / "run", overwrite=True)


def test_load_run_refuses_what_is_no_run(tmp_path: Path) -> None:
    """Loading a folder without a run raises a RunError that says so."""
    with pytest.raises(lt.RunError, match="is not a run"):
        lt.load_run(tmp_path)
