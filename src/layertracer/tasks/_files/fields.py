"""From records to pairs or finished prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from layertracer._errors import EmptyTaskError, TaskFileError
from layertracer._types import Sample
from layertracer.tasks._files.facts import are_facts, count_beside, read_beside, space_answers
from layertracer.tasks._files.material import (
    PAIR_TEMPLATE,
    QUESTION_TEMPLATE,
    FieldNames,
    Material,
    Pair,
    Records,
    Row,
)
from layertracer.tasks._files.recognize import Fields, choose_fields, plain_name
from layertracer.tasks._files.tally import Tally
from layertracer.tasks._files.values import Value, empty_value, is_blank, read_value, shortened
from layertracer.tasks._sample import make_sample

FINAL_ANSWER = "####"
"""GSM8K writes the reasoning first and the final answer, a number, behind this on the last line."""

_ENDS_IN_NUMBER = re.compile(r"(?:\A|[\r\n])#### *[-+]?[$€£]?\d[\d,]*(?:\.\d+)?%?\s*\Z")

LABEL_0 = "label 0, the relation does not hold"
REPEATED = "repeats an earlier pair"

_GROUPED_NUMBER = re.compile(r"[-+]?\$?\d{1,3}(,\d{3})+(\.\d+)?")


def make_material(records: Records, names: FieldNames) -> Material:
    """Pairs or samples from records.

    Records whose prompt or answer is missing are left out and counted.

    Args:
        records: What a reader found.
        names: Fields to read, or None to recognise them.

    Returns:
        Samples where the records hold finished prompts, otherwise pairs.

    Raises:
        EmptyTaskError: If there is no record, or none is left.
        TaskFileError: If a field is not there or no text, or is empty in every record; the message names the line.
    """
    if not records.rows:
        raise EmptyTaskError(f"{records.source} holds no record. A task needs at least one prompt.")
    fields = choose_fields(records, names)
    tally = Tally(records, fields)
    if fields.style == "verbatim":
        samples = _read_all(records.rows, tally, lambda row: _read_sample(row, fields, names))
        is_glued = names.prefix is None and are_facts(records.rows[0], fields)
        spaced, told = space_answers(samples) if is_glued else (samples, ())
        made = tally.finish(Material(sha256=records.sha256, samples=tuple(spaced)))
        return replace(made, notes=(*made.notes, *told, *count_beside(spaced, fields)))
    return _make_pairs(records, fields, tally, marker=names.marker)


def _make_pairs(records: Records, fields: Fields, tally: Tally, *, marker: str | None) -> Material:
    """Pairs from records, without those whose label says that the relation does not hold."""
    held = [row for row in records.rows if fields.style != "words" or _relation_holds(row, fields, tally)]
    if not held:
        raise EmptyTaskError(
            f"{records.source} leaves no pair: all {len(records.rows)} records have label 0, which says that the "
            f"relation does not hold. A task needs records with label 1."
        )
    told: tuple[str, ...] = ()
    if marker is None and fields.style == "question":
        marker, told = _find_marker(held, str(fields.answer))
    seen: dict[Pair, None] = {}

    def read(row: Row) -> Pair | Value:
        pair = _read_pair(row, fields, marker=marker)
        if isinstance(pair, Pair) and pair in seen:
            tally.leave_out(REPEATED, row)
        elif isinstance(pair, Pair):
            seen[pair] = None
        return pair

    _read_all(held, tally, read)
    template = QUESTION_TEMPLATE if fields.style == "question" else PAIR_TEMPLATE
    made = tally.finish(Material(sha256=records.sha256, pairs=tuple(seen), template=template, marker=marker))
    relation = (records.relation or records.source) if fields.names_subjects else None
    return replace(made, notes=(*made.notes, *told), relation=relation)


def _find_marker(rows: Sequence[Row], name: str) -> tuple[str | None, tuple[str, ...]]:
    """GSM8K's marker where every answer ends in it and a number, and what is to be said of it."""
    values = [row.values.get(name) for row in rows]
    texts = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    answers = [str(text) for text in texts if not is_blank(text)]
    n_found = sum(_ENDS_IN_NUMBER.search(answer) is not None for answer in answers)
    if n_found and n_found == len(answers):
        told = (
            f"the final answer behind {FINAL_ANSWER!r} is followed, and shown in demonstrations, without thousands "
            "separators; the reasoning before it is not read"
        )
        return FINAL_ANSWER, (told,)
    if n_found:
        told = f"{n_found} of {len(answers)} answers end in {FINAL_ANSWER!r} and a number, the others do not: all are "
        return None, (told + "read whole",)
    return None, ()


