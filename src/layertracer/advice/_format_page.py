"""The format of advice folders as Markdown: generated from the records, their limits and the tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

from layertracer._types import Interval
from layertracer.advice._fields import HEAD
from layertracer.advice._records import (
    Accuracy,
    AdviceRecord,
    Baseline,
    Evaluations,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Singles,
)
from layertracer.advice._role_records import Divisions, EarlyExit, Gates, Region, Switching
from layertracer.advice._rules import has_default, hints_of, is_optional, rule_of
from layertracer.advice._schema import ADVICE_FILE, ADVICE_FORMAT_VERSION, ADVICE_TABLES, LARGEST_ADVICE_BYTES
from layertracer.runs import Column, Nullable, Table, in_words

_RECORDS = (
    *(AdviceRecord, Placement, Judgement, Accuracy, Interval, Singles, Pairs, Baseline, PublishedMatch, Ratio),
    *(Divisions, Region, Gates, EarlyExit, Switching, Evaluations),
)
_HEAD = {
    "format": 'always "layertracer-advice"',
    "format_version": f"version of this format, now {ADVICE_FORMAT_VERSION}",
    "sha256": f"checksum of `{ADVICE_FILE}` itself, computed with these 64 digits written as zeros",
    "kind": 'what was asked: always "design advice"',
    "files": "for every table its `sha256`, `n_bytes` and `n_rows`",
}
_IN_TABLES = """\
In the tables, and not in `advice.json`, stand: of `singles` what was measured of each layer, in `singles.parquet`;
every judgement (those of `placements` and `ratio`) and the `placements`, `objective` and `kl_nats` of `baselines`,
in `judgements.parquet`, with the tasks of judgements in `accuracy.parquet`; the matrices of `pairs` in
`pairs.parquet`. A placement without a row of the role "advised" was not judged. An interval is three columns, which
are null where there is none."""
_LAWS = """\
Besides: layers are ascending, each once, and those that are kept are among the placeable ones, which are
`singles.layers`; a placement under the number k keeps k layers, and so do those that are compared with it; it names
the model, the substitute and the layers of the advice; what was judged is what is placed. A `percentile` is there
where `n_random` is above 0, and without one the `verdict` is "undecided". Intervals do not run backwards; those of
shares lie in [0, 1], those of percentiles in [0, 100]. `overlap` is the number of layers in both lists, `p_holm` at
least `p`. `pairs` are symmetric, a layer does not interact with itself. The knee is one of the numbers of `ratio`.
Regions follow one another from the first layer to the last. What stays from a layer on agrees there. Where there is
no snippet, `snippet_reason` says why. `objective` is that of its judgement, to the last bit, and rows have the
order in which they are written."""


def describe_advice_format() -> str:
    """The format of advice folders as Markdown.

    Example:
        >>> describe_advice_format().splitlines()[0]
        '# The advice folder'
    """
    lines = [
        "# The advice folder",
        "",
        f"Design advice is a folder of one `{ADVICE_FILE}` and {len(ADVICE_TABLES)} Parquet tables (zstd), written as",
        "[runs](run-format.md) are: to a temporary sibling, flushed to the disk and renamed, so that it is either",
        "whole or absent. Every file has a checksum; one that was altered, cut short or lost is refused with its name,",
        "and never read in part. Types, ranges and how the numbers go together are checked as well, as they stand",
        "below. The same record gives the same bytes. While a design runs, its finished measurements lie in `.parts/`.",
        "",
        f"No other file is opened than these; `{ADVICE_FILE}` may have {LARGEST_ADVICE_BYTES // 2**20} MiB. Other",
        "files in the folder, such as `report.html`, are left alone. Advice never takes the place of a run, nor a run",
        "that of advice.",
        "",
        f"This is version {ADVICE_FORMAT_VERSION} of the format. Older versions load for ever; a newer one is refused",
        "with a message.",
        "",
        f"## `{ADVICE_FILE}`",
        "",
        "UTF-8 JSON; no name stands twice in one object. NaN and infinities are written as in `run.json`:",
        '`{"$float": "nan"}`. Beside the fields of the advice:',
        "",
        "| field | value | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {in_words(HEAD.required[name])} | {meaning} |" for name, meaning in _HEAD.items()),
        "",
        *_IN_TABLES.splitlines(),
        "",
        *_LAWS.splitlines(),
    ]
    for kind in _RECORDS:
        lines += _describe_record(kind)
    for table in ADVICE_TABLES:
        lines += _describe_table(table)
    return "\n".join(lines) + "\n"


def _describe_record(kind: type) -> Iterator[str]:
    rules, meanings = rule_of(kind), _meanings_of(kind)
    title = "Advice" if kind is AdviceRecord else kind.__name__
    yield from ("", f"### {title}", "", "| field | value | meaning |", "|---|---|---|")
    for name, hint in hints_of(kind).items():
        rule = {**rules.required, **rules.optional}[name]
        shown = in_words(rule.rule if isinstance(rule, Nullable) else rule)
        words = shown.replace("an object of the fields below alone", "an object, see below")
        null = ", or null" if is_optional(hint) else ""
        late = "; may be absent" if has_default(kind, name) else ""
        yield f"| `{name}` | {words}{null} | {meanings.get(name, '')}{late} |"


def _meanings_of(kind: type) -> Mapping[str, str]:
    """What the fields of a record mean, as its docstring says."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).rstrip(".").replace("|", "\\|") for name, words in entries}


def _describe_table(table: Table) -> Iterator[str]:
    yield from ("", f"## `{table.file}`", "", f"One row per {table.rows}.", "")
    yield from ("| column | type | unit | meaning |", "|---|---|---|---|")
    yield from map(_describe_column, table.columns)


def _describe_column(column: Column) -> str:
    null = " or null" if column.nullable else ""
    return f"| `{column.name}` | `{column.type}`{null} | {column.unit or ''} | {column.meaning} |"
