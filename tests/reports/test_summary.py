"""The sentence, and the summary as JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from layertracer._types import Mask, Noise, Skip
from layertracer.reports import summarize, summary_sentence
from layertracer.reports._sections.tables import prompt_table
from layertracer.reports._values.overview import build_overview
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record


def _silent(record: TraceRecord) -> TraceRecord:
    return dataclasses.replace(record, target_log_prob=np.full_like(record.target_log_prob, -12))


def test_the_sentence_holds_both_answers_with_intervals() -> None:
    """Layer, interval, share found, the layer that stands out, site and share solved are in it."""
    record = make_record(10, 12)
    particle, vulnerable = record.task_particle, record.vulnerable_layer
    sentence = summary_sentence(record)
    assert f"starts executing antonym at layer {particle.layer} of 0–11 (95 % interval " in sentence
    assert "found on 80 % of 10 prompts)" in sentence
    assert vulnerable.is_clear
    named = f"and breaks most easily at layer {vulnerable.layer}, the first one (no other layer comes near at 95 %)"
    assert named in sentence
    assert sentence.endswith("when 20 % of the mixer output is masked; it solves 80 % of the 10 prompts.")


@pytest.mark.parametrize(
    ("perturbation", "clause"),
    [
        (Skip().to_dict(), "when the layer is skipped"),
        (Noise(scale=0.1, site="mlp_output").to_dict(), "under noise of 0.1 RMS at the MLP output"),
        (
            Mask(fraction=0.5, positions="last", site="block_output").to_dict(),
            "when 50 % of the block output at the last position is masked",
        ),
        (Mask.explicit(np.ones((8, 2, 4))).to_dict(), "under the given mask of the block output"),
        (
            {"kind": "flip", "site": "mixer_output", "draws": 2, "positions": "last", "fraction": 0.5},
            "under the perturbation 'flip' of the mixer output at the last position",
        ),
        ({"kind": "a\u202eb\n", "site": "mlp_output", "draws": 2}, "under the perturbation 'a⟨U+202E⟩b⏎' of the MLP"),
    ],
)
def test_the_sentence_names_the_perturbation(perturbation: dict[str, object], clause: str) -> None:
    """Each kind of perturbation has its own words."""
    assert clause in summary_sentence(make_record(3, 8, perturbation=perturbation))


def _even(record: TraceRecord) -> TraceRecord:
    """The same with layers that perturb alike but for noise."""
    js = 0.3 + 0.05 * np.random.default_rng(0).standard_normal(record.js_bits.shape)
    return dataclasses.replace(record, js_bits=np.clip(js, 0, 1))


def test_no_layer_is_named_where_none_stands_out() -> None:
    """The sentence says that no layer stands out, how many it might be, and names none as the vulnerable one."""
    record = _even(make_record(10, 12))
    vulnerable, sentence = record.vulnerable_layer, summary_sentence(record)
    assert len(vulnerable.contenders) > 1
    assert "breaks most easily" not in sentence
    of = f"{len(vulnerable.contenders)} of 12 layers ("
    assert f"; no layer stands out when 20 % of the mixer output is masked: {of}" in sentence
    assert f"cannot be told from the largest, 0.32 bits at layer {vulnerable.layer}" in sentence
    summary = summarize(record)["vulnerable_layer"]
    assert (summary["is_clear"], summary["contenders"]) == (False, list(vulnerable.contenders))


@pytest.mark.parametrize(
    ("n_prompts", "n_draws", "words"),
    [(1, 5, "one prompt cannot tell layers apart"), (6, 1, "one draw cannot tell layers apart")],
)
def test_one_prompt_or_one_draw_is_said(n_prompts: int, n_draws: int, words: str) -> None:
    """One prompt, or one random draw, names no layer, has no interval, and says why in sentence and summary."""
    perturbation = Mask(draws=n_draws).to_dict()
    record = make_record(n_prompts, 12, n_draws, perturbation=perturbation)
    summary = summarize(record)["vulnerable_layer"]
    assert f"no layer stands out when 20 % of the mixer output is masked: {words}" in summary_sentence(record)
    assert summary["interval"] is None
    assert summary["note"] == f"{words.split(' cannot', maxsplit=1)[0]}: no interval"


def test_the_sweep_says_what_the_answer_says() -> None:
    """At the delta that was used, the sweep has the particle's own layer and share of prompts."""
    record = make_record(10, 12)
    summary = summarize(record)
    (used,) = (row for row in summary["sensitivity"] if row["delta"] == record.spec.onset["delta"])
    particle = summary["task_particle"]
    assert (used["layer"], used["share_found"]) == (particle["layer"], particle["share_found"])


