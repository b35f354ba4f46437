"""Verdicts on the task particle: threshold, lens, false positives, causal tracing, prompts, templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layertracer._types import Interval
from layertracer.evidence import Agreement, EvidenceRecord, ParticleReading, Verdict
from layertracer.measures import SURE_UNITS, wilson
from layertracer.validation._findings.causal_depth import ARRIVAL, DEFINITIONS, PEAK
from layertracer.validation._verdicts.extras import Extras
from layertracer.validation._verdicts.wording import (
    correlation_words,
    layer_words,
    listed,
    span,
    unmeasured,
    verdict,
)

PAPER = 0.68
"""Pearson's correlation of the particle with causal tracing that the paper reports."""
LOGIT, RISE = "logit", "rise"
_OF_ONSET = (RISE, "first_top1", "half_max", "change_point")
"""Criteria that look for an onset; Ratio and AbsRatio look for the largest step relative to what is there."""
_MOST_FALSE = 0.05
_NEAR = 1.0
_HALF = 0.5


def _readings(
    record: EvidenceRecord, *, lens: str | None = None, criterion: str | None = None
) -> list[ParticleReading]:
    return [one for one in record.particles if lens in (None, one.lens) and criterion in (None, one.criterion)]


def _compare(readings: Sequence[ParticleReading]) -> str:
    """Whether particles are at one place: "yes", "no", or "undecided"; of layers that differ by at most one."""
    if any(one.layer is None for one in readings):
        return "undecided"
    intervals = [one.interval for one in readings]
    known = [one for one in intervals if one is not None]
    for one in known:
        for other in known:
            if one.low - other.high > _NEAR:
                return "no"
    layers = [one.layer for one in readings if one.layer is not None]
    if len(known) < len(readings) or max(layers) - min(layers) > _NEAR:
        return "undecided"
    reach = max(one.high for one in known) - min(one.low for one in known)
    return "yes" if reach <= 2 * _NEAR else "undecided"


