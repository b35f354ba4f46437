"""The pages on the embedded models: every number is looked up in stored evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import layertracer as lt
from layertracer._files import write_whole
from layertracer.evidence import Agreement, EvidenceRecord

from evidence_study.plan import MINIATURES, RESULTS, ROOT, SMOLLM2, Asked

DOCS = ROOT / "docs"
PAPER = 0.68
"""Pearson's correlation of particle and causal tracing that the paper reports."""

_HEAD = """\
# Evidence: {title}

<!-- Written by `python -m evidence_study` (make evidence) from evidence_study/results; do not edit. -->

{lead}
"""
_LEADS = {
    "evidence-smollm2.md": (
        "SmolLM2-135M",
        (
            "Whether the task particle and the vulnerable layer of SmolLM2-135M are real, on few-shot antonyms and on "
            "prose. Every number is looked up in stored evidence. What is undecided is said to be."
        ),
    ),
    "evidence-miniatures.md": (
        "the trained miniatures",
        (
            "The same of the four miniatures that come with LayerTracer, on antonyms of which they know every word. "
            "They have 8 layers: too few for an order of layers to be told from chance by circular shifts (p is at "
            "least 1/8)."
        ),
    ),
}


def write_pages() -> list[Path]:
    """Write both pages from the evidence that is stored.

    Returns:
        The files; a page of which nothing is stored is left as it is.
    """
    written = []
    for name, every in (("evidence-smollm2.md", SMOLLM2), ("evidence-miniatures.md", MINIATURES)):
        found = [(asked, lt.load_evidence(RESULTS / asked.name)) for asked in every if (RESULTS / asked.name).is_dir()]
        if not found:
            continue
        title, lead = _LEADS[name]
        missing = [asked.model for asked in every if not (RESULTS / asked.name).is_dir()]
        told = f"\nNot measured yet: {', '.join(missing)}.\n" if missing else ""
        sections = [_HEAD.format(title=title, lead=lead), told, _across([one for _, one in found])]
        sections += [_one(asked, evidence) for asked, evidence in found]
        write_whole(DOCS / name, ("\n".join(part for part in sections if part).rstrip("\n") + "\n").encode())
        written.append(DOCS / name)
    return written


def is_interrupted(evidence: EvidenceRecord) -> bool:
    """Whether it was stopped by hand, so that some stages were not reached."""
    return any(note.startswith("Interrupted") for note in evidence.notes)


def _across(every: Sequence[EvidenceRecord]) -> str:
    """What referees ask first, side by side."""
    rows = [
        (
            str(one.model["name"]),
            _particle(one, "logit", "rise"),
            _particle(one, "tuned", "rise"),
            _particle(one, "jacobian", "rise"),
            _particle(one, "logit", "ratio"),
            _particle(one, "logit", "abs_ratio"),
            _claim(one),
            _dominant(one),
        )
        for one in every
    ]
    head = (
        "model",
        "Rise, logit",
        "Rise, tuned",
        "Rise, Jacobian",
        "Ratio, logit",
        "AbsRatio, logit",
        f"Pearson with causal depth (paper: {PAPER})",
        "share of JS at block_output without dominant dimensions",
    )
    return "## In short\n\n" + _table(head, rows)


def _one(asked: Asked, evidence: EvidenceRecord) -> str:
    parts = [f"## {evidence.model['name']}, {asked.task}\n", _facts(evidence), "### What was asked\n"]
    parts.append(
        _table(
            ("question", "answer", "with its numbers", "beside it"),
            [(one.asked, f"**{one.answer}**", one.sentence, one.caveat) for one in evidence.verdicts],
        )
    )
    parts += ["### Particles\n", _particles(evidence), "### Vulnerable layers\n", _effects(evidence)]
    parts += ["### Agreement over layers (Spearman)\n", _layers(evidence)]
    parts += ["### Particle and causal depth, prompt by prompt\n", _prompts(evidence)]
    parts += ["### Controls\n", _controls(evidence), "### Doses\n", _doses(evidence)]
    if evidence.lenses:
        parts += ["### Lenses, on text that none was fitted on\n", _lenses(evidence)]
    if evidence.variance:
        parts += ["### Where the spread comes from\n", _variance(evidence)]
    return "\n".join(parts)


