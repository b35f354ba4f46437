"""One call from a model and a task to the evidence: stages that are kept as they come, and the record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from layertracer.evidence import CausalRecord, EvidenceRecord, ValidationPlan
from layertracer.runs import Checkpoints, collect_provenance
from layertracer.tracing import Progress, describe_model
from layertracer.validation._controls.random_directions import measure_random_directions
from layertracer.validation._controls.reinitialised import trace_reinitialised
from layertracer.validation._findings.agreements import Compared, find_agreements
from layertracer.validation._findings.controls import ARBITRARY, DIRECTIONS, REINITIALISED, SHUFFLED, judge_controls
from layertracer.validation._findings.effects import dose_responses, site_effects, sites_of
from layertracer.validation._findings.particles import curves_of_trace, find_particles, mean_target_prob
from layertracer.validation._findings.spread import crossed_layers, prompts_for_a_layer, shares_of_variance
from layertracer.validation._question import ValidationQuestion
from layertracer.validation._setting import Setting, as_asked, make_setting, refuse_changed_weights
from layertracer.validation._stages.causal import trace_task_causally, unpack_causal
from layertracer.validation._stages.crossed import measure_crossed
from layertracer.validation._stages.dependencies import Dependencies, stage_dependencies
from layertracer.validation._stages.few_shot import read_arbitrary_labels, read_shuffled_demonstrations
from layertracer.validation._stages.importance import take_importance, unpack_measures
from layertracer.validation._stages.keeping import Found, StageKeeper, not_measured
from layertracer.validation._stages.lenses import lens_qualities, name_of, read_fitted
from layertracer.validation._stages.masked import measure_doses
from layertracer.validation._stages.planned import plan_stages
from layertracer.validation._stages.probing import take_probes, unpack_probes
from layertracer.validation._stages.readings import LOGIT, read_lens
from layertracer.validation._stages.text import measure_text, trace_text
from layertracer.validation._stages.traces import trace_sites
from layertracer.validation._verdicts.extras import (
    Extras,
    dominant_shares,
    dose_correlations,
    threshold_sensitivity,
)
from layertracer.validation._verdicts.judge import judge_everything

Stage = Callable[[Callable[[Progress], None]], Found]

NOUN = "validation"
_TRACES, _READINGS, _DOSES, _IMPORTANCE, _CAUSAL = "traces", "readings", "doses", "importance", "causal"
_TEXT, _TEXT_IMPORTANCE, _CROSSED, _PROBES, _LENS = "text", "text_importance", "crossed", "probes", "lens:"

_NOT_ASKED: Mapping[str, str] = {
    _CAUSAL: "Causal tracing was not asked for.",
    _CROSSED: "The short form crosses no demonstrations and templates.",
    _TEXT: "No running text was asked for.",
    "lens": "The logit lens alone was read: ask for a fitted lens.",
}


_UNREACHED = "It was not reached: the validation was stopped by hand."


class ValidationInterrupted(KeyboardInterrupt):
    """A validation that was stopped by hand.

    Attributes:
        record: What was finished; the rest is said not to be measured.
    """

    def __init__(self, record: EvidenceRecord) -> None:
        super().__init__(f"interrupted after {len(record.spec['stages'])} stages")
        self.record = record


def plan_validation(question: ValidationQuestion, *, folder: Path | None = None) -> ValidationPlan:
    """What a validation takes, about; one forward is timed.

    Args:
        question: What is asked.
        folder: Where an earlier call may have kept stages.

    Raises:
        LayerTracerError: If the prompts make no sense for this model, or the folder holds another validation.
    """
    setting = make_setting(question)
    keeper = StageKeeper(Checkpoints(folder, as_asked(setting), noun=NOUN), None)
    words = _words(setting)
    return plan_stages(setting, words, keeper.known(_dependencies(setting, words, folder)))


def run_validation(
    question: ValidationQuestion,
    *,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[ValidationPlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> EvidenceRecord:
    """Whether a task particle and a vulnerable layer are real.

    Laws: the same question and seed give the same evidence; what is found does not depend on the folder, nor on what an
    earlier call left there.

    Args:
        question: What is asked.
        folder: Where finished stages are kept, so that the same call goes on after Ctrl-C; None for nowhere.
        on_progress: Called with how far it is, in forwards of a prompt.
        on_plan: Called once, before the first stage.
        command: The command line, for the provenance.

    Raises:
        LayerTracerError: If the prompts cannot be traced at all. What else cannot be measured is said to be so.
        RunError: If the folder holds the stages of another validation, or cannot be read.
        ValidationInterrupted: On Ctrl-C once the first stage is there; its record holds what was finished.
        KeyboardInterrupt: Before that.
    """
    started_at = datetime.now(UTC)
    setting = make_setting(question)
    checkpoints = Checkpoints(folder, as_asked(setting), noun=NOUN)
    keeper = StageKeeper(checkpoints, on_progress)
    words = _words(setting)
    depends_on = _dependencies(setting, words, folder)
    plan = plan_stages(setting, words, keeper.known(depends_on))
    keeper.follow(plan.stages)
    if on_plan is not None:
        on_plan(plan)
    found = {_TRACES: keeper.take(_TRACES, _first(setting), depends_on=depends_on[_TRACES], is_needed=True)}
    stages = _stages(setting, found[_TRACES])
    try:
        for name, stage in stages.items():
            found[name] = keeper.take(name, stage, depends_on=depends_on[name])
    except KeyboardInterrupt:
        # What an earlier call had finished counts, though it would only have been reached later.
        found |= keeper.kept({name: depends_on[name] for name in stages})
        notes = (*checkpoints.notes, "Interrupted: what is not measured here was not reached.")
        record = _record(setting, found, notes=notes)
        provenance = collect_provenance(command=command, started_at=started_at)
        raise ValidationInterrupted(replace(record, provenance=provenance)) from None
    refuse_changed_weights(setting)
    record = _record(setting, found, notes=checkpoints.notes)
    return replace(record, provenance=collect_provenance(command=command, started_at=started_at))


def _dependencies(setting: Setting, words: Mapping[str, str], folder: Path | None) -> Dependencies:
    """What each stage depends on; nothing is asked of that where nothing is kept."""
    return dict.fromkeys(words) if folder is None else stage_dependencies(setting, words)


def _first(setting: Setting) -> Stage:
    return lambda tell: trace_sites(setting, setting.samples, tell)


def _words(setting: Setting) -> dict[str, str]:
    """The stages that are asked for, in their order, with their words."""
    options = setting.options
    words = {
        _TRACES: "trace at every site",
        _READINGS: "logit lens and random targets",
        _DOSES: "doses and dominant dimensions",
        _IMPORTANCE: "other measures of importance",
    }
    controls = {
        ARBITRARY: "control: arbitrary labels",
        SHUFFLED: "control: shuffled demonstrations",
        REINITIALISED: "control: weights drawn anew",
        DIRECTIONS: "control: random directions",
    }
    words |= {name: controls[name] for name in controls if name in options.asked_controls}
    if options.causal is not None:
        words[_CAUSAL] = f"causal tracing ({options.causal})"
    if setting.question.with_text:
        words |= {_TEXT: "trace of running text", _TEXT_IMPORTANCE: "importance on running text"}
    if not options.quick:
        words |= {f"{_LENS}{name_of(lens)}": f"lens {name_of(lens)}" for lens in options.lenses}
        words |= {_CROSSED: "demonstrations and templates crossed", _PROBES: "probes of the answer"}
    return words


def _stages(setting: Setting, trace: Found) -> dict[str, Stage]:
    """The stages behind the first one."""
    sites = sites_of(trace)
    first = sites[0]
    every: dict[str, Stage] = {
        _READINGS: lambda tell: read_lens(setting, None, tell),
        _DOSES: lambda tell: measure_doses(setting, sites, tell),
        _IMPORTANCE: lambda tell: take_importance(setting, setting.samples, tell),
        ARBITRARY: lambda tell: read_arbitrary_labels(setting, tell),
        SHUFFLED: lambda tell: read_shuffled_demonstrations(setting, tell),
        REINITIALISED: lambda tell: trace_reinitialised(setting, sites, tell),
        DIRECTIONS: lambda tell: measure_random_directions(setting, sites, tell),
        _CAUSAL: lambda tell: trace_task_causally(setting, tell),
        _TEXT: lambda tell: trace_text(setting, tell),
        _TEXT_IMPORTANCE: lambda tell: measure_text(setting, tell),
        _CROSSED: lambda tell: measure_crossed(setting, first, tell),
        _PROBES: lambda _: take_probes(setting),
    }
    for lens in setting.options.lenses:
        every[f"{_LENS}{name_of(lens)}"] = partial(read_fitted, setting, lens)
    return {name: every[name] for name in _words(setting) if name in every}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stages:
    """What stages found, those of which something was measured; and why others were not."""

    every: Mapping[str, Found]
    asked: Collection[str]

    def get(self, name: str) -> Found | None:
        """What a stage found; None where nothing was measured."""
        found = self.every.get(name)
        return None if found is None or found.why_not else found

    @property
    def lenses(self) -> dict[str, Found]:
        """Readings by lens, the logit lens first."""
        named = {LOGIT: self.get(_READINGS)}
        named |= {name.removeprefix(_LENS): self.get(name) for name in self.every if name.startswith(_LENS)}
        return {name: found for name, found in named.items() if found is not None}

    @property
    def why_not(self) -> dict[str, str]:
        """Why stages were not measured."""
        reasons = {name: found.why_not for name, found in self.every.items() if found.why_not}
        lens = next((reason for name, reason in reasons.items() if name.startswith(_LENS)), None)
        unreached = {name: _UNREACHED for name in self.asked if name not in self.every}
        if lens is None and any(name.startswith(_LENS) for name in unreached):
            lens = _UNREACHED
        return {**_NOT_ASKED, **unreached, **reasons} | ({} if lens is None else {"lens": lens})


def _record(setting: Setting, every: Mapping[str, Found], *, notes: Sequence[str]) -> EvidenceRecord:
    """The record of what was found, with its verdicts."""
    stages = _Stages(every=every, asked=_words(setting))
    trace, seed, units = every[_TRACES], setting.options.seed, setting.units
    description = describe_model(setting.model)
    causal = _causal(stages)
    measured = _measured(setting, stages, causal)
    fidelity, probes = stages.get(_IMPORTANCE) or not_measured(""), stages.get(_PROBES)
    record = EvidenceRecord(
        model={
            "name": setting.model.name,
            "n_layers": description.n_layers,
            "mixers": tuple(layer.mixer for layer in description.layers),
            "fingerprint": description.fingerprint,
        },
        task=dict(setting.spec),
        n_prompts=len(trace.arrays["solved"]),
        solved_share=_nan_if_none(trace.facts["solved_share"]),
        quick=setting.options.quick,
        seed=seed,
        verdicts=(),
        target_prob=mean_target_prob(trace, stages.lenses),
        causal=causal,
        causal_reason="" if causal is not None else stages.why_not.get(_CAUSAL, ""),
        controls=judge_controls(trace, every, units=units, seed=seed),
        lenses=lens_qualities(stages.lenses),
        probes=() if probes is None else unpack_probes(probes),
        gradient_fidelity=dict(fidelity.facts.get("fidelity", {})),
        provenance={},
        spec=_spec(setting, every),
        notes=tuple(dict.fromkeys((*setting.notes, *notes, *_notes(every)))),
        **measured,
    )
    return replace(record, verdicts=judge_everything(record, _extras(stages, seed=seed)))


def _measured(setting: Setting, stages: _Stages, causal: CausalRecord | None) -> dict[str, Any]:
    """Particles, effects, other measures, doses, variance, and what of them agrees."""
    seed, units = setting.options.seed, setting.units
    trace, text, doses, crossed = stages.every[_TRACES], stages.get(_TEXT), stages.get(_DOSES), stages.get(_CROSSED)
    effects = site_effects(trace, rows="task") + (() if text is None else site_effects(text, rows="text"))
    importance, on_text = (
        {} if found is None else unpack_measures(found)
        for found in (stages.get(_IMPORTANCE), stages.get(_TEXT_IMPORTANCE))
    )
    particles = find_particles(trace, stages.lenses, units=units, seed=seed)
    compared = Compared(
        particles=particles,
        effects=effects,
        importance=importance,
        text_importance=on_text,
        causal=causal,
        units=units,
        seed=seed,
    )
    return {
        "particles": particles,
        "effects": effects,
        "importance": importance,
        "text_importance": on_text,
        "agreements": find_agreements(compared),
        "doses": () if doses is None else dose_responses(doses, units=units, seed=seed),
        "variance": () if crossed is None else shares_of_variance(crossed),
        "prompts_needed": prompts_for_a_layer(curves_of_trace(trace), units=units, seed=seed),
    }


def _causal(stages: _Stages) -> CausalRecord | None:
    found = stages.get(_CAUSAL)
    return None if found is None else unpack_causal(found)


def _extras(stages: _Stages, *, seed: int) -> Extras:
    doses, crossed = stages.get(_DOSES), stages.get(_CROSSED)
    return Extras(
        sensitivity=threshold_sensitivity(curves_of_trace(stages.every[_TRACES])),
        doses={} if doses is None else dose_correlations(doses, seed=seed),
        dominant={} if doses is None else dominant_shares(doses, seed=seed),
        crossed_layers=() if crossed is None else crossed_layers(crossed),
        why_not=stages.why_not,
    )


def _notes(every: Mapping[str, Found]) -> list[str]:
    """What stages say, and why some were not measured."""
    said = [note for found in every.values() for note in found.notes]
    return [*said, *(f"Not measured ({name}): {found.why_not}" for name, found in every.items() if found.why_not)]


def _spec(setting: Setting, every: Mapping[str, Found]) -> dict[str, Any]:
    """What was asked, as JSON values."""
    options = setting.options
    return {
        "quick": options.quick,
        "lenses": [name_of(lens) for lens in options.lenses],
        "causal": options.causal,
        "fractions": list(options.doses),
        "controls": list(options.asked_controls),
        "text": setting.question.with_text,
        "seed": options.seed,
        "audit": options.audit,
        "stages": {name: round(found.cpu_s, 2) for name, found in every.items()},
    }


def _nan_if_none(value: float | None) -> float:
    return float("nan") if value is None else float(value)
