"""A whole validation: on a planted model, in which every answer is known; and of what can only partly be measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layertracer as lt
from layertracer.evidence import EvidenceRecord, Verdict
from layertracer.evidence._laws import find_contradictions
from layertracer.validation import (
    ValidationInterrupted,
    ValidationOptions,
    ValidationQuestion,
    run_validation,
)

from tests.support.models.planted import planted_answer
from tests.support.tiny import fresh, tiny

ANSWER_LAYER, FRAGILE_LAYER = 3, 1
LIGHT: dict[str, Any] = {"fractions": (0.05,), "audit": 0.0, "text": False, "controls": ("random_directions",)}


def planted_samples(n: int = 12) -> list[lt.Sample]:
    """Prompts whose subject is their first token, with another subject as their contrast."""
    samples = []
    for index in range(n):
        ids = (1 + index, 3, 4, 5 + index % 3, 6, 7)
        other = (1 + (index + 5) % 17, *ids[1:])
        samples.append(
            lt.Sample(
                prompt_ids=ids,
                answer_id=planted_answer(ids),
                subject_span=(0, 1),
                contrast_ids=other,
                contrast_answer_id=planted_answer(other),
            )
        )
    return samples


@cache
def planted() -> lt.Evidence:
    """The evidence on the planted model, everything but lenses asked for."""
    return lt.validate(tiny("planted"), planted_samples(), fractions=(0.05, 0.2, 0.5))


def verdict(evidence: EvidenceRecord, question: str) -> Verdict:
    """The verdict on a question."""
    return next(one for one in evidence.verdicts if one.question == question)


class TestPlanted:
    """The answer enters at layer 3, moved there from the first token to the last; layer 1 is fragile."""

    def test_every_criterion_finds_the_answer_layer(self) -> None:
        """All six criteria name the layer at which the answer enters, in every prompt but for AbsRatio's drops."""
        for reading in planted().particles:
            assert reading.layer == ANSWER_LAYER
            assert reading.share_found == 1.0
        assert verdict(planted(), "threshold").answer == "yes"
        assert verdict(planted(), "prompts").answer == "yes"

    def test_rise_keeps_quiet_on_random_targets(self) -> None:
        """Rise fires on none of the other prompts' answers; with 12 prompts that is too little for less than 5 %."""
        rise = next(one for one in planted().particles if one.criterion == "rise")
        assert rise.false_positive_rate == 0.0
        assert rise.n_random == 12 * 8
        assert verdict(planted(), "false_positives").answer == "undecided"

    def test_every_site_finds_the_fragile_layer(self) -> None:
        """Masks at every site find the fragile layer, on the task and on running text."""
        assert {(one.rows, one.site) for one in planted().effects} == {
            (rows, site) for rows in ("task", "text") for site in ("mixer_output", "block_output", "mlp_output")
        }
        for effect in planted().effects:
            assert effect.layer == FRAGILE_LAYER
            assert effect.is_clear

    def test_causal_tracing_finds_where_and_when_the_subject_moves(self) -> None:
        """A patch of the subject restores the answer up to the layer before, one of the last token from then on."""
        causal = planted().causal
        assert causal is not None
        assert not causal.excluded
        recovery = causal.recovery
        assert np.allclose(recovery[:, :ANSWER_LAYER, 0], 1.0, atol=0.05)
        assert np.allclose(recovery[:, ANSWER_LAYER:, 0], 0.0, atol=0.05)
        assert np.allclose(recovery[:, :ANSWER_LAYER, -1], 0.0, atol=0.05)
        assert np.allclose(recovery[:, ANSWER_LAYER:, -1], 1.0, atol=0.05)

    def test_without_spread_there_is_no_correlation(self) -> None:
        """Where particle and causal depth are the same in every prompt, their correlation is undecided, not 1."""
        said = verdict(planted(), "causal")
        assert said.answer == "undecided"
        assert "not defined" in said.sentence

    def test_other_measures_find_what_they_look_for(self) -> None:
        """Zero-ablation finds the fragile layer and the answer's; attribution and skips the answer's."""
        means = {name: measure.mean for name, measure in planted().importance.items()}
        assert np.argmax(means["zero_mixer_js_bits"]) == FRAGILE_LAYER
        assert np.argsort(-means["zero_mixer_js_bits"])[1] == ANSWER_LAYER
        assert np.argmax(means["zero_mlp_js_bits"]) == FRAGILE_LAYER
        assert np.argmax(means["skip_js_bits"]) == ANSWER_LAYER == np.argmax(means["dla_mixer"])

    def test_controls_find_nothing(self) -> None:
        """With other answers, and with other weights, fewer prompts have a particle."""
        particles = {one.name: one for one in planted().controls if one.measured == "particle"}
        assert particles["arbitrary_labels"].share_found == 0.0
        assert all(one.passed and one.true_value == 1.0 for one in particles.values())

    def test_random_directions_find_the_fragile_layer(self) -> None:
        """Directions of equal norm break the model where masks do."""
        found = [one for one in planted().controls if one.name == "random_directions"]
        assert len(found) == 3
        assert all(one.layer == FRAGILE_LAYER for one in found)

    def test_doses_find_the_fragile_layer(self) -> None:
        """Small and large masks find the same layer; no dimension of it is dominant."""
        for dose in planted().doses:
            assert set(dose.layer) == {FRAGILE_LAYER}
            assert dose.rank_correlation[dose.fractions.index(dose.reference)] == 1.0
        assert verdict(planted(), "dominant").answer == "no"

    def test_few_layers_are_never_sure(self) -> None:
        """Six layers are too few for an order of theirs to be more than chance."""
        for question in ("importance", "dose", "running_text"):
            assert verdict(planted(), question).answer == "undecided"

    def test_the_record_agrees_with_itself(self, tmp_path: Path) -> None:
        """Nothing in it contradicts the rest, and it is read as it was saved."""
        assert list(find_contradictions(planted())) == []
        planted().save(tmp_path / "evidence")
        assert lt.load_evidence(tmp_path / "evidence") == planted()


