"""Records and tables of a format as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from layertracer.runs._json_rules import Nullable, in_words
from layertracer.runs._record_folders.hints import has_default, hints_of, is_optional
from layertracer.runs._record_folders.record_format import RecordFormat
from layertracer.runs._record_folders.rules import RecordRules
from layertracer.runs._schema import Column, Table

_WIDTH = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatWords:
    """What is said of a format beside what follows from it.

    Attributes:
        title: Heading.
        is_a: What is a folder, with its verb: "Design advice is".
        parts: What lies in `.parts/` before it is finished, in a sentence; "" where nothing does.
        never: What never takes the place of what.
        fields: What the fields of the header are of: "the advice".
        in_tables: What stands in tables and not in the header.
        laws: What may not contradict what.
        records: Its records, the whole first, each with its heading.
    """

    title: str
    is_a: str
    parts: str
    never: str
    fields: str
    in_tables: str
    laws: str
    records: tuple[tuple[type, str], ...]


def describe_record_format(stored_as: RecordFormat[Any], words: FormatWords) -> Iterator[str]:
    """A format as lines of Markdown."""
    header, n_tables = stored_as.kind.header, len(stored_as.tables)
    yield from (f"# {words.title}", "")
    yield from _wrapped(
        f"{words.is_a} a folder of one `{header}` and {n_tables} Parquet tables (zstd), written as "
        "[runs](run-format.md) are: to a temporary sibling, flushed to the disk and renamed, so that it is either "
        "whole or absent. Every file has a checksum; one that was altered, cut short or lost is refused with its "
        "name, and never read in part. Types, ranges and how the numbers go together are checked as well, as they "
        f"stand below. The same record gives the same bytes. {words.parts}"
    )
    largest = stored_as.largest_header_bytes // 2**20
    yield from _wrapped(
        f"No other file is opened than these; `{header}` may have {largest} MiB. Other files in the folder, such as "
        f"`report.html`, are left alone. {words.never}"
    )
    yield from _wrapped(
        f"This is version {stored_as.version} of the format. Older versions load for ever; a newer one is refused with "
        "a message."
    )
    yield from (f"## `{header}`", "")
    yield from _wrapped(
        "UTF-8 JSON; no name stands twice in one object. NaN and infinities are written as in `run.json`: "
        f'`{{"$float": "nan"}}`. Beside the fields of {words.fields}:'
    )
    yield from ("| field | value | meaning |", "|---|---|---|")
    for name, meaning in _head_meanings(stored_as).items():
        yield f"| `{name}` | {in_words(stored_as.head.required[name])} | {meaning} |"
    yield ""
    yield from _wrapped(words.in_tables)
    yield from _wrapped(words.laws, last=True)
    for kind, title in words.records:
        yield from describe_record_fields(stored_as.rules, kind, title)
    for table in stored_as.tables:
        yield from describe_table(table)


def _wrapped(text: str, *, last: bool = False) -> Iterator[str]:
    """A paragraph, with an empty line behind it unless it is the last one."""
    yield from textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    if not last:
        yield ""


def _head_meanings(stored_as: RecordFormat[Any]) -> Mapping[str, str]:
    return {
        "format": f'always "{stored_as.called}"',
        "format_version": f"version of this format, now {stored_as.version}",
        "sha256": f"checksum of `{stored_as.kind.header}` itself, computed with these 64 digits written as zeros",
        "kind": f'what was asked: always "{stored_as.holds}"',
        "files": "for every table its `sha256`, `n_bytes` and `n_rows`",
    }


def describe_record_fields(rules: RecordRules, kind: type, title: str) -> Iterator[str]:
    """The fields of a record as a table: what each may be, and what it means, as its docstring says.

    Args:
        rules: What they may be.
        kind: The record.
        title: Its heading.
    """
    of_kind, meanings = rules.of(kind), _meanings_of(kind)
    yield from ("", f"### {title}", "", "| field | value | meaning |", "|---|---|---|")
    for name, hint in hints_of(kind).items():
        rule = {**of_kind.required, **of_kind.optional}[name]
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


def describe_table(table: Table) -> Iterator[str]:
    """The columns of a table."""
    yield from ("", f"## `{table.file}`", "", f"One row per {table.rows}.", "")
    yield from ("| column | type | unit | meaning |", "|---|---|---|---|")
    yield from map(_describe_column, table.columns)


def _describe_column(column: Column) -> str:
    null = " or null" if column.nullable else ""
    return f"| `{column.name}` | `{column.type}`{null} | {column.unit or ''} | {column.meaning} |"
