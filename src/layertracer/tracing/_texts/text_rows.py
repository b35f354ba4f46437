"""Passages of text as token ids: out of files, texts, token ids, or written by the model itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from layertracer._errors import TaskError, UsageError
from layertracer._types import Sample
from layertracer.tasks import Passages, Task, cut_passages, expand_home, is_file, read_beginning
from layertracer.tracing._model import TracedModel
from layertracer.tracing._texts.own_text import write_text

TextSource: TypeAlias = "str | os.PathLike[str] | Task | Sequence[Sample] | None"
"""A file or a text, prompts that are read as text or as token ids, or None: written by the model itself."""

SHARED_RUN = 13
"""So many tokens in a row stand in two passages only where one is a copy of the other."""

_BYTES_PER_TOKEN, _MOST_BYTES = 12, 2**30
_FINGERPRINTED_BYTES, _FINGERPRINTED_ROWS, _FINGERPRINTED_TOKENS = 2**24, 64, 128
_PREFIX = "text:"
_SUFFIXES = (".txt", ".text", ".md", ".gz", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".tex", ".py", ".html")


_RECORDS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".html", ".htm")
"""Files whose text stands in fields or marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Passages as token ids.

    Attributes:
        rows: Token ids of each.
        is_cut: Whether they were cut to one length; rows of token ids by a user are as they were given.
        n_tokens: Tokens that the text has, as far as it was read.
        said: What they are, in a sentence.
        notes: What must be said of them.
    """

    rows: tuple[tuple[int, ...], ...]
    is_cut: bool
    n_tokens: int
    said: str
    notes: tuple[str, ...] = ()


def gather_text(
    model: TracedModel, given: TextSource, *, n_rows: int, n_tokens: int, seed: int, least: int | None = None
) -> TextRows:
    """Passages of what was given, as many as are asked for where there are so many.

    Args:
        model: The model.
        given: The text.
        n_rows: How many passages are wanted; of token ids all rows are taken.
        n_tokens: Tokens of a passage.
        seed: Seed of what the model writes itself.
        least: What is left over at the end of a text is a passage, too, where it has so many tokens; None for never.

    Raises:
        TaskError: If a file cannot be read, or is no text.
        UsageError: If a text has no tokenizer.
    """
    longest = model.network.max_length
    if longest is not None and n_tokens > longest:
        raise UsageError(
            f"Passages of {n_tokens:,} tokens are longer than the context of {model.name!r}, {longest:,} tokens. Ask "
            "for shorter ones."
        )
    if given is None:
        rows = write_text(model, n_rows=n_rows, n_tokens=n_tokens, seed=seed)
        said = f"Text: {n_rows} passages of {n_tokens} tokens that the model wrote itself (temperature 1, seed {seed})"
        return TextRows(rows=rows, is_cut=True, n_tokens=n_rows * n_tokens, said=said)
    if isinstance(given, str | os.PathLike):
        return _of_file_or_text(model, given, n_rows=n_rows, n_tokens=n_tokens)
    samples = tuple(given)
    ids = [sample.prompt_ids + sample.all_answer_ids[:1] for sample in samples if sample.prompt_ids is not None]
    if not samples or 0 < len(ids) < len(samples):
        raise UsageError(
            f"Text must be texts or rows of token ids, got {len(ids)} rows of ids and {len(samples) - len(ids)} texts. "
            "Give one kind, and at least one."
        )
    if ids:
        said = f"Text: {len(ids)} rows of token ids"
        return TextRows(rows=tuple(ids), is_cut=False, n_tokens=sum(map(len, ids)), said=said)
    texts = [f"{sample.prompt}{sample.answer or ''}" for sample in samples]
    what = f"{len(texts)} texts" if len(texts) > 1 else "one text"
    return _of_texts(model, texts, n_tokens=n_tokens, what=what, least=least)


def text_fingerprint(model: TracedModel, given: str | os.PathLike[str] | Task | Sequence[Sample]) -> str:
    """A fingerprint of a text as a model reads it; equal texts have equal ones, wherever they lie.

    Of a file the beginning counts, far more than lenses are fitted on.

    Raises:
        TaskError: If a file cannot be read, or is no text.
        UsageError: If a text has no tokenizer.
    """
    if isinstance(given, str | os.PathLike):
        path = _file_of(given)
        content: object = str(given) if path is None else read_beginning(path, n_bytes=_FINGERPRINTED_BYTES).text
    else:
        content = tuple(given)
    longest = model.network.max_length
    n_tokens = _FINGERPRINTED_TOKENS if longest is None else min(longest, _FINGERPRINTED_TOKENS)
    rows = gather_text(model, given, n_rows=_FINGERPRINTED_ROWS, n_tokens=n_tokens, seed=0, least=2).rows
    return hashlib.sha256(repr((content, rows)).encode()).hexdigest()


def _of_file_or_text(model: TracedModel, given: str | os.PathLike[str], *, n_rows: int, n_tokens: int) -> TextRows:
    """Passages of a file's beginning, or of a text."""
    if not str(given).strip():
        raise UsageError("The text is empty. Give a text, a file, or None for text that the model writes itself.")
    path = _file_of(given)
    if path is None:
        return _of_texts(model, [str(given)], n_tokens=n_tokens, what="the text")
    if path.lower().removesuffix(".gz").endswith(_RECORDS):
        raise UsageError(
            f"{os.path.basename(path)} holds records, not plain text: braces, quotes and escapes would be read as "
            "text. Give the texts of its records as a list, e.g. text=[one['text'] for one in records], or a .txt file."
        )
    n_bytes = _BYTES_PER_TOKEN * n_tokens * (n_rows + 1)
    while True:
        beginning = read_beginning(path, n_bytes=n_bytes)
        rows = _of_texts(model, [beginning.text], n_tokens=n_tokens, what=os.path.basename(path))
        if len(rows.rows) >= n_rows or beginning.is_all or n_bytes >= _MOST_BYTES:
            return rows
        n_bytes *= 4