class TestStages:
    """Stages that are kept as they come."""

    def test_the_reference_dose_is_the_trace(self) -> None:
        """At the reference the masks are the trace's own, so that effects are the same but for parts' sizes."""
        dose = next(one for one in planted().doses if one.site == "block_output")
        effect = next(one for one in planted().effects if one.site == "block_output" and one.rows == "task")
        at = dose.js_bits[dose.fractions.index(dose.reference)]
        assert np.allclose(at, effect.js_bits.mean(axis=0), atol=0.05)

    def test_what_was_stopped_goes_on(self, tmp_path: Path) -> None:
        """After Ctrl-C the record holds what was finished, and the same call takes it up and ends as one without."""
        question = _question(planted_samples())
        with pytest.raises(ValidationInterrupted, match="interrupted after") as stop:
            run_validation(question, folder=tmp_path, on_progress=_Stopping("random directions"))
        record = stop.value.record
        assert record.doses
        assert not record.controls
        assert verdict(record, "controls").answer == "not measured"
        plans: list[Any] = []
        resumed = run_validation(question, folder=tmp_path, on_plan=plans.append)
        assert {stage.name for stage in plans[0].stages if stage.is_known} >= {"traces", "readings", "doses"}
        whole = run_validation(question)
        assert resumed.verdicts == whole.verdicts
        assert all(
            np.array_equal(one.js_bits, other.js_bits)
            for one, other in zip(resumed.effects, whole.effects, strict=True)
        )

    def test_another_question_is_refused(self, tmp_path: Path) -> None:
        """A folder that holds the stages of other prompts is refused, with what differs."""
        with pytest.raises(ValidationInterrupted, match="interrupted after"):
            run_validation(_question(planted_samples()), folder=tmp_path, on_progress=_Stopping("random directions"))
        with pytest.raises(lt.RunError, match="another validation: n_prompts was 12 and is 9"):
            run_validation(_question(planted_samples(9)), folder=tmp_path)

    def test_the_model_stays_as_it_is(self) -> None:
        """New weights are those of a copy, and nothing is left registered or hooked."""
        module = fresh("planted")
        before = {name: value.clone() for name, value in module.state_dict().items()}
        model = lt.wrap_model(module)
        for _ in range(2):
            lt.validate(model, planted_samples(8), **LIGHT | {"controls": ("reinitialised_model", "random_directions")})
        assert all((before[name] == value).all() for name, value in module.state_dict().items())


