"""Text for lenses, split three ways: to fit on, to choose by, to report on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from layertracer._errors import PromptTooLongError, TaskError, UsageError
from layertracer._types import Sample, checked_whole
from layertracer.tracing._model import TracedModel
from layertracer.tracing._texts.text_rows import TextRows, TextSource, gather_text, runs_of

Rows: TypeAlias = tuple[tuple[int, ...], ...]

_LENGTHS = (128, 64, 32)
"""Tokens of a passage where nobody says: the longest of which there are enough."""
_ENOUGH_ROWS = 12
_FEWEST_ROWS = 3
_SHARE_HELD, _MOST_HELD = 6, 8
"""One passage in so many chooses, one reports; at most so many passages each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSplit:
    """Passages for three purposes, none of which is in two.

    Attributes:
        fit: What a lens is fitted on.
        choose: What decides when to stop, and where it falls back.
        report: What it is reported on.
        said: What they are, in a sentence.
        notes: What must be said of them.
    """

    fit: Rows
    choose: Rows
    report: Rows
    said: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSizes:
    """How much text is wanted.

    Attributes:
        n_rows: Passages, of all parts together.
        row_tokens: Tokens of a passage; None for `most_tokens`, or fewer where the text or the context is short.
        most_tokens: The same where nobody says.
        least: The fewest tokens of a passage: shorter ones are left out.
    """

    n_rows: int
    row_tokens: int | None = None
    most_tokens: int = 128
    least: int = 2


def gather_rows_of_text(model: TracedModel, texts: TextSource, sizes: PassageSizes, *, seed: int) -> TextRows:
    """Passages of text for a lens, each once, in an order drawn by the seed.

    Raises:
        TaskError: If a file cannot be read, or no passage is long enough.
        PromptTooLongError: If a row of token ids is longer than the model's context.
        UsageError: If a text has no tokenizer, or a number makes no sense.
    """
    n_rows, least = _at_least("n_rows", sizes.n_rows, 1), sizes.least
    for length in _lengths(model, sizes):
        found = gather_text(model, texts, n_rows=n_rows, n_tokens=length, seed=seed, least=least)
        distinct = [row for row in dict.fromkeys(found.rows) if len(row) >= least]
        if texts is None or len(distinct) >= _ENOUGH_ROWS or not found.is_cut:
            break
    _refuse_unreadable(model, distinct)
    notes = list(found.notes)
    if len(distinct) < len(found.rows):
        n_left = len(found.rows) - len(distinct)
        notes.append(f"{n_left} of {len(found.rows)} passages are copies or have fewer than {least} tokens: left out.")
    if not distinct:
        raise TaskError(
            f"The text has no passage of {least} tokens or more, which a lens needs ({found.n_tokens} tokens in all). "
            "Give a longer text."
        )
    random.Random(f"passages for a lens, seed {seed}").shuffle(distinct)
    return TextRows(
        rows=tuple(distinct[:n_rows]),
        is_cut=found.is_cut,
        n_tokens=found.n_tokens,
        said=found.said,
        notes=tuple(notes),
    )


def split_text(model: TracedModel, texts: TextSource, sizes: PassageSizes, *, seed: int) -> TextSplit:
    """Passages to fit a lens on, to choose by, and to report on.

    Laws: equal arguments give equal passages; no passage of one part shares a run of 13 tokens with another part.

    Raises:
        TaskError: If there are too few passages that have nothing in common.
        PromptTooLongError: If a row of token ids is longer than the model's context.
        UsageError: If a text has no tokenizer, or a number makes no sense.
    """
    found = gather_rows_of_text(model, texts, sizes, seed=seed)
    n_held = min(_MOST_HELD, max(1, len(found.rows) // _SHARE_HELD))
    report, choose = found.rows[:n_held], found.rows[n_held : 2 * n_held]
    choose = tuple(_without(choose, report))
    fit = tuple(_without(found.rows[2 * n_held :], (*report, *choose)))
    if not (report and choose and fit):
        n_left = len(found.rows) - len(report) - len(choose) - len(fit)
        repeats = f" ({n_left} repeat 13 tokens or more of another)" if n_left else ""
        raise TaskError(
            f"The text is too short for a lens: it gives {len(found.rows)} passages{repeats}, and at least "
            f"{_FEWEST_ROWS} that have nothing in common are needed: to fit on, to choose by and to report on. Give a "
            "longer text, or shorter passages (row_tokens)."
        )
    notes = list(found.notes)
    n_left = len(found.rows) - len(report) - len(choose) - len(fit)
    if n_left:
        notes.append(f"{n_left} passages repeat what another part reads and were left out.")
    return TextSplit(fit=fit, choose=choose, report=report, said=found.said, notes=tuple(notes))


def _without(rows: Iterable[tuple[int, ...]], others: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The rows that share no run of tokens with others."""
    seen = runs_of(others)
    return [row for row in rows if not runs_of([row]) & seen]


def _lengths(model: TracedModel, sizes: PassageSizes) -> Sequence[int]:
    """Tokens of a passage, the first of which there are enough."""
    longest, least, most = model.network.max_length, sizes.least, sizes.most_tokens
    if sizes.row_tokens is not None:
        return [_at_least("row_tokens", sizes.row_tokens, least)]
    if longest is not None and longest < least:
        raise UsageError(
            f"A lens of this kind needs passages of {least} tokens, and the context of {model.name!r} is {longest} "
            "tokens. Use another kind of lens."
        )
    fitting = [length for length in _LENGTHS if length <= min(most, longest or most)]
    return fitting or [min(_LENGTHS[-1], longest or _LENGTHS[-1])]


def _refuse_unreadable(model: TracedModel, rows: Sequence[Sequence[int]]) -> None:
    """Refuse rows that the model cannot read."""
    longest, n_tokens = model.network.max_length, model.anatomy.n_input_tokens
    for number, row in enumerate(rows):
        if longest is not None and len(row) > longest:
            raise PromptTooLongError(
                f"A row of {len(row)} tokens is longer than the context of {model.name!r}, {longest} tokens. Cut it."
            )
        unknown = [token for token in row if not 0 <= token < n_tokens]
        if unknown:
            raise UsageError(
                f"Row {number} has token id {unknown[0]}, but {model.name!r} reads ids from 0 to {n_tokens - 1}. Use "
                "the model's own tokenizer."
            )


def as_text_source(texts: TextSource | Sequence[Sequence[int]]) -> TextSource:
    """Text as `gather_text` takes it: rows of token ids and lists of texts become samples."""
    if isinstance(texts, list | tuple) and texts and not isinstance(texts[0], Sample):
        return tuple(Sample(prompt=one) if isinstance(one, str) else Sample(prompt_ids=tuple(one)) for one in texts)
    return texts  # type: ignore[return-value]  # samples, a task, a file, a text or None


def _at_least(name: str, value: int, least: int) -> int:
    number = checked_whole(name, value)
    if number < least:
        raise UsageError(f"{name} must be at least {least}, got {number}.")
    return number
