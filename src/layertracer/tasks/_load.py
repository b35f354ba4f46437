"""From a name or a path to a task."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from layertracer._errors import TaskFileError, UnknownNameError, UsageError
from layertracer._types import shown
from layertracer.tasks import _hub
from layertracer.tasks._builtin import BUILTIN_NAMES, read_builtin
from layertracer.tasks._files.columns import is_saved_dataset, read_arrow, read_parquet, read_saved_dataset
from layertracer.tasks._files.content import (
    Content,
    expand_home,
    is_file,
    is_folder,
    list_files,
    missing_file,
    read_content,
)
from layertracer.tasks._files.fields import make_material
from layertracer.tasks._files.json import read_json, read_jsonl
from layertracer.tasks._files.lines import find_columns, read_lines
from layertracer.tasks._files.material import FieldNames, Material, Records
from layertracer.tasks._files.tables import read_csv, read_spaced, read_tsv
from layertracer.tasks._files.unpacking import check_marks
from layertracer.tasks._make import TEXT_PREFIX, make_task
from layertracer.tasks._recipe import Recipe, TaskOptions
from layertracer.tasks._task import Task
from layertracer.tasks._text import read_text

_READERS: dict[str, Callable[[Content, FieldNames], Records]] = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    # The word pairs of Nguyen et al. (2017) come under these names.
    ".train": read_tsv,
    ".val": read_tsv,
    ".test": read_tsv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}

_TABLES = (read_csv, read_tsv)
_PACKED = (read_parquet, read_arrow)

if TYPE_CHECKING:
    Loadable: TypeAlias = str | os.PathLike[str]
else:  # under test, annotations are looked up when a function is called: what is none of these has an error of ours
    Loadable = object

_HINT = (
    "A file's name ends in .json, .jsonl, .csv or .tsv, in .parquet or .arrow, or, with one prompt a line, in .txt; "
    "plain text is text:FILE; a dataset of the hub is hf:name:split."
)

_ADVICE = (
    ((".xlsx", ".xls", ".ods", ".numbers"), "Save the sheet as CSV. "),
    ((".zip", ".bz2", ".xz", ".zst", ".7z"), "Unpack it, or pack it by gzip. "),
    ((".pkl", ".pickle", ".pt", ".npy"), "Write its rows as JSON Lines or Parquet. "),
)
"""What to do with files that cannot be read here."""

DEFAULT_LIMIT = 32
"""Prompts of a built-in task that are asked where nobody says how many; of a user's own, all."""


def default_limit(name_or_path: str | os.PathLike[str]) -> int | None:
    """The number of prompts to take where nobody says how many: 32 of a built-in task, all of anything else.

    Example:
        >>> default_limit("antonym"), default_limit("my-pairs.csv")
        (32, None)
    """
    return DEFAULT_LIMIT if os.fspath(name_or_path) in BUILTIN_NAMES else None


