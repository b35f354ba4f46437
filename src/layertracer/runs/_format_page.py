"""The run format as Markdown."""

from __future__ import annotations

import textwrap

from layertracer._types import RESERVED_NAMES
from layertracer.runs._columns import ROUNDING
from layertracer.runs._header_fields import HEADER_FIELDS
from layertracer.runs._json_rules import Anything, flatten_rules, in_words
from layertracer.runs._schema import (
    HEADER_FILE,
    LARGEST_HEADER_BYTES,
    REPORT_FILE,
    RUN_FORMAT_VERSION,
    TABLES,
    Column,
    Table,
)

_RESERVED = textwrap.wrap(", ".join(f"`{name}`" for name in sorted(RESERVED_NAMES)) + ";", 112)
_NAMED_COLUMNS = (
    "Columns are named in the header, with unit and meaning, and read as they are named there. So a layer measure",
    "or a lens that a version does not know is read all the same: every further `float32` column of `layers.parquet`",
    "whose name is an identifier of at most 64 letters, digits and underscores is a layer measure, every such column",
    "of `perturbations.parquet` was measured of each perturbed output, and the columns of a lens begin with its name",
    "and a dot. There are no other columns than those below and these.",
    "",
    "A measure is not nullable; it has a unit (a plain number is a `ratio` or a `share`), a meaning, and as bounds",
    "finite numbers, `low` at most `high`, or null. Its numbers lie within them",
    f"({ROUNDING:g} for rounding) or are NaN. No two measures have one name, and none has one that stands for",
    "something in every trace:",
    *_RESERVED,
    "`target_log_prob`, though, is also measured of perturbed outputs.",
    "",
    "The columns below have the types and units below, and are null only where it is said; their numbers are held to",
    "the ranges below whatever the header says of them, and `layertracer verify` notes where it says something else.",
    "Version 1 had the columns below alone, and no names in the header.",
)


def describe_format() -> str:
    """The run format as Markdown, generated from the schema.

    Example:
        >>> describe_format().splitlines()[0]
        '# The run folder'
    """
    lines = [
        "# The run folder",
        "",
        f"A run is a folder of one `{HEADER_FILE}` and {len(TABLES)} Parquet tables (zstd). It is written to a",
        "temporary sibling, flushed to the disk and renamed, so it is either whole or absent. Every file has a",
        "checksum; a file that was altered, cut short or lost is refused with its name, and never read in part. Failed",
        "and interrupted runs have the same form: they hold the prompts that were finished. The same record gives the",
        "same bytes.",
        "",
        "Checksums say that a file is as it was written, not by whom: who can write the files can make them anew. So",
        "types, sizes and ranges are checked as well, as they stand below, and whether the numbers of a run go",
        "together; what is out of range or contradicts itself is refused with its place. `layertracer verify` says",
        "all that is wrong with a run, and prints its digest, which can be kept elsewhere and compared.",
        "",
        f"No other file is opened than `{HEADER_FILE}` and the tables. Each must be a regular file, or a link to one,",
        f"and have no more bytes than `files` says; `{HEADER_FILE}` may have {LARGEST_HEADER_BYTES // 2**20} MiB. Rows",
        "that `shape` does not ask for, or that take a hundred times the run's files (and more than 256 MiB), are",
        "refused before they are read.",
        "",
        *_NAMED_COLUMNS,
        "",
        f"This is version {RUN_FORMAT_VERSION} of the format. Older versions load for ever; a newer one is refused",
        f"with a message. Other files in the folder, such as `{REPORT_FILE}`, are left alone.",
        "",
        f"A run that replaces another takes over none of its files, and not its `{REPORT_FILE}`. Everything else in",
        "the folder stays, figures among it, which then show the old run: write figures into a folder of their own, or",
        "draw them again. A file `.layertracer-….placing` says that a save has not ended; the next load or save ends",
        "it.",
        "",
        f"## `{HEADER_FILE}`",
        "",
        "UTF-8 JSON; no name stands twice in one object.",
        'NaN and infinities are written as `{"$float": "nan"}`, `"inf"` or `"-inf"`.',
        "",
        "| field | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{field.name}` | {field.type} | {field.meaning} |" for field in HEADER_FIELDS]
    lines += _describe_values()
    for table in TABLES:
        lines += _describe_table(table)
    return "\n".join(lines) + "\n"


