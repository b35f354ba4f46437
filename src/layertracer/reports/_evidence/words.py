"""How to read each section of a report on evidence, and what holds of all evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from layertracer.evidence import CausalRecord, EvidenceRecord
from layertracer.reports._evidence.wording import SIGNIFICANT
from layertracer.reports._values.facts import facts_of, facts_of_model
from layertracer.reports._values.numbers import show_count, show_number
from layertracer.reports._values.parts import Fact
from layertracer.reports._values.visible import plain, shorten, visible_text

TITLES: Mapping[str, str] = {
    "threshold": "The task particle by criterion",
    "lens": "How well each lens reads",
    "false_positives": "Criteria on random targets",
    "causal": "Causal tracing",
    "mask": "Vulnerability by site",
    "importance": "Other measures of importance",
    "controls": "Controls",
    "dose": "How much is masked",
    "dominant": "Dominant dimensions",
    "running_text": "On running text",
    "prompts": "How many prompts",
    "templates": "Where the spread comes from",
}
"""Headings of sections where no question was asked."""

LEADS: Mapping[str, str] = {
    "threshold": "Above, the target's mean probability as each lens reads it (e: the embeddings). Below, the layer "
    "that each criterion names in the mean curve; bars are its intervals, and a criterion without a point names none.",
    "lens": "On text that no lens was fitted on. Near 0 above, and near 100 % below, a lens reads what the model will "
    "say. Where a fitted lens is no better than the logit lens, the logit lens is used (the table says where).",
    "false_positives": "Targets drawn at random, which are not the answer: what a criterion finds there is chance. "
    "Thin bars: intervals (Wilson). The dashed line is 5 %.",
    "mask": "Mean JS divergence by layer when that part of the layer is masked; a frame marks the largest.",
    "importance": "Each row has a scale of its own; a frame marks the largest.",
    "controls": "The same measurement where nothing, or something else, should be found.",
    "dose": "A line for each share of dimensions masked, darker the more; the thick one is the reference. Where "
    "layers keep their order, lines are parallel. ρ: rank correlation of the layers with those at the reference.",
    "dominant": "A few dimensions of the stream are far larger than all others. If JS falls where they are never "
    "masked, it was theirs.",
    "running_text": "The same measurement at many positions of running text, below that on the task.",
    "prompts": "Half the width of the particle's interval when only so many of the prompts are used; the dashed line "
    "is ±1 layer.",
    "templates": "A crossed design: each number was measured for all combinations, and its variance shared out. A "
    "source with few levels is known badly, whatever its share.",
    "probes": "Probes are fitted on some prompts and tested on others. The control has arbitrary labels, the same for "
    "equal words: what a probe reaches there it learns by heart (Hewitt & Liang 2019).",
}
"""How to read the figure of each section."""

MATRIX = (
    f"Correlations; * where p stays below {SIGNIFICANT:g} after Holm's correction over its family. Hover, or see the "
    "table, for intervals. An empty cell was not compared, – is not defined."
)

FOREST = (
    f"Points: correlations; bars: their intervals; filled where p stays below {SIGNIFICANT:g} after Holm's correction "
    "over its family. An interval that holds 0 says that no agreement was shown."
)

LIMITS = (
    "An answer is of this model, this task and these prompts. Others may answer otherwise.",
    "Undecided is an answer: the interval holds both. It says neither yes nor no, and more prompts may settle it.",
    "Intervals are each of one number, at 95 %. p-values are corrected over their family, and over nothing else.",
    "That two measures agree makes neither right: they can share a fault. That they do not may be for want of prompts.",
    "Masking, skipping and patching push a model where it never is. What breaks then need not be what works otherwise.",
)
"""What no evidence of this kind says."""


def causal_lead(causal: CausalRecord) -> str:
    """What was patched into what, and how many prompts count."""
    how = "the subject's embeddings with noise" if causal.corrupt == "noise" else "a contrast prompt of equal length"
    what = "clean values put back" if causal.direction == "denoise" else "corrupted values put into the clean run"
    n_used = len(causal.lengths) - len(causal.excluded)
    left_out = f"; {len(causal.excluded)} left out, see below" if causal.excluded else ""
    total = causal.total_effect_interval
    effect = "" if total is None else (
        f" The mean total effect lies in {show_number(total.low, digits=2)} to {show_number(total.high, digits=2)}."
    )  # fmt: skip
    return (
        f"Corrupted by {how}; {what}, one layer and position at a time, at {plain(causal.site, 20)}, "
        f"{show_count(causal.window, 'layer')} wide. Cells: the mean change of the answer's probability over "
        f"{show_count(n_used, 'prompt')}{left_out}.{effect}"
    )


def lead_of(question: str) -> str:
    """How to read the figure of a section; "" where there is nothing to say."""
    return LEADS.get(question, "")


def reads(record: EvidenceRecord) -> str:
    """What all rests on, in a sentence."""
    n_rows = {one.rows: len(one.js_bits) for one in record.effects}
    text = f" and {show_count(n_rows['text'], 'piece')} of running text" if "text" in n_rows else ""
    causal = "" if record.causal is None else (
        f" Of causal tracing, {show_count(record.causal.audit.n_cells, 'number')} were measured again the plain way."
    )  # fmt: skip
    return f"Measured on {show_count(record.n_prompts, 'prompt')}{text}.{causal}"


def left_out(record: EvidenceRecord) -> Iterator[str]:
    """What was not measured, and why."""
    if record.causal is None:
        yield f"Causal tracing was not measured: {shorten(visible_text(record.causal_reason), 1000)}"
    if record.quick:
        yield "This is the short form (--quick): fewer prompts, lenses, measures and controls."


def limits(record: EvidenceRecord) -> tuple[str, ...]:
    """What this evidence does not say."""
    return (*left_out(record), *LIMITS)


def next_evidence_steps(record: EvidenceRecord) -> Iterator[str]:
    """What would settle what is open."""
    if record.quick:
        yield "Ask for everything: leave out --quick."
    if any(one.answer == "undecided" for one in record.verdicts):
        yield "What is undecided may be settled by more prompts: --limit."
    if record.causal is None:
        yield "Causal tracing needs subjects or contrasts: a task whose samples have them (layertracer causal --help)."


def asked_facts(record: EvidenceRecord) -> tuple[Fact, ...]:
    """What was asked."""
    return (*facts_of({f"task {name}": value for name, value in record.task.items()}), *facts_of(record.spec))


def model_facts(record: EvidenceRecord) -> tuple[Fact, ...]:
    """The model, and where the evidence comes from."""
    return facts_of_model(record.model, record.provenance)