class _Stopping:
    """Progress that is interrupted when a stage begins."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __call__(self, progress: Any) -> None:
        if self._words in progress.stage:
            raise KeyboardInterrupt


def _question(samples: Sequence[lt.Sample]) -> ValidationQuestion:
    options = ValidationOptions(fractions=(0.2, 0.5), controls=("random_directions",), causal=None, audit=0.0)
    return ValidationQuestion(model=tiny("planted"), task=samples, with_text=False, options=options)


class TestPartly:
    """What can only partly be measured says why, and loses nothing of the rest."""

    def test_one_prompt(self) -> None:
        """One prompt gives numbers, and no answer that prompts would have to make sure."""
        evidence = lt.validate(tiny("planted"), planted_samples(1), **LIGHT)
        assert {one.answer for one in evidence.verdicts} <= {"undecided", "not measured"}
        assert evidence.effects[0].layer == FRAGILE_LAYER

    def test_a_task_that_is_not_solved(self) -> None:
        """No particle, no causal trace with its reason, and layers' effects all the same."""
        samples = [lt.Sample(prompt_ids=(1 + index, 3, 4), answer_id=18 - index % 2) for index in range(8)]
        evidence = lt.validate(tiny("planted"), samples, **LIGHT)
        assert evidence.solved_share == 0.0
        assert evidence.causal is None
        assert evidence.causal_reason
        assert verdict(evidence, "causal").answer == "not measured"
        assert next(one for one in evidence.particles if one.criterion == "rise").layer is None
        assert verdict(evidence, "threshold").answer == "undecided"
        assert evidence.effects[0].layer == FRAGILE_LAYER

    def test_an_encoder_decoder(self) -> None:
        """The decoder's layers are traced; causal tracing is not measured, and says why."""
        samples = [lt.Sample(prompt_ids=(5, 6 + n, 7), decoder_ids=(1,), answer_id=9 + n % 3) for n in range(6)]
        evidence = lt.validate(tiny("encdec:t5"), samples, **LIGHT)
        assert "encoder" in evidence.causal_reason
        assert evidence.effects

    def test_a_text_that_is_too_short(self) -> None:
        """Running text of one word is not measured, and the reason stands in the verdict."""
        evidence = lt.validate(tiny("planted"), planted_samples(8), **LIGHT | {"text": [(1, 2, 3)]})
        assert verdict(evidence, "running_text").answer in ("not measured", "undecided")

    def test_a_text_without_a_tokenizer(self) -> None:
        """A text that cannot be read costs the rest nothing."""
        evidence = lt.validate(tiny("planted"), planted_samples(8), **LIGHT | {"text": "some words of a text"})
        said = verdict(evidence, "running_text")
        assert said.answer == "not measured"
        assert "tokenizer" in said.sentence

    def test_prompts_without_answers_are_refused(self) -> None:
        """There is nothing to follow without answers."""
        with pytest.raises(lt.TaskError, match="answer"):
            lt.validate(tiny("planted"), [lt.Sample(prompt_ids=(1, 2, 3))], **LIGHT)

    @pytest.mark.parametrize(
        ("asked", "match"),
        [
            ({"lenses": "tunde"}, "tuned"),
            ({"controls": "nothing"}, "arbitrary_labels"),
            ({"fractions": (0.2, 1.5)}, "between 0 and 1"),
            ({"causal": "noize"}, "noise"),
            ({"quick": True, "lenses": "tuned"}, "short form"),
        ],
    )
    def test_what_is_no_option_is_refused(self, asked: dict[str, Any], match: str) -> None:
        """The message says what there is."""
        with pytest.raises(lt.LayerTracerError, match=match):
            lt.validate(tiny("planted"), planted_samples(2), **asked)


class TestWordPairs:
    """A few-shot task of word pairs on a trained miniature, in the short form."""

    def test_causal_tracing_has_contrasts(self) -> None:
        """The contrast is the same prompt with another query; all prompts have one, and controls come out."""
        evidence = lt.validate("mini/attention", lt.load_task("antonym", limit=8), quick=True, text=False, audit=0.0)
        assert evidence.quick
        assert evidence.solved_share == 1.0
        assert evidence.causal is not None
        assert not evidence.causal.excluded
        names = {one.name: one.passed for one in evidence.controls if one.measured == "particle"}
        assert names == {"arbitrary_labels": True, "reinitialised_model": True}
        assert verdict(evidence, "lens").answer == "not measured"


class TestLabels:
    """A task with few answers, which probes can read off the stream."""

    def test_probes_are_kept(self, tmp_path: Path) -> None:
        """Where several prompts have one answer, probes read it; elsewhere it is said why there are none."""
        samples = [
            lt.Sample(prompt_ids=(first, 3 + n % 5, 4 + n // 5), answer_id=planted_answer((first,)))
            for n in range(20)
            for first in (1, 8)
        ]
        evidence = lt.validate(tiny("planted"), samples, **LIGHT | {"causal": False})
        assert evidence.probes
        assert evidence.causal_reason
        evidence.save(tmp_path / "evidence")
        assert lt.load_evidence(tmp_path / "evidence").probes == evidence.probes
        assert any("probes" in note for note in planted().notes)
