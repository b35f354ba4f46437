"""How evidence is said: answers, lenses, criteria, sites, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layertracer.evidence import Agreement, Control, EvidenceRecord, Verdict
from layertracer.reports._values.numbers import show_estimate, show_number
from layertracer.reports._values.visible import plain, shorten, visible_text

TASK, PROMPTS = "task", "prompts"
SIGNIFICANT = 0.05
"""A p-value after Holm's correction below which an agreement is marked."""

_MOST_WORDS = 2000

SIGNS: Mapping[str, str] = {"yes": "●", "no": "○", "undecided": "◐", "not measured": "–"}
"""A shape for each answer, told apart without colour. No shape is good or bad: that depends on the question."""

SHORT: Mapping[str, str] = {
    "threshold": "Threshold",
    "lens": "Lens",
    "false_positives": "False positives",
    "causal": "Causal tracing",
    "mask": "Mask",
    "importance": "Importance",
    "controls": "Controls",
    "dose": "Dose",
    "dominant": "Dominant dimensions",
    "running_text": "Running text",
    "prompts": "Prompts",
    "templates": "Templates",
}
"""Questions that have figures, in the order in which they are shown; what each is called in a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerLine:
    """A question with its answer.

    Attributes:
        section: Where on the page it is shown.
        short: What the question is called in a line.
        asked: The question.
        answer: The answer in a word.
        sign: Its shape.
        sentence: The answer with its numbers.
        caveat: What must be said beside it; "" where nothing must.
    """

    section: str
    short: str
    asked: str
    answer: str
    sign: str
    sentence: str
    caveat: str


def answer_line(verdict: Verdict, number: int) -> AnswerLine:
    """A verdict as it is shown.

    Args:
        verdict: The verdict.
        number: Its place among all, for the name of its section where the question is none that this version knows.
    """
    is_known = verdict.question in SHORT
    return AnswerLine(
        section=verdict.question.replace("_", "-") if is_known else f"question-{number}",
        short=SHORT.get(verdict.question) or plain(verdict.question.replace("_", " ").capitalize(), 24),
        asked=plain(verdict.asked, 300),
        answer=verdict.answer,
        sign=SIGNS[verdict.answer],
        sentence=shorten(visible_text(verdict.sentence), _MOST_WORDS),
        caveat=shorten(visible_text(verdict.caveat), _MOST_WORDS),
    )


def lens_name(lens: str) -> str:
    """A lens in words.

    Example:
        >>> lens_name("logit"), lens_name("logit_lens_2")
        ('logit lens', 'logit lens 2 lens')
    """
    return f"{plain(lens.replace('_', ' '), 20)} lens"


def criterion_words(criterion: str) -> str:
    """A criterion in words."""
    return plain(criterion.replace("_", " "), 24)


def rows_words(rows: str) -> str:
    """What something was measured on."""
    return "on the task" if rows == TASK else "on running text"


def lenses_of(record: EvidenceRecord) -> list[str]:
    """Every lens that something was read with, the logit lens first, the others in the order of the record."""
    named = [*(one.lens for one in record.particles), *(one.lens for one in record.lenses), *sorted(record.target_prob)]
    return sorted(dict.fromkeys(named), key=lambda lens: lens != "logit")


def colors_of(names: Iterable[str]) -> dict[str, str]:
    """A colour of the page for each name, in their order; from the ninth on they come again."""
    return {name: f"var(--model-{number % 8})" for number, name in enumerate(names)}


def passed_words(control: Control) -> str:
    """Whether a control came out as it should."""
    return "cannot be told" if control.passed is None else "as expected" if control.passed else "NOT as expected"


def p_words(p: float | None) -> str:
    """A p-value; a dash where there is none.

    Example:
        >>> p_words(0.0312), p_words(0.00002), p_words(None)
        ('0.031', '< 0.001', '–')
    """
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else show_number(p, digits=2)


def agreement_words(agreement: Agreement) -> str:
    """A correlation with its interval, its p-values and what it is over."""
    if agreement.value is None:
        said = "not defined"
    else:
        p = f", p {p_words(agreement.p)}, Holm {p_words(agreement.p_holm)}" if agreement.p is not None else ""
        said = f"{show_estimate(agreement.value, agreement.interval, digits=2, sign=True)}{p}"
    note = f". {plain(agreement.note, 200)}" if agreement.note else ""
    return f"{said}, over {agreement.n_units:,} {plain(agreement.units, 20)}{note}"


def is_marked(agreement: Agreement) -> bool:
    """Whether an agreement's p-value stays small after Holm's correction."""
    return agreement.p_holm is not None and agreement.p_holm < SIGNIFICANT
