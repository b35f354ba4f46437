"""Passages of text to measure placements on: long enough that a window hides something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from layertracer._errors import UsageError
from layertracer._types import Substitute
from layertracer.tracing import TextRows, TracedModel

_SHORTEST, _SEEN_TIMES = 160, 3


def default_row_tokens(model: TracedModel, substitute: Substitute) -> int:
    """Length of a passage where nobody says one: two thirds of it and more lie beyond what a window sees.

    Raises:
        UsageError: If the model's context is no longer than what the window sees.
    """
    wanted, longest = max(_SHORTEST, _SEEN_TIMES * substitute.n_seen), model.network.max_length
    n_tokens = wanted if longest is None else min(wanted, longest)
    if n_tokens <= substitute.n_seen + 1:
        raise UsageError(
            f"Nothing is lost by {substitute.describe()} in {model.name!r}, whose context has {longest} tokens. Give a "
            f"window of fewer: with its sinks at most {n_tokens - 2}."
        )
    return n_tokens


def reaching(rows: TextRows, substitute: Substitute) -> TextRows:
    """The rows that have a position beyond what a window sees, each once: copies make nothing surer.

    Raises:
        UsageError: If there is none; the message has their lengths.
    """
    distinct = tuple(dict.fromkeys(rows.rows))
    n_copies = len(rows.rows) - len(distinct)
    if n_copies:
        said = f"{n_copies} of {len(rows.rows)} rows are copies of another one: each counts once."
        rows = replace(rows, rows=distinct, notes=(*rows.notes, said))
    fewest = substitute.n_seen + 2  # a position that loses something, and a token behind it
    kept = tuple(row for row in rows.rows if len(row) >= fewest)
    if rows.rows and not kept:
        lengths = sorted(map(len, rows.rows))
        raise UsageError(
            f"Every row is too short for {substitute.describe()}: {_count(lengths)}, and at least {fewest} are needed, "
            "of which one loses something and one follows it. Give longer rows or a smaller window."
        )
    n_short = len(rows.rows) - len(kept)
    note = (
        f"{n_short} of {len(rows.rows)} rows have fewer than {fewest} tokens, too few for {substitute.describe()}: "
        "they were left out."
    )
    return replace(rows, rows=kept, notes=(*rows.notes, note)) if n_short else rows


def _count(lengths: Sequence[int]) -> str:
    """How many rows there are, and how long."""
    if len(lengths) == 1:
        return f"it has {lengths[0]} tokens"
    span = str(lengths[0]) if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    return f"the {len(lengths)} rows have {span} tokens"
