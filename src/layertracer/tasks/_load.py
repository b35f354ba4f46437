"""From a name or a path to a task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from layertracer._errors import TaskFileError, UnknownNameError, UsageError
from layertracer.tasks import _hub
from layertracer.tasks._builtin import BUILTIN_NAMES, read_builtin
from layertracer.tasks._json import read_json, read_jsonl
from layertracer.tasks._make import TEXT_PREFIX, make_task
from layertracer.tasks._material import FieldNames, Material
from layertracer.tasks._recipe import Recipe, TaskOptions
from layertracer.tasks._tables import read_csv, read_tsv
from layertracer.tasks._task import Task
from layertracer.tasks._text import read_text

_READERS: dict[str, Callable[[Path, FieldNames], Material]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    # The word pairs of Nguyen et al. (2017) come under these names.
    ".train": read_tsv,
    ".val": read_tsv,
    ".test": read_tsv,
}

_HINT = (
    "A file's name ends in .json, .jsonl, .csv or .tsv; plain text is text:FILE; a dataset of the hub is hf:name:split."
)


def load_task(  # noqa: PLR0913 - what users call takes its settings by name
    name_or_path: str | os.PathLike[str],
    *,
    n_shot: int = 5,
    limit: int | None = None,
    seed: int = 0,
    template: str | None = None,
    prompt_field: str | None = None,
    answer_field: str | None = None,
    answer_marker: str | None = None,
    prompt_words: int = 32,
    demonstration_sets: int = 1,
) -> Task:
    r"""A task from a built-in name, a file, a dataset of the hub, or plain text.

    ==================  ===========================================================================================
    `name_or_path`      what is read
    ==================  ===========================================================================================
    built-in name       "antonym", "synonym", "country-capital", "singular-plural", "present-past"
    .json, .jsonl       records with input/output, question/answer or word1/word2: few-shot prompts;
                        with prompt/answer: finished prompts, used as they stand
    .csv, .tsv          the same with a header; without one, two columns are a pair and a third is a label
                        (1: the relation holds; 0: left out), as in the files of Nguyen et al. (2017)
    hf:name:split       the same from the `datasets` library; hf:name/config:split names a configuration
    text:FILE           next-token prompts of `prompt_words` words
    ==================  ===========================================================================================

    Every prompt of a few-shot task begins with the same demonstrations, and what is found holds for these
    demonstrations; with several sets, prompts take turns with them, and intervals resample sets.

    Laws: equal arguments give equal tasks; the first n samples of a task do not depend on `limit`; a query's words
    stand in no demonstration, in either role (where the outputs are labels that many pairs share, this holds for
    inputs); the order of a file's pairs changes nothing. Finished prompts keep the file's order.

    Where a model with an unknown token reads the task, pairs with a word outside its vocabulary are left out, of the
    demonstrations too, and counted; see `fit_task`.

    Args:
        name_or_path: What to load, see above.
        n_shot: Number of demonstrations; finished prompts and plain text have none.
        limit: Largest number of samples; None for all.
        seed: Seed of the choice of demonstrations and of the order of samples.
        template: How a pair is written, e.g. "{input} -> {output}" (the default) or
            "Question: {input}\nAnswer: {output}" (the default of question/answer). The prompt ends before the spaces
            that precede the output, and the answer begins with them.
        prompt_field: Field of the input, where it is not recognised. With the name "prompt", or without
            `answer_field`, the field holds finished prompts.
        answer_field: Field of the output, where it is not recognised.
        answer_marker: Text behind which the final answer stands. GSM8K's "####" is recognised.
        prompt_words: `text:` only: words in a prompt.
        demonstration_sets: Few-shot tasks: number of sets of demonstrations, chosen by the seed, no pair in two of
            them. Prompt i begins with set i modulo their number. From eight sets on intervals over sets hold.

    Returns:
        The task, with at least one sample.

    Raises:
        UnknownNameError: If there is no such task; the message names near matches.
        UsageError: If an argument is out of range, or applies to another kind of task.
        TaskFileError: If a file has the wrong shape; the message names the line.
        EmptyTaskError: If no sample is left.
        TaskError: If a dataset cannot be loaded.

    Example:
        >>> sample = load_task("antonym", n_shot=2, seed=0)[0]
        >>> len(sample.prompt.splitlines()), sample.prompt[-3:], sample.answer[0]
        (3, ' ->', ' ')
    """
    options = TaskOptions(
        n_shot=n_shot,
        limit=limit,
        seed=seed,
        template=template,
        names=FieldNames(prompt=prompt_field, answer=answer_field, marker=answer_marker),
        prompt_words=prompt_words,
        demonstration_sets=demonstration_sets,
    )
    source = os.fspath(name_or_path)
    material = _read_material(source, options)
    if material.samples is not None and template is not None:
        raise UsageError(
            f"The template {template!r} does not apply to {source}, which holds finished prompts. Leave it out, or "
            f"name the fields of inputs and outputs with prompt_field= and answer_field=."
        )
    if material.samples is not None and demonstration_sets > 1:
        raise UsageError(
            f"demonstration_sets={demonstration_sets} does not apply to {source}, which holds finished prompts. Leave "
            "it out."
        )
    return make_task(Recipe(source=source, material=material, options=options))


def _read_material(source: str, options: TaskOptions) -> Material:
    """What the source holds."""
    if source in BUILTIN_NAMES:
        return read_builtin(source)
    if source.startswith(_hub.PREFIX):
        return _hub.read_hub(source, options.names)
    if source.startswith(TEXT_PREFIX):
        path = Path(source.removeprefix(TEXT_PREFIX))
        return read_text(path, prompt_words=options.prompt_words, seed=options.seed)
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader(path, options.names)
    if path.is_file():
        raise TaskFileError(f"The format of {path} is not known from its name. {_HINT}")
    raise UnknownNameError.among("task", source, BUILTIN_NAMES, hint=_HINT)
