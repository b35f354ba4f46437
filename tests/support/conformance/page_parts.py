"""What pages about architectures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.support.conformance.cases import Case

_OF_PAIR = " (encoder-decoder)"


def name_of(case: Case) -> str:
    """A family's name in a table."""
    return f"`{case.name}`{_OF_PAIR if case.encoder_decoder else ''}"


def table(header: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines; the columns of its header stand between bars."""
    columns = header.split(" | ")
    return [f"| {header} |", "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in rows)]
