"""Controls of few-shot prompts: answers exchanged, and answers of the demonstrations."""

from __future__ import annotations

from collections.abc import Callable

from layertracer._types import Sample
from layertracer.tasks import with_arbitrary_labels, with_shuffled_demonstrations
from layertracer.tracing import Progress
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.readings import read_answers

Tell = Callable[[Progress], None]


def arbitrary_labels(setting: Setting) -> tuple[Sample, ...] | None:
    """The prompts with answers exchanged; None where all have one answer."""
    given = setting.samples if setting.task is None else setting.task
    return with_arbitrary_labels(given, n=len(setting.samples), seed=setting.options.seed)


def shuffled_demonstrations(setting: Setting) -> tuple[Sample, ...] | None:
    """The prompts behind demonstrations whose answers are exchanged; None where there are none to exchange."""
    if setting.task is None or not setting.has_demonstrations:
        return None
    return with_shuffled_demonstrations(setting.task, n=len(setting.samples), seed=setting.options.seed)


def read_arbitrary_labels(setting: Setting, tell: Tell) -> Found:
    """What the logit lens reads of arbitrary answers, those of other prompts, behind demonstrations of such."""
    made = arbitrary_labels(setting)
    if made is None:
        return not_measured("All prompts have the same answer: there is no other to be given.")
    note = () if setting.has_demonstrations else ("Answers alone were exchanged: the prompts are finished.",)
    return _read(setting, made, tell, note)


def read_shuffled_demonstrations(setting: Setting, tell: Tell) -> Found:
    """What the logit lens reads of the answers, behind demonstrations whose answers are exchanged."""
    if not setting.has_demonstrations:
        return not_measured("The prompts have no demonstrations that could be told from what they ask.")
    made = shuffled_demonstrations(setting)
    if made is None:
        return not_measured("All demonstrations have the same answer: there is nothing to exchange.")
    return _read(setting, made, tell)


def _read(setting: Setting, samples: tuple[Sample, ...], tell: Tell, notes: tuple[str, ...] = ()) -> Found:
    found = read_answers(setting, samples, tell)
    return Found(facts={**found.facts, "notes": list(notes)}, arrays=found.arrays, why_not=found.why_not)
