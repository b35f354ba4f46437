"""Prompts in which answers are exchanged: controls in which there is no such task to be done, or none is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from layertracer._types import Sample
from layertracer.tasks._few_shot import split_pairs
from layertracer.tasks._files.material import Pair
from layertracer.tasks._make import divide_demonstrations, write_sample
from layertracer.tasks._task import Task
from layertracer.tasks._template import Template


def with_arbitrary_labels(given: Task | Sequence[Sample], *, n: int, seed: int) -> tuple[Sample, ...] | None:
    """The first prompts, each with the answer of another one, behind demonstrations of likewise exchanged answers.

    Of finished prompts and generated ones, whose demonstrations cannot be told from what they ask, the answers alone
    are exchanged.

    Laws: equal arguments give equal prompts; as many keep their own answer as must, and none where no answer is that
    of more than half of them; the answers are those that were there, each as often.

    Args:
        given: A task, fitted to the model, or samples.
        n: How many prompts.
        seed: Seed of the exchange.

    Returns:
        The prompts; None where all have one answer.

    Example:
        >>> from layertracer.tasks import load_task
        >>> made = with_arbitrary_labels(load_task("antonym", n_shot=2, limit=8), n=2, seed=0)
        >>> len(made)
        2
    """
    samples = tuple(given)[:n]
    order = exchanged([_answers_of(sample) for sample in samples], seed=seed)
    if order is None:
        return None
    written = samples
    if isinstance(given, Task) and _is_few_shot(given):
        written = _write(given, n, seed=seed) or samples
    return tuple(
        replace(sample, **_answer_fields(samples[other])) for sample, other in zip(written, order, strict=True)
    )


def with_shuffled_demonstrations(task: Task, *, n: int, seed: int) -> tuple[Sample, ...] | None:
    """The first prompts of a few-shot task with their own answers, behind demonstrations whose answers are exchanged.

    Args:
        task: A few-shot task, fitted to the model.
        n: How many prompts.
        seed: Seed of the exchange.

    Returns:
        The prompts; None where all demonstrations have one answer, or it is no few-shot task.

    Example:
        >>> from layertracer.tasks import load_task
        >>> task = load_task("antonym", n_shot=2, limit=1)
        >>> for sample in (task[0], with_shuffled_demonstrations(task, n=1, seed=0)[0]):
        ...     print(sample.prompt.splitlines())
        ['danger -> safety', 'hot -> cold', 'penalty ->']
        ['danger -> cold', 'hot -> safety', 'penalty ->']

    Source:
        Min et al. (2022), "Rethinking the role of demonstrations: what makes in-context learning work?"
    """
    return _write(task, n, seed=seed) if _is_few_shot(task) else None


def _is_few_shot(task: Task) -> bool:
    """Whether prompts begin with demonstrations that can be told from what they ask."""
    recipe = task.recipe
    is_of_pairs = recipe is not None and recipe.material.samples is None and recipe.material.words is None
    return is_of_pairs and recipe is not None and recipe.options.n_shot > 0


def exchanged(values: Sequence[Any], *, seed: int) -> list[int] | None:
    """An order of the places in which as many as can be hold another value than before; None where none can.

    Example:
        >>> exchanged(["a", "b"], seed=0), exchanged(["a", "a"], seed=0)
        ([1, 0], None)
    """
    if len(set(values)) < 2:
        return None
    drawn = np.random.default_rng([seed, len(values)]).permutation(len(values)).tolist()
    ranks = {value: rank for rank, value in enumerate(dict.fromkeys(values[place] for place in drawn))}
    # Equal values stand together, and each moves on by as many places as the most frequent one takes.
    together = sorted(drawn, key=lambda place: ranks[values[place]])
    step = max(Counter(values).values())
    order = [0] * len(values)
    for index, place in enumerate(together):
        order[place] = together[(index + step) % len(together)]
    return order


def _write(task: Task, n: int, *, seed: int) -> tuple[Sample, ...] | None:
    """The prompts written again, with the answers of each set of demonstrations exchanged among them."""
    recipe = task.recipe
    assert recipe is not None  # few-shot
    options = recipe.options
    n_shot, n_sets = options.n_shot, options.demonstration_sets
    split = split_pairs(recipe.material.pairs, n_shot=n_shot * n_sets, seed=options.seed)
    sets = []
    for number, some in enumerate(divide_demonstrations(split, n_shot=n_shot, n_sets=n_sets)):
        order = exchanged([pair.output for pair in some], seed=seed + number)
        if order is None:
            return None
        sets.append(tuple(_with_output(pair, some[other]) for pair, other in zip(some, order, strict=True)))
    templates = [Template.parse(text) for text in recipe.templates]
    return tuple(
        write_sample(pair, sets, templates, in_set=place % n_sets, in_template=place % len(templates))
        for place, pair in enumerate(split.queries[: min(n, len(task))])
    )


def _with_output(pair: Pair, other: Pair) -> Pair:
    return replace(pair, output=other.output, others=other.others)


def _answers_of(sample: Sample) -> tuple[Any, ...]:
    return (sample.all_answers, sample.all_answer_ids)


def _answer_fields(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in ("answer", "answer_id", "answers", "answer_ids")}