def _read_all(rows: Sequence[Row], tally: Tally, read: Callable[[Row], Sample | Pair | Value]) -> list[Any]:
    """What the rows hold, without those in which something is missing.

    Raises:
        TaskFileError: If something is missing in every row.
    """
    kept: list[Any] = []
    problem = ""
    for row in rows:
        made = read(row)
        if isinstance(made, Value):
            tally.leave_out(str(made.missing), row, is_missing=True)
            problem = problem or f"{row.where}: {made.problem}."
        else:
            kept.append(made)
    if not kept:
        raise TaskFileError(problem + ("" if len(rows) == 1 else f" The same holds for all {len(rows)} records."))
    return kept


def _read_sample(row: Row, fields: Fields, names: FieldNames) -> Sample | Value:
    """A finished prompt with its answers, all as they stand; what is missing where something is."""
    prompt = read_value(row, fields.prompt, role="prompt")
    if prompt.missing is not None:
        return prompt
    beside = read_beside(row, fields)
    if fields.answer is None:
        return replace(Sample(prompt=prompt.texts[0]), **beside)
    answer = read_value(row, fields.answer, role="answer")
    if answer.missing is not None:
        return answer
    answers = answer.texts
    if names.marker is not None:
        answers = tuple(" " + extract_answer(text, names.marker, where=row.where) for text in answers)
    if names.prefix is not None:
        prefix = names.prefix
        answers = tuple(text if text.startswith(prefix) else prefix + text for text in answers)
    return replace(make_sample(prompt.texts[0], answers), **beside)


def _read_pair(row: Row, fields: Fields, *, marker: str | None) -> Pair | Value:
    """A pair without white space at its ends; what is missing where something is."""
    prompt = read_value(row, fields.prompt, role="prompt")
    if prompt.missing is not None:
        return prompt
    asked = prompt.texts[0].strip()
    if not asked:
        return empty_value(fields.prompt, role="prompt")
    name = str(fields.answer)
    answer = read_value(row, name, role="answer")
    if answer.missing is not None:
        return answer
    outputs = tuple(text.strip() for text in answer.texts if text.strip())
    if not outputs:
        return empty_value(name, role="answer")
    if marker is not None:
        outputs = tuple(extract_answer(text, marker, where=row.where) for text in outputs)
    return Pair(input=asked, output=outputs[0], others=outputs[1:])


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
            f"{where}: the final answer should stand behind {marker!r}, got {shortened(text)!r}. "
            f"Add the marker and the answer, or give another answer_marker."
        )
    return answer.replace(",", "") if _GROUPED_NUMBER.fullmatch(answer) else answer


def _relation_holds(row: Row, fields: Fields, tally: Tally) -> bool:
    """Whether a labelled word pair is one of the relation; pairs without a label are."""
    read = (fields.prompt, fields.answer)
    labels = [value for name, value in row.values.items() if name not in read and _is_label(name, row.values)]
    label = str(labels[0]).strip() if labels else "1"
    if label not in ("0", "1"):
        raise TaskFileError(
            f"{row.where}: the label must be 1 (the relation holds) or 0 (it does not), got {label!r}. Leave out the "
            f"third column, or name the columns with a header."
        )
    if label == "0":
        tally.leave_out(LABEL_0, row)
    return label == "1"


def _is_label(name: str, values: Mapping[str, object]) -> bool:
    """Whether a field labels word pairs: it is called so, or is the third of columns without names."""
    return plain_name(name) == "label" or (name == "3" and next(iter(values)) == "1")
