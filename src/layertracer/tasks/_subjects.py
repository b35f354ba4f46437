"""Subjects of prompts that are made of pairs: what is asked about, and where in the prompt it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from layertracer._types import Sample
from layertracer.tasks._few_shot import split_pairs
from layertracer.tasks._files.material import Pair
from layertracer.tasks._task import Task
from layertracer.tasks._template import INPUT, Template


def name_subjects(
    samples: Sequence[Sample], pairs: Sequence[Pair], templates: Sequence[Template], *, relation: str | None
) -> list[Sample]:
    """Few-shot samples with their inputs as subjects, behind the demonstrations.

    Args:
        samples: The samples.
        pairs: The pair that each asks about.
        templates: The templates that they take turns with.
        relation: What the pairs have in common.
    """
    return [
        replace(sample, subject=pair.input, subject_from=_begin(sample, pair, template), relation=relation)
        for sample, pair, template in zip(samples, pairs, cycle(templates), strict=False)
    ]


def _begin(sample: Sample, pair: Pair, template: Template) -> int:
    """From which character of its prompt on a sample's last input stands."""
    return len(str(sample.prompt)) - len(template.render_prompt(pair.input)) + template.head.index(INPUT)


def with_subjects(task: Task) -> tuple[Sample, ...]:
    """A task's samples, with the words that they ask about as their subjects, where it is made of pairs.

    Samples that name a subject, and finished prompts, come back as they are.

    Example:
        >>> from layertracer.tasks import load_task
        >>> with_subjects(load_task("antonym", n_shot=1, limit=1, seed=0))[0].subject
        'hot'
    """
    recipe = task.recipe
    if recipe is None or any(sample.subject is not None for sample in task.samples):
        return task.samples
    options, material = recipe.options, recipe.material
    if material.words is not None:
        return tuple(_name_key(sample) for sample in task.samples)
    if material.samples is not None:
        return task.samples
    split = split_pairs(material.pairs, n_shot=options.n_shot * options.demonstration_sets, seed=options.seed)
    templates = [Template.parse(text) for text in recipe.templates]
    return tuple(name_subjects(task.samples, split.queries[: len(task)], templates, relation=task.name))


def _name_key(sample: Sample) -> Sample:
    """A generated prompt with the key that it asks for, on its last line, as its subject."""
    prompt = str(sample.prompt)
    ahead, _, line = prompt.rpartition("\n")
    key = line.split()[0] if line.split() else ""
    return replace(sample, subject=key, subject_from=len(ahead) + 1) if key else sample
