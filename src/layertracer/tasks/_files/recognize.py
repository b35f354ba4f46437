"""Which fields of a record are the prompt and the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from layertracer._errors import TaskFileError
from layertracer.tasks._files.material import FieldNames, Records, Row
from layertracer.tasks._files.values import is_blank, listed

Style = Literal["verbatim", "pairs", "words", "question"]

KNOWN: tuple[tuple[str, str, Style], ...] = (
    ("prompt", "answer", "verbatim"),
    ("input", "output", "pairs"),
    ("question", "answer", "question"),
    ("word1", "word2", "words"),
    ("prompt", "answers", "verbatim"),
    ("prompt", "completion", "verbatim"),
    ("prompt", "response", "verbatim"),
    ("prompt", "target", "verbatim"),
    ("prompt", "output", "verbatim"),
    ("prompt", "label", "verbatim"),
    ("prompt", "attribute", "verbatim"),
    ("question", "answers", "question"),
    ("query", "answer", "question"),
    ("inputs", "targets", "pairs"),
    ("input", "target", "pairs"),
    ("input", "label", "pairs"),
    ("source", "target", "pairs"),
    ("src", "tgt", "pairs"),
    ("text", "label", "pairs"),
    ("sentence", "label", "pairs"),
    ("subject", "object", "pairs"),
    ("instruction", "output", "pairs"),
    ("instruction", "response", "pairs"),
    ("clean_prefix", "clean_answer", "verbatim"),
)
"""Names that are recognised, in this order, and what they mean."""

_BESIDE = {
    "subject": ("subject",),
    "contrast": ("patch_prefix", "contrast"),
    "contrast_answer": ("patch_answer", "contrast_answer"),
    "relation": ("relation_id", "relation"),
}
"""Fields beside finished prompts that say what causal tracing asks: of facts as ROME writes them, and of contrasts."""

_CHOICES = ("choices", "options", "endings", "candidates", "mc1_targets", "sol1", "option1", "option_a", "choice1")
_CONVERSATION = ("messages", "conversation", "conversations", "chat", "dialogue", "turns")
_PARTS = ("instruction", "context", "passage", "story", "document", "premise", "system")
"""Fields that belong to the prompt beside the one that is recognised."""

_ANSWERS = frozenset(
    """
    answer answers bestanswer completion correct correctanswer correctanswers expected expectedanswer expectedoutput
    finalanswer gold goldanswer goldanswers goldlabel golden goldtarget groundtruth groundtruths ideal label
    modelanswer modeloutput modelresponse output outputs reference referenceanswer references response solution target
    targets truth
    """.split()  # noqa: SIM905 - a list of so many would be a page
)
"""Fields that hold what is right, or what a model said; of two of them it is not known which is to be followed."""

_LETTERS = re.compile(r"[\W_]+")

NAMING = "prompt_field= and answer_field= (--prompt-field, --answer-field)"
"""The settings that say which fields are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields to read.

    Attributes:
        prompt: Name of the prompt's field.
        answer: Name of the answer's field; None where records have none.
        style: "verbatim" for finished prompts, otherwise what kind of pairs.
        beside: Names of the fields beside finished prompts that hold parts of a sample, by what they are of it.
    """

    prompt: str
    answer: str | None
    style: Style
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def names_subjects(self) -> bool:
        """Whether the inputs of pairs are subjects of facts, as in relations."""
        return self.style == "pairs" and plain_name(self.prompt) == "subject"


def plain_name(name: str) -> str:
    """A name without what people write differently: case, and white space at its ends."""
    return name.strip().casefold()


def tells_kind(name: str) -> bool:
    """Whether a field says what kind of records these are, beside the fields that are read."""
    return plain_name(name) in {*_CHOICES, *_CONVERSATION, *_PARTS}


def recognize_fields(present: Iterable[str], names: FieldNames) -> Fields | None:
    """The fields to read in a record that has the fields `present`; None where nothing is recognised.

    Named fields hold pairs, unless their name says that they hold finished prompts ("prompt") or there is no answer.
    """
    present = list(present)
    by_name = {plain_name(name): name for name in reversed(present)}
    if names.prompt is not None:
        answer = names.answer
        style: Style = "pairs"
        if plain_name(names.prompt) == "prompt" or answer is None:
            style = "verbatim"
        elif plain_name(names.prompt) == "question":
            style = "question"
        answer = None if answer is None else _literally(answer, present)
        return Fields(prompt=_literally(names.prompt, present), answer=answer, style=style)
    for prompt, answer, style in KNOWN:
        if prompt in by_name and (names.answer or answer) in {*by_name, *present}:
            named = by_name[answer] if names.answer is None else _literally(names.answer, present)
            return Fields(prompt=by_name[prompt], answer=named, style=style)
    if "prompt" in by_name:
        return Fields(prompt=by_name["prompt"], answer=None, style="verbatim")
    return None


def _literally(name: str, present: Iterable[str]) -> str:
    """The field that a user named: the very name, else the one that differs in case and white space only."""
    if name in present:
        return name
    near = [field for field in present if plain_name(field) == plain_name(name)]
    return near[0] if len(near) == 1 else name


def is_read(fields: Fields, present: Iterable[str]) -> bool:
    """Whether a record with the fields `present` has all that are to be read."""
    return {fields.prompt, fields.answer} <= {*present, None}


def choose_fields(records: Records, names: FieldNames) -> Fields:
    """The fields to read in these records, which are at least one.

    Raises:
        TaskFileError: If they cannot be told; the message names the settings that say them.
    """
    first = records.rows[0]
    fields = recognize_fields(first.values, names)
    if names.prompt is None or names.answer is None:
        _refuse_other_kinds(records, fields)
    if fields is None and (records.part == "column" or list(first.values) == ["0", "1"]):
        fields = _read_in_order(records, names)
    if fields is None:
        raise TaskFileError(
            f"{records.where}: the fields {listed(first.values)} are not known. Expected prompt and answer, "
            f"input and output, question and answer, or word1 and word2. Name others with {NAMING}."
        )
    _refuse_twins(records, fields, names)
    if names.answer is None:
        _refuse_two_answers(records, fields)
    if names.prompt is None:
        fields = _with_all_of_the_prompt(records, fields)
    return _with_fields_beside(records, fields)


def _read_in_order(records: Records, names: FieldNames) -> Fields | None:
    """The two columns of a table, from left to right, an index beside them passed over; None where they are more."""
    columns = list(records.rows[0].values)
    while len(columns) > 2 and is_index(records.rows, columns[0]):
        columns = columns[1:]
    if names.answer is not None:
        answer = _literally(names.answer, columns)
        columns = [*(column for column in columns if column != answer), answer]
    elif not records.is_named and len(columns) == 3:
        return Fields(prompt=columns[0], answer=columns[1], style="words")
    return Fields(prompt=columns[0], answer=columns[1], style="pairs") if len(columns) == 2 else None


def is_index(rows: Iterable[Row], column: str) -> bool:
    """Whether a column counts or names the rows, as pandas and R write it: a column without a name, or 0, 1, 2."""
    if plain_name(column) in ("", "id", "index", "level_0") or plain_name(column).startswith("unnamed:"):
        return True
    counted = [row.values[column] for row in rows]
    first = str(counted[0])
    return first in ("0", "1") and all(str(value) == str(int(first) + n) for n, value in enumerate(counted))


def _refuse_other_kinds(records: Records, fields: Fields | None) -> None:
    """Refuse records that are no prompts with answers.

    Raises:
        TaskFileError: If they offer choices or hold conversations.
    """
    by_name = {plain_name(name): name for name in _all_names(records)}
    choices = [by_name[name] for name in _CHOICES if name in by_name]
    if choices:
        raise TaskFileError(
            f"{_where(records, choices[0])}: the records offer choices ({choices[0]!r}), and a task here has one "
            f"prompt and its answer. Write the prompt and the text of the right choice into two fields, and name them "
            f"with {NAMING}."
        )
    conversations = [by_name[name] for name in _CONVERSATION if name in by_name]
    if conversations and fields is None:
        raise TaskFileError(
            f"{_where(records, conversations[0])}: the records hold conversations ({conversations[0]!r}), and a task "
            f"here has one prompt and its answer. Write the user's turn and the reply into the fields prompt and "
            f"answer, and trace with chat=True (--chat)."
        )


def _all_names(records: Records) -> list[str]:
    """The fields that any record has, in the order in which they come."""
    return list(dict.fromkeys(name for row in records.rows for name in row.values))


def _where(records: Records, name: str) -> str:
    """Source and place of a field, for messages: where fields are named once, or the first record that has it."""
    return records.where if records.head else next(row for row in records.rows if name in row.values).where


def _refuse_two_answers(records: Records, fields: Fields) -> None:
    """Refuse records with a second field that may be the answer: what a model said beside what is right.

    Raises:
        TaskFileError: If there is one that is not empty throughout.
    """
    if fields.answer is None or fields.style == "words":
        return
    others = [
        name
        for name in _all_names(records)
        if _LETTERS.sub("", name.casefold()) in _ANSWERS and name not in (fields.prompt, fields.answer)
    ]
    filled = [name for name in others if not all(is_blank(row.values.get(name)) for row in records.rows)]
    if filled:
        raise TaskFileError(
            f"{_where(records, filled[0])}: {fields.answer!r} and {filled[0]!r} may both be the answer, such as what a "
            f"model said and what is right. Name the one to follow with answer_field= (--answer-field)."
        )


def _with_fields_beside(records: Records, fields: Fields) -> Fields:
    """The fields, with those beside finished prompts that hold more of a sample and are not empty throughout."""
    if fields.style != "verbatim":
        return fields
    present = find_beside(_all_names(records), fields)
    filled = {
        part: name for part, name in present.items() if not all(is_blank(row.values.get(name)) for row in records.rows)
    }
    return replace(fields, beside=filled)


def find_beside(present: Iterable[str], fields: Fields) -> dict[str, str]:
    """The fields that hold more of a sample than its prompt and its answer, by what they are of it."""
    by_name = {plain_name(name): name for name in present if name not in (fields.prompt, fields.answer)}
    found = {part: next((by_name[name] for name in names if name in by_name), None) for part, names in _BESIDE.items()}
    return {part: name for part, name in found.items() if name is not None}


def _refuse_twins(records: Records, fields: Fields, names: FieldNames) -> None:
    """Refuse two fields of one name, but for case and white space, where one of them would be read unasked.

    Raises:
        TaskFileError: If there are such.
    """
    for name in filter(None, (fields.prompt, fields.answer)):
        twins = [field for field in _all_names(records) if plain_name(field) == plain_name(name)]
        if len(twins) > 1 and name not in (names.prompt, names.answer):
            raise TaskFileError(
                f"{_where(records, twins[-1])}: the fields {listed(dict.fromkeys(twins))} have one name but for case "
                f"or white space. Rename one, or name the one that is meant with {NAMING}."
            )


def _with_all_of_the_prompt(records: Records, fields: Fields) -> Fields:
    """The fields, where nothing else belongs to the prompt.

    Instructions come with an input of their own, which may be empty in all records: then the instruction is asked.

    Raises:
        TaskFileError: If another field holds a part of the prompt.
    """
    by_name = {plain_name(name): name for name in _all_names(records)}
    parts = [
        by_name[name] for name in _PARTS if name in by_name and by_name[name] not in (fields.prompt, fields.answer)
    ]
    filled = [part for part in parts if not all(is_blank(row.values.get(part)) for row in records.rows)]
    if not filled:
        return fields
    asked = by_name.get("instruction")
    if filled == [asked] and all(is_blank(row.values.get(fields.prompt)) for row in records.rows):
        return replace(fields, prompt=str(asked))
    raise TaskFileError(
        f"{_where(records, filled[0])}: {filled[0]!r} stands beside {fields.prompt!r}, and both may belong to "
        f"the prompt. Write the whole prompt into one field and name it, or name those that are to be read alone "
        f"with {NAMING}."
    )
