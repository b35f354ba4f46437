"""Verdicts on the vulnerable layer: mask, importance, controls, dose, dominant dimensions, running text."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer.evidence import Agreement, Control, EvidenceRecord, SiteEffect, Verdict
from layertracer.measures import Correlation
from layertracer.validation._findings.agreements import LAYERS, TASK_AND_TEXT, js_name
from layertracer.validation._findings.controls import DIRECTIONS
from layertracer.validation._verdicts.extras import Extras
from layertracer.validation._verdicts.wording import correlation_words, listed, span, unmeasured, verdict

_HALF = 0.5
_MOST_P = 0.05
PRIMARY = {
    "mixer_output": "zero_mixer_js_bits",
    "mlp_output": "zero_mlp_js_bits",
    "block_output": "skip_js_bits",
}
"""The measure that takes away the whole of what is masked at a site."""


def _effects(record: EvidenceRecord, rows: str = "task") -> list[SiteEffect]:
    return [one for one in record.effects if one.rows == rows]


def effect_words(effect: SiteEffect) -> str:
    """What is found at a site."""
    if effect.is_clear:
        return f"at {effect.site} layer {effect.layer} stands out"
    n = len(effect.contenders)
    return f"at {effect.site} none stands out ({n} contenders from layer {effect.contenders[0]} on)"


def judge_mask(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether random directions of equal norm find the layer that masks find."""
    first, effects = _effects(record)[0], _effects(record)
    said = listed([effect_words(effect) for effect in effects])
    control = [one for one in record.controls if one.name == DIRECTIONS]
    at_site = next((one for one in control if one.measured == js_name(first.site)), None)
    sites = f"Over {record.n_prompts} prompts {said}."
    if at_site is None:
        reason = extras.why_not.get(DIRECTIONS, "Random directions of equal norm were not asked for.")
        return verdict("mask", "not measured", f"{reason} {sites}")
    answer = "no" if at_site.passed is False else "undecided"
    if at_site.passed and first.is_clear and at_site.layer == first.layer:
        answer = "yes"
    others = [one.sentence for one in control if one is not at_site]
    return verdict("mask", answer, f"{at_site.sentence} {sites}", " ".join(others))


