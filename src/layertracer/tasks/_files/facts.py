"""Known facts, contrast pairs and relations: what their records say beside a prompt and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from layertracer._types import Sample
from layertracer.tasks._files.material import Row
from layertracer.tasks._files.recognize import Fields, plain_name
from layertracer.tasks._files.values import MissingMark, is_blank, shortened
from layertracer.tasks._tokens.seam import find_seam

_MAX_WORDINGS = 3
"""So many wordings of a relation are named; of the others, the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What a file says of the relation of its samples, as Hernandez et al. (2024) write them.

    Attributes:
        name: Its name; None where there is none.
        notes: What is to be said of its wordings.
    """

    name: str | None = None
    notes: tuple[str, ...] = ()


def find_relation(value: Mapping[str, object]) -> Relation:
    """The relation that an object with samples describes; nothing of it where it describes none."""
    given = value.get("prompt_templates")
    if not isinstance(given, list):
        return Relation()
    wordings = [text for text in given if isinstance(text, str) and text.count("{}") == 1]
    name = value.get("name")
    shown = ", ".join(f"template={shortened(text)!r}" for text in wordings[:_MAX_WORDINGS])
    more = f" and {len(wordings) - _MAX_WORDINGS} more" if len(wordings) > _MAX_WORDINGS else ""
    note = f"the relation's own wordings are used where one is asked for: {shown} (--template){more}"
    named = name if isinstance(name, str) and not is_blank(name) else None
    return Relation(name=named, notes=(note,) if wordings else ())


def are_facts(first: Row, fields: Fields) -> bool:
    """Whether these are known facts as ROME writes them, whose answers lack the space before them."""
    present = {plain_name(name) for name in first.values}
    return "subject" in fields.beside and plain_name(str(fields.answer)) == "attribute" and "template" in present


def read_beside(row: Row, fields: Fields) -> dict[str, Any]:
    """What a record says of its subject, its contrast and its relation; nothing of what is empty or no text."""
    values = {part: row.values.get(name) for part, name in fields.beside.items()}
    return {
        part: str(value)
        for part, value in values.items()
        if isinstance(value, str) and not isinstance(value, MissingMark) and not is_blank(value)
    }


def count_beside(samples: Sequence[Sample], fields: Fields) -> tuple[str, ...]:
    """A sentence for each part that some samples lack."""
    missing = {part: sum(getattr(sample, part) is None for sample in samples) for part in fields.beside}
    return tuple(f"{n} of {len(samples)} prompts have no {part.replace('_', ' ')}" for part, n in missing.items() if n)


def space_answers(samples: Sequence[Sample]) -> tuple[list[Sample], tuple[str, ...]]:
    """Facts whose answers begin with the space that their files leave out, and what is to be said of it.

    Behind "is located in the continent of", "Antarctica" is a new word: without a space it would continue the last.
    """
    glued = [find_seam(sample.prompt, sample.answer) is not None for sample in samples]
    spaced = [_space(sample) if is_glued else sample for sample, is_glued in zip(samples, glued, strict=True)]
    note = (
        f"{sum(glued)} of {len(samples)} answers begin with a space, which files of known facts leave out "
        "(answer_prefix=, --answer-prefix, says what else they begin with)"
    )
    return spaced, (note,) if any(glued) else ()


def _space(sample: Sample) -> Sample:
    """The sample with a space before each of its answers."""
    answers = tuple(f" {answer}" for answer in sample.all_answers)
    return replace(sample, answer=answers[0], answers=answers if sample.answers else None)
