"""Crossed tasks: the same queries behind every set of demonstrations and in every template."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import EmptyTaskError, UsageError
from layertracer._types import checked_whole
from layertracer._types.given import Texts, checked_texts
from layertracer.tasks._few_shot import Split, split_pairs
from layertracer.tasks._load import Loadable, load_task
from layertracer.tasks._make import divide_demonstrations, make_task, write_sample
from layertracer.tasks._task import Task
from layertracer.tasks._template import WORD_PAIR_TEMPLATES, Template
from layertracer.tasks._tokens.known_words import fit_task
from layertracer.tasks._tokens.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossedTask:
    """Every query behind every set of demonstrations, in every template.

    Attributes:
        task: The prompts: by query, then by set, then by template.
        query: Query of every prompt, numbered from 0.
        demonstration_set: Its set of demonstrations.
        template: Its template.
    """

    task: Task
    query: Int[np.ndarray, " prompt"]
    demonstration_set: Int[np.ndarray, " prompt"]
    template: Int[np.ndarray, " prompt"]

    def arrange(self, values: Float[np.ndarray, "prompt *rest"]) -> Float[np.ndarray, "query set template *rest"]:
        """Numbers of the prompts, as `variance_shares` takes them: [query, demonstration set, template, …].

        Raises:
            UsageError: If there is not one number, or row of numbers, a prompt.
        """
        array = np.asarray(values)
        if len(array) != len(self.query):
            raise UsageError(f"The task has {len(self.query)} prompts, got numbers of {len(array)}.")
        counts = [int(numbers.max()) + 1 for numbers in (self.query, self.demonstration_set, self.template)]
        return array.reshape(*counts, *array.shape[1:])


def cross_task(  # noqa: PLR0913 - settings by name
    source: Loadable | Task,
    *,
    demonstration_sets: int = 8,
    templates: Texts = WORD_PAIR_TEMPLATES,
    n_queries: int = 8,
    n_shot: int = 5,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> CrossedTask:
    """A few-shot task in which queries, sets of demonstrations and templates are crossed.

    Each of `n_queries` pairs is asked behind each set in each template, so that what varies with one of the three can
    be told from what varies with the others. Which pairs are shown and which asked, the seed says, as in `load_task`.

    Laws: equal arguments give equal tasks; no word of a query stands in a demonstration of any set; no pair stands in
    two sets; prompts of one query have one answer but for the spaces that a template puts before it; the first n
    queries do not depend on their number.

    Where outputs are labels (at most half as many different outputs as pairs), as in `split_pairs`, queries share them
    with demonstrations, and the outputs of demonstrations may be the same: inputs alone are compared.

    Args:
        source: What `load_task` takes, or a task that it gave: word pairs.
        demonstration_sets: Number of sets.
        templates: Ways to write a pair.
        n_queries: Number of pairs asked about.
        n_shot: Demonstrations in a set.
        seed: Seed of the choice.
        tokenizer: The model's tokenizer: pairs with a word that it does not know, in one of the templates, are left
            out. None where all words are known.

    Returns:
        The task, `n_queries` × `demonstration_sets` × number of templates prompts.

    Raises:
        UsageError: If a number is out of range, or the source has no pairs.
        EmptyTaskError: If there are too few pairs.

    Example:
        >>> crossed = cross_task("antonym", demonstration_sets=2, n_queries=3, n_shot=1)
        >>> len(crossed.task), crossed.query[:11].tolist()
        (30, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    """
    counts = {"demonstration_sets": demonstration_sets, "n_queries": n_queries, "n_shot": n_shot}
    for name, value in counts.items():
        if checked_whole(name, value) < 1:
            raise UsageError(f"{name} must be at least 1, got {value}.")
    fitted = fit_task(_write_in(templates, source, n_shot=n_shot, seed=seed), tokenizer)
    name, pairs = fitted.name, fitted.recipe.material.pairs if fitted.recipe else ()
    split = split_pairs(pairs, n_shot=n_shot * demonstration_sets, seed=seed)
    if len(split.queries) < n_queries:
        raise EmptyTaskError(
            f"{demonstration_sets} sets of {n_shot} demonstrations leave {len(split.queries)} queries of {name}, fewer "
            f"than n_queries={n_queries}. Give fewer sets, a smaller n_shot or more pairs."
        )
    asked = Split(demonstrations=split.demonstrations, queries=split.queries[:n_queries], n_shared=split.n_shared)
    return _cross(fitted, asked, n_shot=n_shot, n_sets=demonstration_sets)


def _write_in(templates: Texts, source: Loadable | Task, *, n_shot: int, seed: int) -> Task:
    """The task of the source's pairs, not crossed, in these templates.

    Raises:
        UsageError: If the source has no pairs, or the templates cannot be used.
    """
    task = source if isinstance(source, Task) else load_task(source, n_shot=1, seed=seed)
    recipe = task.recipe
    if recipe is None or not recipe.material.pairs:
        raise UsageError(
            f"{task.name} has no word pairs to be written in templates. Give a task of pairs, e.g. 'antonym'."
        )
    texts = checked_texts("templates", templates, hint="Give several, e.g. WORD_PAIR_TEMPLATES.")
    options = replace(
        recipe.options,
        n_shot=n_shot,
        limit=None,
        seed=seed,
        template=None,
        templates=texts or WORD_PAIR_TEMPLATES,
        demonstration_sets=1,
    )
    return make_task(replace(recipe, options=options))


def _cross(fitted: Task, split: Split, *, n_shot: int, n_sets: int) -> CrossedTask:
    """The prompts of all combinations."""
    texts = fitted.spec["templates"]
    templates = [Template.parse(text) for text in texts]
    sets = divide_demonstrations(split, n_shot=n_shot, n_sets=n_sets)
    cells = list(itertools.product(range(len(split.queries)), range(n_sets), range(len(templates))))
    samples = tuple(
        write_sample(split.queries[query], sets, templates, in_set=in_set, in_template=in_template)
        for query, in_set, in_template in cells
    )
    spec = dict(fitted.spec) | {
        "kind": "crossed",
        "n_queries": len(split.queries),
        "demonstration_sets": n_sets,
        "demonstrations": [[pair.input, pair.output] for pair in split.demonstrations],
        "n_samples": len(samples),
        "notes": [f"{len(split.queries)} queries behind {n_sets} sets of demonstrations in {len(templates)} templates"],
    }
    query, demonstration_set, template = np.array(cells).T
    return CrossedTask(
        task=Task(name=fitted.name, samples=samples, spec=spec),
        query=query,
        demonstration_set=demonstration_set,
        template=template,
    )