def _facts(evidence: EvidenceRecord) -> str:
    stages = evidence.spec.get("stages", {})
    seconds = sum(stages.values())
    fidelity = ", ".join(f"{name} {value:+.2f}" for name, value in evidence.gradient_fidelity.items())
    told = f" First-order estimates against true removals: {fidelity}." if fidelity else ""
    open_ones = " Stopped by hand: some stages were not reached." if is_interrupted(evidence) else ""
    return (
        f"{evidence.n_prompts} prompts, {100 * evidence.solved_share:.0f} % solved, seed {evidence.seed}, "
        f"{seconds:.0f} s of one processor.{told}{open_ones}\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _particle(evidence: EvidenceRecord, lens: str, criterion: str) -> str:
    found = [one for one in evidence.particles if one.lens == lens and one.criterion == criterion]
    if not found:
        return "not measured"
    one = found[0]
    if one.layer is None:
        return f"none ({100 * one.share_found:.0f} % of prompts)"
    held = "no interval" if one.interval is None else f"{one.interval.low:.0f}–{one.interval.high:.0f}"
    return f"{one.layer} ({held})"


def _correlation(one: Agreement) -> str:
    if one.value is None:
        return f"not defined: {one.note}"
    held = "no interval" if one.interval is None else f"{one.interval.low:+.2f} to {one.interval.high:+.2f}"
    return f"{one.value:+.2f} ({held}), n = {one.n_units}"


def _claim(evidence: EvidenceRecord) -> str:
    found = [
        one
        for one in evidence.agreements
        if one.one == "particle (logit, rise)" and one.method == "pearson" and "arrival" in one.other
    ]
    return _correlation(found[0]) if found else "not measured"


def _dominant(evidence: EvidenceRecord) -> str:
    """JS that is left at the block's output where the dominant dimensions are never masked."""
    for dose in evidence.doses:
        if dose.site == "block_output" and dose.without_dominant is not None:
            whole = float(dose.js_bits[dose.fractions.index(dose.reference)].sum())
            left = float(dose.without_dominant.sum())
            return f"{100 * left / whole:.0f} % left ({dose.n_dominant} of a layer)" if whole > 0 else "no effect"
    return "not measured"


def _particles(evidence: EvidenceRecord) -> str:
    rows = [
        (
            one.lens,
            one.criterion,
            _particle(evidence, one.lens, one.criterion),
            f"{100 * one.share_found:.0f} %",
            _rate(one.false_positive_rate, one.n_random),
            _rate(one.random_token_rate, one.n_random_tokens),
        )
        for one in evidence.particles
    ]
    return _table(
        ("lens", "criterion", "layer", "prompts with one", "fires on other answers", "fires on random tokens"), rows
    )


def _rate(rate: float, n: int) -> str:
    return f"{100 * rate:.1f} % of {n}" if n else "not measured"


def _effects(evidence: EvidenceRecord) -> str:
    rows = [
        (
            one.rows,
            one.site,
            str(one.layer),
            "yes" if one.is_clear else f"no ({len(one.contenders)} contenders)",
            f"{float(one.js_bits.mean(axis=0)[one.layer]):.3f}",
        )
        for one in evidence.effects
    ]
    return _table(("rows", "site", "layer of the largest mean", "stands out", "JS there, bits"), rows)


def _layers(evidence: EvidenceRecord) -> str:
    rows = [
        (one.family, one.one, one.other, _correlation(one), "" if one.p is None else f"{one.p:.2g}", _holm(one))
        for one in evidence.agreements
        if one.units == "layers"
    ]
    return _table(("family", "one", "other", "correlation (95 %)", "p", "p, Holm"), rows)


def _holm(one: Agreement) -> str:
    return "" if one.p_holm is None else f"{one.p_holm:.2g}"


def _prompts(evidence: EvidenceRecord) -> str:
    rows = [
        (one.one, one.other, one.method, _correlation(one), "" if one.p is None else f"{one.p:.2g}", _holm(one))
        for one in evidence.agreements
        if one.units == "prompts"
    ]
    if not rows:
        return f"Not measured: {evidence.causal_reason}\n"
    return _table(("one", "other", "method", "correlation (95 %)", "p", "p, Holm"), rows)


def _controls(evidence: EvidenceRecord) -> str:
    said = {True: "as expected", False: "NOT as expected", None: "cannot be told"}
    rows = [(one.name, one.measured, said[one.passed], one.sentence) for one in evidence.controls]
    return _table(("control", "measured", "outcome", "in numbers"), rows)


def _doses(evidence: EvidenceRecord) -> str:
    head = ("site", "masked", "layer of the largest mean", "rank correlation with the reference")
    return _table(head, [*_each_dose(evidence)])


def _each_dose(evidence: EvidenceRecord) -> Iterator[tuple[str, str, str, str]]:
    for dose in evidence.doses:
        for fraction, layer, value in zip(dose.fractions, dose.layer, dose.rank_correlation, strict=True):
            yield dose.site, f"{100 * fraction:.0f} %", str(layer), f"{value:+.2f}"


def _lenses(evidence: EvidenceRecord) -> str:
    rows = [
        (
            one.lens,
            f"{float(one.kl_nats[1:-1].mean()):.2f}",
            f"{100 * float(one.top1[1:-1].mean()):.0f} %",
            ", ".join(map(str, one.fallback)) or "none",
            f"{one.n_tokens:,}",
        )
        for one in evidence.lenses
    ]
    return _table(("lens", "KL, nats, mean of layers", "top-1 agreement", "layers that fall back", "tokens"), rows)


def _variance(evidence: EvidenceRecord) -> str:
    rows = [
        (one.of, ", ".join(f"{source} {100 * share:.0f} %" for source, share in one.shares.items()) or "none", one.note)
        for one in evidence.variance
    ]
    return _table(("of", "shares", "note"), rows)
