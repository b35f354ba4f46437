"""From a name or a path to a task."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import TaskFileError, UnknownNameError, UsageError
from layertracer._types import Sample
from layertracer.tasks import _hub
from layertracer.tasks._builtin import BUILTIN_NAMES, read_builtin
from layertracer.tasks._few_shot import Split, split_pairs
from layertracer.tasks._json import read_json, read_jsonl
from layertracer.tasks._material import FieldNames, Material
from layertracer.tasks._tables import read_csv, read_tsv
from layertracer.tasks._task import Task
from layertracer.tasks._template import Template
from layertracer.tasks._text import read_text

_TEXT_PREFIX = "text:"

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

SHARED_WORD = "shares a word with a demonstration"
"""Why a pair is not asked about."""

_HINT = (
    "A file's name ends in .json, .jsonl, .csv or .tsv; plain text is text:FILE; a dataset of the hub is hf:name:split."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How prompts are made; the arguments of `load_task`, checked."""

    n_shot: int
    limit: int | None
    seed: int
    template: str | None
    names: FieldNames
    prompt_words: int

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.n_shot < 0:
            raise UsageError(f"n_shot must be at least 0, got {self.n_shot}. It is the number of demonstrations.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, got {self.limit}. Leave it out (None) for all samples.")
        if self.prompt_words < 1:
            raise UsageError(f"prompt_words must be at least 1, got {self.prompt_words}. It is a prompt's length.")
        if self.names.answer is not None and self.names.prompt == self.names.answer:
            raise UsageError(f"prompt_field and answer_field are both {self.names.prompt!r}. Name two fields.")
        if self.names.marker is not None and not self.names.marker.strip():
            raise UsageError("answer_marker is empty. Give the text before the final answer, e.g. '####'.")


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

    Every prompt of a few-shot task begins with the same demonstrations. Laws: equal arguments give equal tasks; the
    first n samples of a task do not depend on `limit`; a query's words stand in no demonstration, in either role
    (where the outputs are labels that many pairs share, this holds for inputs); the order of a file's pairs changes
    nothing. Finished prompts keep the file's order.

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
    )
    source = os.fspath(name_or_path)
    material = _read_material(source, options)
    if material.samples is None:
        return _make_few_shot(material, options, source=source)
    if template is not None:
        raise UsageError(
            f"The template {template!r} does not apply to {source}, which holds finished prompts. Leave it out, or "
            f"name the fields of inputs and outputs with prompt_field= and answer_field=."
        )
    return _make_task(material.samples, material, options=options, source=source)


def _read_material(source: str, options: TaskOptions) -> Material:
    """What the source holds."""
    if source in BUILTIN_NAMES:
        return read_builtin(source)
    if source.startswith(_hub.PREFIX):
        return _hub.read_hub(source, options.names)
    if source.startswith(_TEXT_PREFIX):
        path = Path(source.removeprefix(_TEXT_PREFIX))
        return read_text(path, prompt_words=options.prompt_words, seed=options.seed)
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is not None:
        return reader(path, options.names)
    if path.is_file():
        raise TaskFileError(f"The format of {path} is not known from its name. {_HINT}")
    raise UnknownNameError.among("task", source, BUILTIN_NAMES, hint=_HINT)


def _make_few_shot(material: Material, options: TaskOptions, *, source: str) -> Task:
    """The task that asks about pairs after demonstrations."""
    template = Template.parse(_choose_template(material, options))
    split = split_pairs(material.pairs, n_shot=options.n_shot, seed=options.seed)
    samples = tuple(template.render_sample(pair, split.demonstrations) for pair in split.queries)
    return _make_task(samples, material, options=options, source=source, split=split)


def _choose_template(material: Material, options: TaskOptions) -> str:
    """The template asked for, or the source's own."""
    return material.template if options.template is None else options.template


def _make_task(
    samples: tuple[Sample, ...], material: Material, *, options: TaskOptions, source: str, split: Split | None = None
) -> Task:
    """The task with its specification; `split` where it has demonstrations."""
    is_text = source.startswith(_TEXT_PREFIX)
    chosen = samples[: options.limit]
    demonstrations = () if split is None else split.demonstrations
    n_shared = 0 if split is None else split.n_shared
    spec: dict[str, Any] = {
        "name": _name_task(source),
        "kind": "few-shot" if split else "text" if is_text else "verbatim",
        "source": "built-in" if source in BUILTIN_NAMES else source,
        "sha256": material.sha256,
        "n_shot": len(demonstrations),
        "limit": options.limit,
        "seed": options.seed,
        "template": _choose_template(material, options) if split else None,
        "demonstrations": [[pair.input, pair.output] for pair in demonstrations],
        "prompt_field": options.names.prompt,
        "answer_field": options.names.answer,
        "answer_marker": options.names.marker,
        "prompt_words": options.prompt_words if is_text else None,
        "n_samples": len(chosen),
        "n_left_out": dict(material.left_out) | ({SHARED_WORD: n_shared} if n_shared else {}),
    }
    return Task(name=spec["name"], samples=chosen, spec=spec)


def _name_task(source: str) -> str:
    """A short name: the built-in's, the file's without its suffix, or the dataset's."""
    if source in BUILTIN_NAMES or source.startswith(_hub.PREFIX):
        return source.removeprefix(_hub.PREFIX)
    return Path(source.removeprefix(_TEXT_PREFIX)).stem
