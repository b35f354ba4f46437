"""The answer in one sentence."""

from __future__ import annotations

import numpy as np

from layertracer._types import TaskParticle, VulnerableLayer
from layertracer.reports._values.effects import effect_name
from layertracer.reports._values.findings import find_all
from layertracer.reports._values.numbers import show_count, show_interval, show_number, show_share
from layertracer.reports._values.parts import Phrase
from layertracer.reports._values.wording import (
    contenders_clause,
    criterion_kind,
    edge_clause,
    is_sole,
    model_name,
    no_interval_clause,
    perturbation_clause,
    task_name,
)
from layertracer.runs import TraceRecord


def summary_sentence(record: TraceRecord) -> str:
    """The answer of a trace in one sentence, with its intervals.

    Hidden characters of names are made visible; the sentence is plain text, not markup.
    """
    return "".join(phrase.text for phrase in summary_phrases(record))


def summary_phrases(record: TraceRecord) -> tuple[Phrase, ...]:
    """The sentence in pieces, those that carry the answer marked."""
    findings = find_all(record)
    if findings.particle is None:
        return _nothing(record)
    phrases = [Phrase(f"{model_name(record)} "), *_particle(record, findings.particle)]
    if findings.vulnerable is not None:
        phrases += _vulnerable(record, findings.vulnerable)
    return (*phrases, *_solved(record), Phrase("."), *_others(record))


def _others(record: TraceRecord) -> list[Phrase]:
    """What else was perturbed, since the sentence speaks of the first perturbation alone; nothing where that is all."""
    _, *others = record.effects.values()
    if not others or not all(effect.n_draws for effect in record.effects.values()):
        return []
    return [Phrase(f" Also perturbed: {', '.join(map(effect_name, others))} (see Sites).")]


def _solved(record: TraceRecord) -> list[Phrase]:
    """How many answers the model gives, and begins with; nothing where there are none."""
    solved, begins = record.solved_share, record.begins_share
    if solved is None and begins is None:
        return []
    if solved is None:
        share = Phrase(show_share(begins or 0.0), strong=True)
        return [Phrase("; it begins with the answer in "), share, Phrase(f" of {_prompts(record)}")]
    phrases = [Phrase("; it solves "), Phrase(show_share(solved), strong=True), Phrase(f" of {_prompts(record)}")]
    if begins is not None and begins != solved:
        phrases.append(Phrase(f" (and begins with the answer in {show_share(begins)})"))
    return phrases


def _prompts(record: TraceRecord) -> str:
    return "the one prompt" if record.n_prompts == 1 else f"the {record.n_prompts:,} prompts"


def _nothing(record: TraceRecord) -> tuple[Phrase, ...]:
    what = {"failed": "failed", "interrupted": "was interrupted"}.get(record.status, "ended")
    return (
        Phrase(f"The trace of {model_name(record)} on {task_name(record.spec)} {what} before the first of "),
        Phrase(f"{show_count(record.n_requested, 'prompt')} was finished: there is nothing to conclude."),
    )


def _particle(record: TraceRecord, particle: TaskParticle) -> list[Phrase]:
    found = Phrase(show_share(particle.share_found), strong=True)
    shares = [Phrase("found on "), found, Phrase(f" of {show_count(record.n_prompts, 'prompt')}")]
    task, is_answer = task_name(record.spec), record.spec.target == "answer"
    if particle.layer is None:
        largest = int(np.argmax(record.target_prob.mean(axis=0)))
        height = show_number(float(record.target_prob[:, largest].mean()), digits=2)
        return [
            Phrase("never makes "),
            Phrase("the answer" if is_answer else "its own answer", strong=True),
            Phrase(f" to {task} readable: its mean probability is at most {height}, after layer {largest}, and "),
            Phrase(f"{criterion_kind(record.spec.onset)} finds no layer ("),
            *shares,
            Phrase(")"),
        ]
    action = f"starts executing {task}" if is_answer else f"starts to form its own answer to {task}"
    return [
        Phrase(f"{action} at "),
        Phrase(f"layer {particle.layer}", strong=True),
        Phrase(f" of 0–{record.n_layers - 1} ({_interval(particle)}, "),
        *shares,
        Phrase(")"),
    ]


def _vulnerable(record: TraceRecord, vulnerable: VulnerableLayer) -> list[Phrase]:
    """The layer where one stands out; else that none does, and how many it might be."""
    edge, done = edge_clause(vulnerable, record.n_layers), perturbation_clause(record.spec)
    js = show_number(vulnerable.mean_js_bits, digits=2)
    if record.n_layers == 1 or is_sole(record):
        which = "the only layer" if record.n_layers == 1 else f"the only layer that was perturbed{edge}"
        named = Phrase(f"layer {vulnerable.layer}", strong=True)
        return [Phrase("; "), named, Phrase(f" is {which}: {js} bits {done}")]
    if vulnerable.is_clear and vulnerable.interval is not None:
        level = f" at {100 * vulnerable.interval.level:g} %"
        return [
            Phrase(" and breaks most easily at "),
            Phrase(f"layer {vulnerable.layer}", strong=True),
            Phrase(f"{edge} (no other layer comes near{level}) {done}"),
        ]
    return [
        Phrase("; "),
        Phrase("no layer stands out", strong=True),
        Phrase(
            f" {done}: {contenders_clause(vulnerable, record.n_layers)}, {js} bits at layer {vulnerable.layer}{edge}"
        ),
    ]


def _interval(particle: TaskParticle) -> str:
    if particle.interval is None:
        return no_interval_clause(particle)
    return f"{100 * particle.interval.level:g} % interval {show_interval(particle.interval)}"