def test_none_is_an_answer() -> None:
    """Where no layer is found, sentence and summary say so."""
    record = _silent(make_record(4, 8))
    sentence = summary_sentence(record)
    assert "never makes the answer to antonym readable: its mean probability is at most 6.1e-06, after " in sentence
    assert "layer 0, and rise finds no layer (found on 0 % of 4 prompts)" in sentence
    assert summarize(record)["task_particle"]["layer"] is None


def test_the_models_own_token_is_not_called_the_answer() -> None:
    """Without answers the sentence speaks of the model's own answer and claims nothing as solved."""
    sentence = summary_sentence(make_record(4, 8, with_answers=False))
    assert "starts to form its own answer to antonym" in sentence
    assert "solves" not in sentence


def test_a_failed_run_concludes_nothing() -> None:
    """Without a finished prompt the sentence says so, and the summary has no answers."""
    record = make_record(0, 8, status="failed", n_requested=4)
    assert summary_sentence(record).endswith(
        "failed before the first of 4 prompts was finished: there is nothing to conclude."
    )
    summary = summarize(record)
    assert summary["task_particle"] is None
    assert summary["vulnerable_layer"] is None
    assert summary["error"]["type"] == "NonFiniteError"


@pytest.mark.parametrize(
    "record",
    [
        make_record(6, 8),
        make_record(6, 8, hostile=True),
        make_record(1, 1, 1),
        make_record(0, 8, status="failed", n_requested=4),
        _silent(make_record(3, 8)),
    ],
)
def test_the_summary_is_strict_json(record: TraceRecord) -> None:
    """It survives JSON without NaN, and comes back equal."""
    summary = summarize(record)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_summary_agrees_with_the_record() -> None:
    """Layers, shares and curves are those of the record; solved prompts have a summary of their own."""
    record = make_record(10, 12)
    summary = summarize(record)
    assert summary["task_particle"]["layer"] == record.task_particle.layer
    assert summary["vulnerable_layer"]["layer"] == record.vulnerable_layer.layer
    assert summary["solved_only"]["n_prompts"] == 8
    assert summary["curves"]["target_prob"] == pytest.approx(record.target_prob.mean(axis=0), rel=1e-5)
    assert summary["curves"]["js_bits"] == pytest.approx(record.js_bits.mean(axis=(0, 1)), rel=1e-5)
    gains = np.diff(record.target_prob.mean(axis=0))
    assert summary["curves"]["target_gain"][1:] == pytest.approx(gains, rel=1e-4, abs=1e-7)


def _with_begins(record: TraceRecord, begins: int, solved: int | None) -> TraceRecord:
    """The record with so many prompts begun, and so many solved, of the first ones; None where that is not known."""
    prompts = tuple(
        dataclasses.replace(prompt, begins=row < begins, solved=None if solved is None else row < solved)
        for row, prompt in enumerate(record.prompts)
    )
    return dataclasses.replace(record, prompts=prompts)


def test_whole_answers_and_beginnings_are_told_apart() -> None:
    """The sentence, the JSON, the tile and the table say how many answers are given whole, and how many are begun."""
    record = _with_begins(make_record(10, 12), begins=6, solved=4)
    assert summary_sentence(record).endswith("; it solves 40 % of the 10 prompts (and begins with the answer in 60 %).")
    summary = summarize(record)
    assert (summary["solved_share"], summary["begins_share"]) == (0.4, 0.6)
    tile = next(tile for tile in build_overview(record).tiles if tile.label == "Solved")
    assert tile.details == ("4 of 10 prompts", "gives the whole answer; begins with it in 6")
    column = [row[5] for row in prompt_table(record, 10).rows]
    assert column == ["yes"] * 4 + ["begins"] * 2 + ["no"] * 4
    assert summary["solved_only"]["n_prompts"] == 4


def test_beginnings_alone_are_not_called_solved() -> None:
    """Where only the first token was compared, nothing is called solved."""
    record = _with_begins(make_record(10, 12), begins=6, solved=None)
    assert summary_sentence(record).endswith("; it begins with the answer in 60 % of the 10 prompts.")
    overview = build_overview(record)
    assert "Solved" not in {tile.label for tile in overview.tiles}
    assert overview.comparison is None
    assert summarize(record)["solved_share"] is None
    assert "begins" in {row[5] for row in prompt_table(record, 10).rows}
