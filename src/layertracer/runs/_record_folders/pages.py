"""Records and tables of a format as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

from layertracer.runs._json_rules import Nullable, in_words
from layertracer.runs._record_folders.hints import has_default, hints_of, is_optional
from layertracer.runs._record_folders.rules import RecordRules
from layertracer.runs._schema import Column, Table


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
