"""Which fields of a record are the prompt and the answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from layertracer._errors import EmptyTaskError, TaskFileError
from layertracer._types import Sample
from layertracer.tasks._material import (
    PAIR_TEMPLATE,
    QUESTION_TEMPLATE,
    FieldNames,
    Material,
    Pair,
    Row,
    drop_duplicates,
)

Style = Literal["verbatim", "pairs", "words", "question"]

KNOWN: tuple[tuple[str, str, Style], ...] = (
    ("prompt", "answer", "verbatim"),
    ("input", "output", "pairs"),
    ("question", "answer", "question"),
    ("word1", "word2", "words"),
)
"""Names that are recognised, in this order, and what they mean."""

FINAL_ANSWER = "####"
"""GSM8K writes the reasoning first and the final answer behind this."""

_GROUPED_NUMBER = re.compile(r"[-+]?\$?\d{1,3}(,\d{3})+(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields to read.

    Attributes:
        prompt: Name of the prompt's field.
        answer: Name of the answer's field; None where records have none.
        style: "verbatim" for finished prompts, otherwise what kind of pairs.
    """

    prompt: str
    answer: str | None
    style: Style


def recognize_fields(present: Mapping[str, object], names: FieldNames) -> Fields | None:
    """The fields to read in a record that has the fields `present`; None where nothing is recognised.

    Named fields hold pairs, unless their name says that they hold finished prompts ("prompt") or there is no answer.
    """
    by_name = {name.strip().casefold(): name for name in present}
    if names.prompt is not None:
        answer = names.answer
        style: Style = "pairs"
        if names.prompt == "prompt" or answer is None:
            style = "verbatim"
        elif names.prompt.casefold() == "question":
            style = "question"
        return Fields(prompt=names.prompt, answer=answer, style=style)
    for prompt, answer, style in KNOWN:
        if prompt in by_name and (names.answer or answer) in {*by_name, *present}:
            return Fields(prompt=by_name[prompt], answer=names.answer or by_name[answer], style=style)
    if "prompt" in by_name:
        return Fields(prompt=by_name["prompt"], answer=None, style="verbatim")
    return None


def make_material(rows: Sequence[Row], names: FieldNames, *, source: str, sha256: str) -> Material:
    """Pairs or samples from records.

    Args:
        rows: Records of one source.
        names: Fields to read, or None to recognise them.
        source: Name of the source, for messages.
        sha256: Hash of the content.

    Returns:
        Samples where the records hold finished prompts, otherwise pairs.

    Raises:
        EmptyTaskError: If there is no record, or none is left.
        TaskFileError: If a field is missing, empty or no text; the message names the line.
    """
    if not rows:
        raise EmptyTaskError(f"{source} holds no record. A task needs at least one prompt.")
    fields = recognize_fields(rows[0].values, names)
    if fields is None:
        raise TaskFileError(
            f"{rows[0].where}: the fields {_listed(rows[0].values)} are not known. Expected prompt and answer, "
            f"input and output, question and answer, or word1 and word2. Name others with prompt_field= and "
            f"answer_field=."
        )
    if fields.style == "verbatim":
        samples = tuple(_read_sample(row, fields, marker=names.marker) for row in rows)
        return Material(sha256=sha256, samples=samples)
    return _make_pairs(rows, fields, names=names, source=source, sha256=sha256)


def _make_pairs(rows: Sequence[Row], fields: Fields, *, names: FieldNames, source: str, sha256: str) -> Material:
    """Pairs from records, without those whose label says that the relation does not hold."""
    held = [row for row in rows if fields.style != "words" or _relation_holds(row)]
    marker = names.marker
    if marker is None and fields.style == "question" and FINAL_ANSWER in _read_text(rows[0], str(fields.answer)):
        marker = FINAL_ANSWER
    pairs, repeated = drop_duplicates(_read_pair(row, fields, marker=marker) for row in held)
    if not pairs:
        raise EmptyTaskError(
            f"{source} leaves no pair: all {len(rows)} records have label 0, which says that the relation does not "
            f"hold. A task needs records with label 1."
        )
    template = QUESTION_TEMPLATE if fields.style == "question" else PAIR_TEMPLATE
    left_out = repeated + Counter({"label 0, the relation does not hold": len(rows) - len(held)})
    return Material(sha256=sha256, pairs=pairs, template=template, left_out=dict(left_out))


def _read_sample(row: Row, fields: Fields, *, marker: str | None) -> Sample:
    """A finished prompt with its answer, both as they stand."""
    prompt = _read_text(row, fields.prompt)
    if fields.answer is None:
        return Sample(prompt=prompt)
    answer = _read_text(row, fields.answer)
    return Sample(
        prompt=prompt, answer=answer if marker is None else " " + extract_answer(answer, marker, where=row.where)
    )


def _read_pair(row: Row, fields: Fields, *, marker: str | None) -> Pair:
    """A pair without white space at its ends."""
    output = _read_text(row, str(fields.answer)).strip()
    if marker is not None:
        output = extract_answer(output, marker, where=row.where)
    return Pair(input=_read_text(row, fields.prompt).strip(), output=output)


def extract_answer(text: str, marker: str, *, where: str) -> str:
    r"""The final answer: what stands behind the last `marker`, thousands separators removed.

    Example:
        >>> extract_answer("They sell 2 * 600 = 1200.\n#### 1,200", "####", where="line 1")
        '1200'

    Raises:
        TaskFileError: If the marker is missing, or nothing stands behind it.
    """
    _, found, behind = text.rpartition(marker)
    answer = behind.strip()
    if not found or not answer:
        raise TaskFileError(
            f"{where}: the final answer should stand behind {marker!r}, got {_shortened(text)!r}. "
            f"Add the marker and the answer, or give another answer_marker."
        )
    return answer.replace(",", "") if _GROUPED_NUMBER.fullmatch(answer) else answer


def _relation_holds(row: Row) -> bool:
    """Whether a labelled word pair is one of the relation; pairs without a label are."""
    label = str(row.values.get("label", "1")).strip()
    if label not in ("0", "1"):
        raise TaskFileError(f"{row.where}: the label must be 1 (the relation holds) or 0 (it does not), got {label!r}.")
    return label == "1"


def _read_text(row: Row, name: str) -> str:
    """A field that must be text or a number, and not empty."""
    if name not in row.values:
        raise TaskFileError(
            f"{row.where}: the field {name!r} is missing, got {_listed(row.values)}. Every record needs it."
        )
    value = row.values[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TaskFileError(f"{row.where}: the field {name!r} must be text, got {_shortened(repr(value))}.")
    if not str(value).strip():
        raise TaskFileError(f"{row.where}: the field {name!r} is empty. Fill it in or remove the record.")
    return str(value)


def _listed(values: Mapping[str, object]) -> str:
    """The names of a record's fields, for messages."""
    return ", ".join(repr(name) for name in values) or "none"


def _shortened(text: str, length: int = 60) -> str:
    """A text cut for a message."""
    return text if len(text) <= length else text[: length - 1] + "…"
