"""From a recipe to a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layertracer._errors import EmptyTaskError
from layertracer._types import Sample
from layertracer.tasks import _hub
from layertracer.tasks._builtin import BUILTIN_NAMES
from layertracer.tasks._few_shot import Split, split_pairs
from layertracer.tasks._files.material import Pair
from layertracer.tasks._recall import make_recall
from layertracer.tasks._recipe import Recipe
from layertracer.tasks._subjects import name_subjects
from layertracer.tasks._task import Task
from layertracer.tasks._template import Template

TEXT_PREFIX = "text:"

LIMITED = "prompts are asked: limit="
"""By this the note of a limit is known."""

SHARED_WORD = "shares a word with a demonstration"
"""Why a pair is not asked about."""


def make_task(recipe: Recipe) -> Task:
    """The task of a recipe.

    Laws: equal recipes give equal tasks.

    Raises:
        UsageError: If the template cannot be used.
        EmptyTaskError: If there are too few pairs.
    """
    material, options = recipe.material, recipe.options
    if material.samples is not None:
        return _make(recipe, material.samples)
    if material.words is not None:
        return _make(recipe, make_recall(material.words, options))
    templates = [Template.parse(text) for text in recipe.templates]
    n_shot, n_sets = options.n_shot, options.demonstration_sets
    try:
        split = split_pairs(material.pairs, n_shot=n_shot * n_sets, seed=options.seed)
    except EmptyTaskError as error:
        raise EmptyTaskError(f"{error} ({material.description}.)" if material.description else str(error)) from None
    queries = split.queries[: options.limit]
    if len(queries) < n_sets:
        raise EmptyTaskError(
            f"{n_sets} sets of {n_shot} demonstrations leave {len(queries)} prompts, fewer than there are sets. Give "
            "fewer sets, a smaller n_shot or more pairs."
        )
    if len(queries) < len(templates):
        raise EmptyTaskError(f"{len(queries)} prompts are fewer than {len(templates)} templates. Give more pairs.")
    sets = divide_demonstrations(split, n_shot=n_shot, n_sets=n_sets)
    # The number of sets is a multiple of that of templates: the prompts of a set are all written in one template.
    samples = tuple(
        write_sample(pair, sets, templates, in_set=place % n_sets, in_template=place % len(templates))
        for place, pair in enumerate(queries)
    )
    if material.relation is not None:
        samples = tuple(name_subjects(samples, queries, templates, relation=material.relation))
    return _make(recipe, samples, split)


def limit_task(task: Task, n: int) -> Task:
    """The first prompts of a task, with what it was made of; one that was put together by hand keeps its own.

    Example:
        >>> from layertracer.tasks import load_task
        >>> limit_task(load_task("antonym", limit=8), 3).spec["limit"]
        3
    """
    if task.recipe is None or len(task) <= n:
        return task
    return make_task(replace(task.recipe, options=replace(task.recipe.options, limit=n)))


def divide_demonstrations(split: Split, *, n_shot: int, n_sets: int) -> tuple[tuple[Pair, ...], ...]:
    """The demonstrations, set by set."""
    return tuple(split.demonstrations[n_shot * number : n_shot * (number + 1)] for number in range(n_sets))


def write_sample(
    pair: Pair, sets: Sequence[tuple[Pair, ...]], templates: Sequence[Template], *, in_set: int, in_template: int
) -> Sample:
    """The prompt for a pair behind one of the sets, in one of the templates; it names what there are several of."""
    sample = templates[in_template].render_sample(pair, sets[in_set])
    return replace(
        sample,
        demonstration_set=in_set if len(sets) > 1 else None,
        template=in_template if len(templates) > 1 else None,
    )


def _make(recipe: Recipe, given: tuple[Sample, ...], split: Split | None = None) -> Task:
    """The task with its specification; `split` where it has demonstrations."""
    material, options, source = recipe.material, recipe.options, recipe.source
    samples = given[: options.limit]
    n_prompts = len(given) if split is None else len(split.queries)
    is_text, is_generated = source.startswith(TEXT_PREFIX), material.words is not None
    demonstrations = () if split is None else split.demonstrations
    n_shared = 0 if split is None else split.n_shared
    spec: dict[str, Any] = {
        "name": _name_task(source),
        "kind": "few-shot" if split else "generated" if is_generated else "text" if is_text else "verbatim",
        "source": "built-in" if source in BUILTIN_NAMES else source,
        "sha256": material.sha256,
        "n_shot": options.n_shot if split or is_generated else 0,
        "limit": options.limit,
        "seed": options.seed,
        "template": recipe.templates[0] if split and not options.templates else None,
        "demonstrations": [[pair.input, pair.output] for pair in demonstrations],
        "prompt_field": options.names.prompt,
        "answer_field": options.names.answer,
        "answer_marker": options.names.marker or material.marker,
        "prompt_words": options.prompt_words if is_text else None,
        "answer_prefix": options.names.prefix,
        "header": options.names.header,
        "n_samples": len(samples),
        "n_left_out": dict(material.left_out) | ({SHARED_WORD: n_shared} if n_shared else {}),
        "notes": list(_collect_notes(recipe, n_asked=len(samples), n_prompts=n_prompts)),
    }
    if split is not None and options.demonstration_sets > 1:
        spec["demonstration_sets"] = options.demonstration_sets
    if split is not None and options.templates:
        spec["templates"] = list(options.templates)
    if is_generated:
        spec |= {"n_keys": options.recall.n_keys, "min_distance": options.recall.min_distance}
    task = Task(name=spec["name"], samples=samples, spec=spec)
    # No argument of Task: samples that somebody else puts into a task are not of this recipe.
    object.__setattr__(task, "recipe", recipe)
    return task


def _collect_notes(recipe: Recipe, *, n_asked: int, n_prompts: int) -> Iterator[str]:
    """What was read, and what the limit leaves out."""
    material = recipe.material
    if material.description:
        yield material.description
    yield from material.notes
    if n_asked < n_prompts:
        yield f"{n_asked} of {n_prompts} {LIMITED}{recipe.options.limit} leaves the others out"


def _name_task(source: str) -> str:
    """A short name: the built-in's, the file's without its suffix, or the dataset's."""
    if source in BUILTIN_NAMES or source.startswith(_hub.PREFIX):
        return source.removeprefix(_hub.PREFIX)
    path = Path(source.removeprefix(TEXT_PREFIX))
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