def _file_of(given: str | os.PathLike[str]) -> str | None:
    """The file that is meant; None where it is a text."""
    if not isinstance(given, str):
        return os.fspath(given)
    if given.startswith(_PREFIX):
        return given.removeprefix(_PREFIX)
    if "\n" in given or "\0" in given:
        return None
    is_named = given.lower().endswith(_SUFFIXES) or not any(char.isspace() for char in given)
    return given if is_named or is_file(expand_home(given)) else None


def _of_texts(
    model: TracedModel, texts: Sequence[str], *, n_tokens: int, what: str, least: int | None = None
) -> TextRows:
    """Passages of texts, by the model's own tokenizer.

    Raises:
        UsageError: If it has none.
        TaskError: If all passages hold words that it does not know.
    """
    if model.tokenizer is None:
        raise UsageError(
            f"{model.name!r} has no tokenizer, so it reads no text. Give rows of token ids, a tokenizer to wrap_model, "
            "or no text at all: the model then writes its own."
        )
    passages = cut_passages(texts, model.tokenizer, n_tokens=n_tokens, least=least)
    if passages.n_unknown and not passages.rows:
        raise TaskError(
            f"All {passages.n_unknown} passages of {what} hold words outside the vocabulary of {model.name!r}, such as "
            f"{passages.unknown!r}. Give text of its words, or none: the model then writes its own."
        )
    return TextRows(
        rows=passages.rows,
        is_cut=True,
        n_tokens=passages.n_tokens,
        said=f"Text: passages of {n_tokens} tokens{'' if least is None else ' or fewer'} out of {what}",
        notes=tuple(_notes_on(passages, n_texts=len(texts))),
    )


def _notes_on(passages: Passages, *, n_texts: int) -> Iterable[str]:
    """What was left out of texts."""
    if passages.n_short and n_texts > 1:
        yield f"{passages.n_short} of {n_texts} texts are shorter than a passage: they were left out."
    if passages.n_unknown:
        yield (
            f"{passages.n_unknown} passages hold words outside the model's vocabulary, such as {passages.unknown!r}: "
            "they were left out."
        )


def runs_of(rows: Iterable[Sequence[int]]) -> set[tuple[int, ...]]:
    """Every run of tokens by which a passage is known in another; of a shorter one the whole."""
    return {
        tuple(row[start : start + SHARED_RUN]) for row in rows for start in range(max(1, len(row) - SHARED_RUN + 1))
    }