def judge_threshold(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether criteria name one layer."""
    readings = [one for one in _readings(record, lens=LOGIT) if one.criterion in _OF_ONSET]
    others = [one for one in _readings(record, lens=LOGIT) if one.criterion not in _OF_ONSET]
    said = listed([f"{one.criterion} {layer_words(one)}" for one in readings])
    answer = _compare(readings)
    swept = extras.sensitivity
    moved = ""
    if swept is not None and swept.spread is not None:
        values = f"{min(swept.values):g} to {max(swept.values):g}"
        moved = f" Rise moves by {swept.spread} layers for thresholds from {values}."
        answer = "no" if answer == "yes" and swept.spread > _NEAR else answer
    aside = listed([f"{one.criterion} {layer_words(one)}" for one in others])
    return verdict(
        "threshold",
        answer,
        f"Through the logit lens, over {record.n_prompts} prompts: {said}.{moved}",
        f"Criteria that look for the largest step relative to what is there: {aside}." if others else "",
    )


def judge_lens(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether lenses agree on Rise's layer."""
    readings = _readings(record, criterion=RISE)
    if len(readings) < 2:
        return unmeasured("lens", extras.why_not.get("lens", "The logit lens alone was read: ask for a fitted lens."))
    said = listed([f"{one.lens} {layer_words(one)}" for one in readings])
    weak = [one.lens for one in record.lenses if one.lens != LOGIT and len(one.fallback) > 0]
    caveat = f"At some layers no better than the logit lens, which is read there: {listed(weak)}." if weak else ""
    return verdict("lens", _compare(readings), f"Rise over {record.n_prompts} prompts: {said}.", caveat)


def judge_false_positives(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether Rise fires on less than 5 % of random targets."""
    rise = next(iter(_readings(record, lens=LOGIT, criterion=RISE)))
    kinds = [
        ("other prompts' answers", rise.false_positive_rate, rise.false_positive_interval, rise.n_random),
        ("random tokens", rise.random_token_rate, rise.random_token_interval, rise.n_random_tokens),
    ]
    known = [(words, rate, interval, n) for words, rate, interval, n in kinds if interval is not None]
    if not known:
        return unmeasured("false_positives", extras.why_not.get("readings", "No random target was read."))
    said = listed(
        [f"on {100 * rate:.1f} % of {n} {words} (95 % interval {_percent(held)})" for words, rate, held, n in known]
    )
    lows, highs = [held.low for *_, held, _ in known], [held.high for *_, held, _ in known]
    answer = "no" if max(lows) > _MOST_FALSE else "yes" if max(highs) < _MOST_FALSE else "undecided"
    others = listed(
        [
            f"{one.criterion} {100 * one.false_positive_rate:.0f} % and {100 * one.random_token_rate:.0f} %"
            for one in _readings(record, lens=LOGIT)
            if one.criterion != RISE and one.random_token_interval is not None
        ]
        or ["none"]
    )
    return verdict(
        "false_positives",
        answer,
        f"Rise at its defaults fires {said}, of {record.n_prompts} prompts.",
        f"Other criteria, on both kinds of targets: {others}.",
    )


def _percent(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def judge_causal(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether the particle correlates with the depth of the causal effect as the paper says."""
    del extras
    if record.causal is None:
        return unmeasured("causal", record.causal_reason)
    found = {one.other: one for one in _causal(record, "pearson")}
    first = found.get(ARRIVAL) or found.get(PEAK)
    if first is None:
        return unmeasured("causal", "No prompt has a causal effect with a depth.")
    others = [f"with {name.partition(' (')[2][:-1]} {correlation_words(one)}" for name, one in found.items()]
    spearman = {one.other: one for one in _causal(record, "spearman")}.get(first.other)
    caveat = f"The depth: {DEFINITIONS[first.other]}."
    if spearman is not None:
        caveat += f" Spearman's: {correlation_words(spearman)}."
    if len(others) > 1:
        caveat += f" Pearson's by depth: {listed(others)}."
    return verdict("causal", _claim(first), _said_of_claim(first), caveat)


def _causal(record: EvidenceRecord, method: str) -> Iterator[Agreement]:
    name = f"particle ({LOGIT}, {RISE})"
    return (one for one in record.agreements if one.one == name and one.method == method and one.units == "prompts")


def _claim(found: Agreement) -> str:
    """Whether an interval says that the paper's correlation holds here."""
    if found.value is None or found.interval is None:
        return "undecided"
    low, high = found.interval.low, found.interval.high
    if high < PAPER:
        return "no"
    return "yes" if low > 0 else "undecided"


def _said_of_claim(found: Agreement) -> str:
    said = f"Pearson's correlation of Rise's layer with the arrival of the causal effect is {correlation_words(found)}"
    if found.value is None or found.interval is None:
        return f"{said}: whether 0.68 would fit cannot be told."
    lies = "lies in" if found.interval.low <= PAPER <= found.interval.high else "does not lie in"
    zero = "holds" if found.interval.low <= 0 <= found.interval.high else "does not hold"
    return f"{said}; the paper's 0.68 {lies} the interval, which {zero} 0."


def judge_prompts(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether the particle is placed within a layer."""
    del extras
    rise = next(iter(_readings(record, lens=LOGIT, criterion=RISE)))
    needed = next((one for one in record.prompts_needed if one.of == f"particle ({LOGIT}, {RISE})"), None)
    said = f"With {record.n_prompts} prompts Rise names {layer_words(rise)}"
    note = "" if needed is None else needed.note
    if needed is not None and needed.n_prompts is not None:
        said += f"; ±1 layer takes about {needed.n_prompts} prompts"
    if rise.layer is None or rise.interval is None:
        return verdict("prompts", "undecided", f"{said}.", note)
    half = max(rise.interval.high - rise.layer, rise.layer - rise.interval.low)
    few = record.n_prompts < SURE_UNITS
    # The one interval is narrow enough, and those of fewer prompts say that it need not have been.
    is_lucky = half <= _NEAR and needed is not None and (needed.n_prompts or 0) > record.n_prompts
    answer = "undecided" if few or is_lucky else "yes" if half <= _NEAR else "no"
    return verdict("prompts", answer, f"{said}.", note)


def judge_templates(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether the particle stays within a layer behind other demonstrations, in other templates."""
    layers = extras.crossed_layers
    if not layers:
        return unmeasured("templates", extras.why_not.get("crossed", "It was not asked for."))
    rise = next(iter(_readings(record, lens=LOGIT, criterion=RISE)))
    found = [layer for layer in layers if layer is not None]
    shares = next((one for one in record.variance if one.of.startswith("particle")), None)
    middle = sorted(found)[len(found) // 2] if found else rise.layer
    near = sum(middle is not None and abs(layer - middle) <= _NEAR for layer in found)
    held = wilson(near, len(layers))
    answer = "yes" if held.low > _HALF else "no" if held.high < _HALF else "undecided"
    spread = f"layers {min(found)} to {max(found)}" if found else "no layer"
    sources = (
        ""
        if shares is None or not shares.shares
        else "; shares of its variance: "
        + listed([f"{source} {100 * share:.0f} %" for source, share in shares.shares.items()])
    )
    levels = "" if shares is None else shares.note
    return verdict(
        "templates",
        answer,
        f"Behind {len(layers)} combinations of demonstrations and templates Rise names {spread}; in {near} it is "
        f"within ±1 of layer {middle}, of the same queries (share {near / len(layers):.2f}, 95 % interval "
        f"{span(held)}){sources}.",
        levels,
    )
