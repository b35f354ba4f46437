"""The values of a report on evidence: what page and terminal both say first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from layertracer._types import Interval
from layertracer.evidence import EvidenceRecord
from layertracer.reports._evidence.wording import (
    PROMPTS,
    SHORT,
    TASK,
    AnswerLine,
    answer_line,
    criterion_words,
    lens_name,
    p_words,
)
from layertracer.reports._values.numbers import show_count, show_interval, show_number, show_share
from layertracer.reports._values.parts import Notice, Phrase, Tile
from layertracer.reports._values.visible import plain, shorten, visible_text

_MAX_NOTICES = 20
_ANSWERS = ("yes", "no", "undecided", "not measured")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceOverview:
    """What stands first: every question with its answer.

    Attributes:
        model: Name of the model.
        task: Name of the task.
        context: What was measured, in a line.
        sentence: How the questions were answered.
        notices: What must be seen before the numbers.
        tiles: The key numbers.
        answers: Every question with its answer.
    """

    model: str
    task: str
    context: str
    sentence: tuple[Phrase, ...]
    notices: tuple[Notice, ...]
    tiles: tuple[Tile, ...]
    answers: tuple[AnswerLine, ...]


def build_evidence_overview(record: EvidenceRecord) -> EvidenceOverview:
    """The values of a report on evidence."""
    order = list(SHORT)
    numbered = sorted(
        enumerate(record.verdicts),
        key=lambda pair: (order.index(pair[1].question) if pair[1].question in order else len(order), pair[0]),
    )
    return EvidenceOverview(
        model=plain(str(record.model["name"]), 80),
        task=plain(str(record.task.get("name", "its task")), 60),
        context=_context(record),
        sentence=tuple(_sentence(record)),
        notices=tuple(_notices(record)),
        tiles=tuple(_tiles(record)),
        answers=tuple(answer_line(verdict, number) for number, verdict in numbered),
    )


def _context(record: EvidenceRecord) -> str:
    solved = "" if record.solved_share != record.solved_share else f", {show_share(record.solved_share)} solved"
    quick = "the short form, " if record.quick else ""
    layers = show_count(record.model["n_layers"], "layer")
    return f"{layers} · {quick}{show_count(record.n_prompts, 'prompt')}{solved} · seed {record.seed}"


def _sentence(record: EvidenceRecord) -> Iterator[Phrase]:
    """How many questions were answered how; no answer of all of them together, which there is not."""
    if not record.verdicts:
        yield Phrase("No question was asked.")
        return
    counts = {answer: sum(one.answer == answer for one in record.verdicts) for answer in _ANSWERS}
    yield Phrase(f"Of {show_count(len(record.verdicts), 'question')} about ")
    yield Phrase(plain(str(record.model["name"]), 60), strong=True)
    yield Phrase(" on ")
    yield Phrase(plain(str(record.task.get("name", "its task")), 60), strong=True)
    said = {"yes": "answered yes", "no": "answered no", "undecided": "undecided", "not measured": "not measured"}
    parts = [f"{counts[answer]} {said[answer]}" for answer in _ANSWERS if counts[answer]]
    yield Phrase(": " + ", ".join(parts) + ".")


def _notices(record: EvidenceRecord) -> Iterator[Notice]:
    for text in record.notes[:_MAX_NOTICES]:
        yield Notice(level="note", title="Note", text=shorten(visible_text(text), 2000))
    if len(record.notes) > _MAX_NOTICES:
        more = len(record.notes) - _MAX_NOTICES
        yield Notice(level="note", title="Note", text=f"{more} more notes are in the JSON document.")
    failed = [plain(one.name.replace("_", " "), 32) for one in record.controls if one.passed is False]
    if failed:
        text = (
            f"Not as expected: {', '.join(failed[:8])}. What is found where nothing should be found may be no finding "
            "where something should."
        )
        yield Notice(level="warning", title="Controls", text=text)


def _tiles(record: EvidenceRecord) -> Iterator[Tile]:
    """The particle, the most vulnerable layer, and how far the particle goes with the causal effect."""
    reading = next((one for one in record.particles if one.lens == "logit"), None)
    if reading is not None:
        interval = "no interval" if reading.interval is None else f"interval {show_interval(reading.interval)}"
        yield Tile(
            label="Task particle",
            value="none" if reading.layer is None else str(reading.layer),
            unit="" if reading.layer is None else f"of {record.model['n_layers']} layers",
            details=(
                f"{criterion_words(reading.criterion)}, {lens_name(reading.lens)}",
                f"{interval}, found in {show_share(reading.share_found)} of the prompts",
            ),
        )
    effect = next((one for one in record.effects if one.rows == TASK), None)
    if effect is not None:
        told = "stands out" if effect.is_clear else f"not clear: {show_count(len(effect.contenders), 'contender')}"
        yield Tile(
            label=f"Most vulnerable layer, {plain(effect.site, 20)}",
            value=str(effect.layer) if effect.is_clear else "none",
            unit=f"of {record.model['n_layers']} layers" if effect.is_clear else "stands out",
            details=(told,) if effect.is_clear else (f"largest at {effect.layer}", told),
        )
    compared = next((one for one in record.agreements if one.units == PROMPTS and one.value is not None), None)
    if compared is not None and compared.value is not None:
        yield Tile(
            label=f"{plain(compared.one, 30)} and {plain(compared.other, 30)}",
            value=show_number(compared.value, digits=2, sign=True),
            unit=plain(compared.method, 12),
            details=(
                _ends(compared.interval),
                f"p {p_words(compared.p)}, Holm {p_words(compared.p_holm)}, n = {compared.n_units:,}",
            ),
        )


def _ends(interval: Interval | None) -> str:
    if interval is None:
        return "no interval"
    return f"interval {show_number(interval.low, digits=2)} to {show_number(interval.high, digits=2)}"
