"""Whether a table's first line names its columns."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from layertracer._errors import TaskFileError
from layertracer.tasks._files.material import FieldNames
from layertracer.tasks._files.recognize import NAMING, recognize_fields
from layertracer.tasks._files.values import shortened

_ROLES = frozenset(
    """
    a adjective animal answer answers antonym author b base before after book capital category city class color colour
    company comparative completion context continent countries country currency definition document entity expression
    form from to x y en fr de es it pt nl ru zh ja english french german spanish italian portuguese dutch russian
    chinese japanese id index infinitive input inputs instruction item key label labels language left right lemma
    meaning name nationality noun number numbers object opposite original output outputs past person plural positive
    present problem product prompt prompts query question questions relation response result review sentence sentences
    sentiment singular solution source src stem subject summary superlative synonym target targets term text texts tgt
    title translation value verb word words
    """.split()  # noqa: SIM905 - a list of so many would be a page
)
"""Words that name columns. They may be words of a pair as well: alone they decide nothing."""

_IDENTIFIER = re.compile(r"[A-Za-z]+(_[A-Za-z0-9]+)+|[a-z]+\d+|[a-z]+[A-Z]\w*|Unnamed: \d+")
_PARTS = re.compile(r"[\s_\d]+")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")

_YEAR = re.compile(r"(18|19|20|21)\d\d")
_SENTENCE = re.compile(r"\S\s+\S+\s+\S|[.?!。？！…]$")
"""Three words, or the end of a sentence: names of columns are shorter."""

_PAIRS = (2, 3)
"""Widths of tables that are read without names; others are refused, whatever their first line is."""

_IS_HEADER = 3
"""Signs that are enough. One or two may be chance, and the user is asked."""

_MIN_ROWS = 3
"""From so many rows on, the first one's standing out means something."""


def is_headed(cells: Sequence[Sequence[str]], names: FieldNames, *, where: str) -> bool:
    """Whether the first of the lines names the columns.

    Args:
        cells: The lines.
        names: What the user said.
        where: File and line of the first, for messages.

    Raises:
        TaskFileError: If it cannot be told; the message names the settings that say it.
    """
    first = cells[0]
    if names.header is not None:
        return names.header
    # With named fields the first line must be a header, for where else would the names be?
    if names.prompt is not None or names.answer is not None or recognize_fields(first, names) is not None:
        return True
    others = cells[1:]
    is_counted = _is_run(first)
    if is_counted and others and not any(_is_numeric(column) for column in _columns(first, others)):
        return True
    signs = _count_signs(first, others)
    if 0 < signs < _IS_HEADER or (not signs and len(first) in _PAIRS and (is_counted or not _is_data(first, others))):
        shown = ", ".join(repr(shortened(cell, 30)) for cell in first[:4])
        raise TaskFileError(
            f"{where}: {shown} may be the names of the columns or the first row. Say which with header=True or "
            f"header=False (--header, --no-header), or name the columns with {NAMING}."
        )
    return signs >= _IS_HEADER


def _count_signs(first: Sequence[str], others: Sequence[Sequence[str]]) -> int:
    """How much speaks for the first line as a header; little where one of its cells comes again as a value."""
    columns = _columns(first, others)
    heads = [cell.strip() for cell in first]
    again = any(
        head.casefold() in {cell.casefold() for cell in column}
        for head, column in zip(heads, columns, strict=True)
        if head
    )
    if not others:
        return int(all(_names_role(head) for head in heads))
    if again:
        return int(any(_names_role(head) for head in heads))
    return sum(_signs_of(head, column) for head, column in zip(heads, columns, strict=True))


def _columns(first: Sequence[str], others: Sequence[Sequence[str]]) -> list[list[str]]:
    """What stands below each cell of the first line."""
    return [[row[i].strip() for row in others if i < len(row)] for i in range(len(first))]


def _is_run(first: Sequence[str]) -> bool:
    """Whether the cells are 0, 1, 2, … or 1, 2, 3, …, as programs number columns without names."""
    cells = [cell.strip() for cell in first]
    return any(cells == [str(start + n) for n in range(len(cells))] for start in (0, 1)) and len(cells) > 1


def _is_numeric(column: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(cell) for cell in column if cell)


def _is_data(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is plainly a row: a sentence, a number among numbers, or a value that comes again.

    A word over words may be either, in whatever language; no list of words decides it.
    """
    values = {cell.strip().casefold() for row in others for cell in row}
    heads = [cell.strip() for cell in first]
    return any(
        _SENTENCE.search(head)
        or (head and head.casefold() in values)
        or (_NUMBER.fullmatch(head) and not _YEAR.fullmatch(head) and _is_numeric(column))
        for head, column in zip(heads, _columns(first, others), strict=True)
    )


def _names_role(head: str) -> bool:
    """Whether a cell is made of words that name columns."""
    words = [word for word in _PARTS.split(head.casefold()) if word]
    return bool(words) and all(word in _ROLES for word in words)


def _signs_of(head: str, column: Sequence[str]) -> int:
    """Signs in one column: its name, its spelling, and how it differs from all that stands below it."""
    signs = int(_names_role(head)) + int(not head)
    if _IDENTIFIER.fullmatch(head) and not any(_IDENTIFIER.fullmatch(cell) for cell in column):
        signs += 2 if "_" in head else 1
    filled = [cell for cell in column if cell]
    if len(filled) < _MIN_ROWS:
        return signs
    if all(_NUMBER.fullmatch(cell) for cell in filled) and not _NUMBER.fullmatch(head):
        signs += 2
    elif head and (_differs_in_case(head, filled) or _is_far_shorter(head, filled)):
        signs += 1
    return signs


def _differs_in_case(head: str, column: Sequence[str]) -> bool:
    """Whether all values begin with a capital and the first cell does not, or the other way round."""
    return (head[0].islower() and all(cell[0].isupper() for cell in column)) or (
        all(cell[0].islower() for cell in column) and head[0].isupper()
    )


def _is_far_shorter(head: str, column: Sequence[str]) -> bool:
    """Whether the first cell is one word, and all values are several."""
    lengths = [len(cell.split()) for cell in column]
    return len(head.split()) == 1 and min(lengths) > 1 and statistics.median(lengths) > 2