def load_task(  # noqa: PLR0913 - what users call takes its settings by name
    name_or_path: Loadable,
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
    answer_prefix: str | None = None,
    header: bool | None = None,
) -> Task:
    r"""A task from a built-in name, a file, a dataset of the hub, or plain text.

    ==================  ===========================================================================================
    `name_or_path`      what is read
    ==================  ===========================================================================================
    built-in name       "antonym", "synonym", "country-capital", "singular-plural", "present-past"
    .json, .jsonl       records with input/output, question/answer or word1/word2: few-shot prompts;
                        with prompt/answer: finished prompts, used as they stand. Tables that pandas wrote as JSON
    .csv, .tsv          the same with a header; without one, two columns are a pair and a third is a label
                        (1: the relation holds; 0: left out), as in the files of Nguyen et al. (2017). Commas,
                        semicolons, tabs or vertical bars part the cells
    .parquet, .arrow    the same; so are folders of `datasets`' save_to_disk
    .txt                finished prompts, one a line, without answers; columns, if all lines have tabs
    hf:name:split       the same from the `datasets` library; hf:name/config:split names a configuration
    text:FILE           next-token prompts of `prompt_words` words
    ==================  ===========================================================================================

    Files may be packed by gzip (.csv.gz). Text is UTF-8, or UTF-16 with its mark; tables may be Windows-1252, as
    European spreadsheets save them. A record whose prompt or answer is missing (an empty cell; in JSON null or NaN) is
    left out. `task.notes` says which fields were read, how many records of how many, and what was left out, with its
    line.

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
        answer_marker: Text behind which the final answer stands. GSM8K's "####" is recognised where a number stands
            behind it on the last line of every answer, and said in the notes.
        prompt_words: `text:` only: words in a prompt.
        answer_prefix: Text put before the answers of finished prompts that do not begin with it, e.g. " ".
        header: Whether the first line of a table names its columns; None to recognise it, which may end in the
            question. Columns without names are called "1", "2" and so on in `prompt_field` and `answer_field`.
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
    if not isinstance(name_or_path, str | os.PathLike):
        raise UsageError(
            f"name_or_path must be a name or a path, got {shown(name_or_path)}. Prompts of your own go to trace, plan "
            "and read_layers as they are."
        )
    options = TaskOptions(
        n_shot=n_shot,
        limit=limit,
        seed=seed,
        template=template,
        names=FieldNames(
            prompt=prompt_field, answer=answer_field, marker=answer_marker, header=header, prefix=answer_prefix
        ),
        prompt_words=prompt_words,
        demonstration_sets=demonstration_sets,
    )
    source = os.fspath(name_or_path)
    try:
        material = _read_material(source, options)
        _refuse_unused(material, options, source)
        return make_task(Recipe(source=source, material=material, options=options))
    except MemoryError:
        raise TaskFileError(
            f"{source} takes more memory than there is: a task is read as a whole. Give a part of it."
        ) from None


def _refuse_unused(material: Material, options: TaskOptions, source: str) -> None:
    """Settings that would be ignored are a mistake.

    Raises:
        UsageError: If there is one.
    """
    samples, prefix, n_sets = material.samples, options.names.prefix, options.demonstration_sets
    if samples is not None and options.template is not None:
        raise UsageError(
            f"The template {options.template!r} does not apply to {source}, which holds finished prompts. Leave it "
            f"out, or name the fields of inputs and outputs with prompt_field= and answer_field=."
        )
    if samples is not None and n_sets > 1:
        raise UsageError(
            f"demonstration_sets={n_sets} (--demonstration-sets) does not apply to {source}, which holds finished "
            "prompts. Leave it out."
        )
    if prefix is not None and (samples is None or all(sample.answer is None for sample in samples)):
        raise UsageError(
            f"answer_prefix={prefix!r} (--answer-prefix) does not apply to {source}: it is put before the answers of "
            f"finished prompts. What stands before the answer of a pair is in the template, as in "
            f"{{input}} -> {{output}}."
        )
    if options.names.header is not None and not material.is_table:
        raise UsageError(
            f"header={options.names.header} (--header, --no-header) does not apply to {source}: it says what the first "
            f"line of a table is. Leave it out."
        )


def _read_material(source: str, options: TaskOptions) -> Material:
    """What the source holds."""
    if source in BUILTIN_NAMES:
        return read_builtin(source)
    if source.startswith(_hub.PREFIX):
        return _hub.read_hub(source, options.names)
    if source.startswith(TEXT_PREFIX):
        path = expand_home(source.removeprefix(TEXT_PREFIX))
        return read_text(path, prompt_words=options.prompt_words, seed=options.seed)
    path = expand_home(source)
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    if is_folder(path) and is_saved_dataset(path):
        return make_material(read_saved_dataset(path, options.names), options.names)
    if suffix.lower() == ".txt":
        return _read_txt(_read_rows(path), options.names)
    reader = _READERS.get(suffix.lower())
    if reader is not None:
        content = read_content(path) if reader in _PACKED else _read_rows(path)
        material = make_material(reader(content, options.names), options.names)
        return replace(material, is_table=reader in _TABLES)
    raise _explain_unknown(source, path)


def _read_rows(path: Path) -> Content:
    """The content of a text that becomes rows."""
    content = read_content(path)
    check_marks(content)
    return content


def _read_txt(content: Content, names: FieldNames) -> Material:
    """Columns, where all lines have tabs or quotes, or one prompt a line."""
    separator = find_columns(content)
    if separator is None:
        return read_lines(content, names)
    records = read_tsv(content, names) if separator == "\t" else read_spaced(content, names)
    return replace(make_material(records, names), is_table=True)


def _explain_unknown(source: str, path: Path) -> Exception:
    """The error for what is neither a task nor a file of a known format."""
    if source and is_folder(path):
        return TaskFileError(f"{path} is a folder, and no dataset saved by save_to_disk{list_files(path)}. {_HINT}")
    if is_file(path):
        advice = next((text for endings, text in _ADVICE if path.name.lower().endswith(endings)), "")
        return TaskFileError(f"The format of {path} is not known from its name. {advice}{_HINT}")
    if path.name != source:
        return missing_file(path)
    beside = str(missing_file(path)).partition(" Did you mean ")[2]
    hint = f"A file lies near: {beside} {_HINT}" if beside else _HINT
    return UnknownNameError.among("task", source, BUILTIN_NAMES, hint=hint)