def _describe_values() -> list[str]:
    """What is checked of every field: generated from the rules that check it."""
    places = [one for field in HEADER_FIELDS for one in flatten_rules(field.rule, field.name)]
    return [
        "",
        f"### What `{HEADER_FILE}` may hold",
        "",
        "Checked when a run is read. `[]` stands for every item of a list; what is not listed may be anything, but in",
        'objects "of the fields below alone".',
        "",
        "| field | value |",
        "|---|---|",
        *(f"| `{place}` | {in_words(rule)} |" for place, rule in places if not isinstance(rule, Anything)),
        "",
        "Besides: `shape.n_layers` is the number of `model.layers`, whose `index` counts from 0; no more prompts are",
        "finished than requested; a complete run has no `error` and a failed one has one; `demonstration_sets` has",
        "one number for every prompt; `layers_without_site` are layers of the model; `files` has the rows that follow",
        "from `shape`, and exactly the columns of the run's measures and lenses, each once; `lenses` are those that",
        "`spec.lenses` names, each once; every perturbation of",
        "`spec` has as many draws as `shape` says, and what its kind, where known, needs; the",
        "parameters of a known onset criterion are within its range; a check has `passed` where its `error` is within",
        "its `tolerance`, and nowhere else; of `audit`, `n_cells` are at least `n_forwards` and these at least",
        "`n_drawn`, nothing was compared where `share` is 0, and `worst_nats` is null where nothing was; `method` is",
        "that of `self_check`, or slower for a reason that stands in the notes of `audit`.",
        "",
        "Of the tables: the `top_prob` of a layer add up to 1 at most (0.001 for rounding); `n_lead` is at most the",
        "number of `answer_ids`; `solved` and `begins` are null where there are none.",
        "",
        "Of a run with an `audit` (older runs have none, and `layertracer verify` says what would speak against",
        "them): `top_id` and `top_prob` of a prompt are those of its last layer; a target of rank r has a probability",
        "of 1 / r at most (times the number of answers, where several are followed); a single target stands in",
        "`top_ids` at its rank, with its probability, and where it is not among them it is no more probable than the",
        "last of them; `entropy_bits` of a single position lies between what `top_prob` allows at least and at most;",
        "`target_ids` are those of the one answer from `n_lead` on, or the model's `top_id`; `begins` and `solved`",
        "follow from `top_id` and `target_rank` where they can, and no model gives the whole of one answer and does",
        "not begin with it; every token that is named has its text. 0.001 nats, 0.01 bits and 0.0001 of probability",
        "are left for rounding. What a lens reads is held to the same, and is the model's own after the last layer. A",
        "perturbed output lacks `target_log_prob` where it lacks `js_bits`, and `js_bits` is at least what the two",
        "probabilities of a single target make it alone (0.002 bits for rounding).",
    ]


def _describe_table(table: Table) -> list[str]:
    order = f", ordered by {', '.join(f'`{axis}`' for axis in table.axes)}" if table.axes else ""
    head = [
        "",
        f"## `{table.file}`",
        "",
        f"One row per {table.rows}{order}.",
        "",
        "| column | type | unit | meaning | range |",
        "|---|---|---|---|---|",
    ]
    beyond = _BEYOND.get(table.file, ())
    return [*head, *(_describe_column(column) for column in table.columns), *beyond]


_BEYOND = {
    "layers.parquet": (
        "",
        "Behind them one column for every layer measure, by its name; NaN where a layer has none. Then, for every lens",
        "of `lenses`, the columns `target_log_prob`, `target_rank`, `entropy_bits`, `top_ids` and `top_prob` as it",
        "reads them, e.g. `linear.target_rank`, with the same ranges.",
    ),
    "perturbations.parquet": (
        "",
        "Behind it one column for everything else that was measured of the perturbed output, such as `target_log_prob`",
        "(nats, at most 0). A run of several perturbations has the column `effect` (`int32`) before all others, the",
        "index of the perturbation: first all rows of `spec.perturbation`, then those of each of",
        "`spec.further_perturbations`, with as many draws as `shape` says.",
    ),
    "prompts.parquet": ("", "For every lens of `lenses` there is a column such as `linear.embedding_log_prob`."),
    "dimensions.parquet": ("", "A run of several perturbations has the column `effect` before all others, as above."),
}


def _describe_column(column: Column) -> str:
    return (
        f"| `{column.name}` | `{column.type}`{' or null' if column.nullable else ''} | {column.unit or ''} "
        f"| {column.meaning}"
        f"{'; absent in older runs' if column.optional else ''} | {column.limits or ''} |"
    )