def judge_importance(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether the measure that takes away all of what is masked at the first site orders the layers likewise."""
    found = [one for one in record.agreements if one.family == LAYERS]
    if not found:
        return unmeasured("importance", extras.why_not.get("importance", "It was not asked for."))
    primary = [one for one in found if PRIMARY.get(one.one.removeprefix("js_bits at ")) == one.other]
    known = [one for one in found if one.value is not None]
    above = sum(one.value is not None and one.value > _HALF for one in known)
    said = listed([f"{one.one} with {one.other} {correlation_words(one)}" for one in primary]) if primary else "none"
    answer = _agrees(primary[0]) if primary else "undecided"
    n_layers = int(record.model["n_layers"])
    least = f"With {n_layers} layers no p-value is below {1 / n_layers:.2g}"
    marked = sum(one.p_holm is not None and one.p_holm <= _MOST_P for one in found)
    return verdict(
        "importance",
        answer,
        f"Rank correlations over layers: {said}. Of all {len(known)} pairs of a site and a measure, {above} are above "
        f"0.5, and {marked} stay below p 0.05 after Holm's correction.",
        f"The first of these decides. {least}, before correction.",
    )


def _agrees(found: Agreement) -> str:
    """Whether two orders of layers agree, in the sample of prompts and beyond what neighbouring layers explain."""
    if found.value is None or found.interval is None:
        return "undecided"
    if found.interval.high < _HALF:
        return "no"
    return "yes" if found.interval.low > 0 and _is_beyond_chance(found) else "undecided"


def _is_beyond_chance(found: Agreement | Correlation) -> bool:
    """Whether layers agree more than curves do that are merely smooth."""
    return found.p is not None and found.p <= _MOST_P


def judge_controls(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether every control came out as expected; random directions have a question of their own."""
    controls: Sequence[Control] = [one for one in record.controls if one.name != DIRECTIONS]
    if not controls:
        return unmeasured("controls", extras.why_not.get("controls", "No control was measured."))
    passed, failed, open_ones = ([one for one in controls if one.passed is asked] for asked in (True, False, None))
    answer = "no" if failed else "undecided" if open_ones else "yes"
    telling = failed or open_ones or passed
    return verdict(
        "controls",
        answer,
        f"{len(passed)} of {len(controls)} come out as expected, {len(failed)} do not, of {len(open_ones)} it "
        "cannot be told. " + " ".join(one.sentence for one in telling[:3]),
        " ".join(one.sentence for one in controls if one not in telling[:3]),
    )


def judge_dose(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether layers keep their order from the smallest dose to the largest, at the first site."""
    site = next((effect.site for effect in _effects(record) if effect.site in extras.doses), None)
    if site is None or not extras.doses[site]:
        return unmeasured("dose", extras.why_not.get("doses", "It was not asked for."))
    found = extras.doses[site]
    known = [one.interval for one in found.values() if one.interval is not None]
    answer = "undecided"
    if any(one.high < _HALF for one in known):
        answer = "no"
    elif all(
        one.interval is not None and one.interval.low > _HALF and _is_beyond_chance(one) for one in found.values()
    ):
        answer = "yes"
    dose = next(one for one in record.doses if one.site == site)
    largest = zip(dose.fractions, dose.layer, strict=True)
    layers = listed([f"{layer} at {100 * share:.0f} %" for share, layer in largest])
    said = listed([f"{100 * fraction:.0f} % {correlation_words(one)}" for fraction, one in found.items()])
    return verdict(
        "dose",
        answer,
        f"At {site}, the layers' rank correlation with those at {100 * dose.reference:.0f} %: {said}. The largest "
        f"effect is at layer {layers}.",
    )


def judge_dominant(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether most of the JS is gone where the dominant dimensions are never masked."""
    if not extras.dominant:
        return unmeasured("dominant", extras.why_not.get("doses", "It was not asked for."))
    site = "block_output" if "block_output" in extras.dominant else next(iter(extras.dominant))
    doses = {one.site: one for one in record.doses}
    said = []
    for name, share in extras.dominant.items():
        told = "no interval" if share.interval is None else f"95 % interval {span(share.interval, sign=True)}"
        said.append(f"at {name} {share.value:+.2f} ({told}; {doses[name].n_dominant} dimensions of a layer)")
    held = extras.dominant[site].interval
    answer = "undecided" if held is None else "yes" if held.low > _HALF else "no" if held.high < _HALF else "undecided"
    n = extras.dominant[site].n_prompts
    return verdict(
        "dominant",
        answer,
        f"Share of JS that is gone where they are never masked, summed over layers, over {n} prompts: {listed(said)}.",
        "Dominant: the one in a hundred dimensions of the largest root mean square, layer by layer.",
    )


def judge_running_text(record: EvidenceRecord, extras: Extras) -> Verdict:
    """Whether layers have the same order of JS on running text, at the first site."""
    found = {one.one: one for one in record.agreements if one.family == TASK_AND_TEXT}
    on_text = {effect.site: effect for effect in _effects(record, "text")}
    if not found:
        return unmeasured("running_text", extras.why_not.get("text", "It was not asked for."))
    first = next(effect for effect in _effects(record) if effect.site in on_text)
    agreement = found[f"{js_name(first.site)} on the task"]
    answer = _agrees(agreement)
    if answer == "yes" and first.is_clear and on_text[first.site].is_clear and first.layer != on_text[first.site].layer:
        answer = "undecided"
    said = listed([f"{one.removesuffix(' on the task')} {correlation_words(of)}" for one, of in found.items()])
    there = listed([effect_words(effect) for effect in on_text.values()])
    n = len(on_text[first.site].js_bits)
    return verdict(
        "running_text",
        answer,
        f"Rank correlation over layers of JS on the task with JS on {n} passages: {said}. On text {there}.",
        "The first of these decides.",
    )
