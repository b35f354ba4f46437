"""The values of a report: what page and terminal both say."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._types import MixerGroup, TaskParticle, VulnerableLayer, name_draws
from layertracer.reports._values.certificate import certificate_notice
from layertracer.reports._values.effects import EffectAnswer, effect_answers
from layertracer.reports._values.findings import Findings, find_all, find_solved, gain, js_curve, target_curve
from layertracer.reports._values.named import LensAnswer, lens_answers
from layertracer.reports._values.numbers import (
    LEAST_JS_BITS,
    least_probability,
    show_count,
    show_interval,
    show_number,
    show_ranges,
    show_share,
)
from layertracer.reports._values.parts import Curve, Notice, Phrase, Strip, Table, Tile
from layertracer.reports._values.sentence import summary_phrases
from layertracer.reports._values.visible import shorten, visible_line, visible_text
from layertracer.reports._values.wording import (
    anatomy_facts,
    contenders_clause,
    criterion_kind,
    edge_clause,
    is_sole,
    missing_part,
    model_name,
    no_interval_clause,
    other_sites_advice,
    site_name,
    task_name,
    vulnerable_label,
)
from layertracer.runs import TraceRecord

_MAX_WARNINGS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything that is said about a trace, drawn by the page and by the terminal."""

    model: str
    task: str
    anatomy: tuple[str, ...]
    sentence: tuple[Phrase, ...]
    notices: tuple[Notice, ...]
    tiles: tuple[Tile, ...]
    findings: Findings
    comparison: Table | None
    by_mixer: Table | None
    target: Curve
    js: Curve
    strips: tuple[Strip, Strip]
    effects: tuple[EffectAnswer, ...]
    lenses: tuple[LensAnswer, ...]
    sensitivity: str
    surety: tuple[str, ...]
    advice: str | None
    checks: Table
    self_check: str
    audit: str


def build_overview(record: TraceRecord) -> Overview:
    """The values of a report on `record`."""
    findings, solved = find_all(record), find_solved(record)
    target, js = target_curve(record), js_curve(record)
    return Overview(
        model=model_name(record),
        task=task_name(record.spec),
        anatomy=anatomy_facts(record.model),
        sentence=summary_phrases(record),
        notices=_notices(record),
        tiles=_tiles(record, findings) if findings.particle else (),
        findings=findings,
        comparison=_compare(findings, solved) if solved else None,
        by_mixer=_tabulate_mixers(record, findings) if len(findings.by_mixer) > 1 else None,
        target=target,
        js=js,
        strips=_strips(record, findings, js),
        effects=effect_answers(record),
        lenses=lens_answers(record),
        sensitivity=describe_sensitivity(record),
        surety=_describe_surety(record, findings),
        advice=_advise(record, findings),
        checks=_checks(record),
        self_check=_describe_self_check(record),
        audit=describe_audit(record),
    )


def _notices(record: TraceRecord) -> tuple[Notice, ...]:
    notices = [] if record.certificate is None else [certificate_notice(record.certificate, record.spec)]
    finished = f"{record.n_prompts:,} of {show_count(record.n_requested, 'prompt')}"
    if record.status == "failed":
        error = record.error or {}
        text = f"{error.get('type', 'Error')}: {error.get('message', 'no message was kept')}"
        title = f"This run failed after {finished}"
        notices.append(Notice(level="failure", title=title, text=shorten(visible_text(shorten(text, 2000)), 4000)))
    if record.status == "interrupted":
        text = "Everything below is computed from the prompts that were finished."
        notices.append(Notice(level="warning", title=f"This run was interrupted after {finished}", text=text))
    if not record.self_check.passed:
        failed = ", ".join(visible_line(check.name) for check in record.self_check.checks if not check.passed)
        text = "Numbers that rest on it may be wrong; the table of checks below says by how much."
        notices.append(Notice(level="failure", title=f"Self-check failed: {failed}", text=text))
    notices += [Notice(level="note", title="Note", text=_notice_text(note)) for note in record.self_check.notes]
    if record.layers_without_site:
        notices.append(_missing_notice(record))
    notices += [
        Notice(level="warning", title="Warning", text=_notice_text(text)) for text in record.warnings[:_MAX_WARNINGS]
    ]
    if len(record.warnings) > _MAX_WARNINGS:
        text = f"{len(record.warnings) - _MAX_WARNINGS:,} more warnings are in the run folder."
        notices.append(Notice(level="warning", title="Warning", text=text))
    return tuple(notices)


def _missing_notice(record: TraceRecord) -> Notice:
    """Which layers have no JS divergence, and why."""
    missing, part = record.layers_without_site, missing_part(record.spec)
    which = f"Layer {missing[0]} has" if len(missing) == 1 else f"Layers {show_ranges(missing)} have"
    text = (
        f"{which} {part}: there is nothing to perturb, and no JS divergence. Means are over the other "
        f"{show_count(record.n_layers - len(missing), 'layer')}."
    )
    return Notice(level="note", title="Note", text=text)


def _notice_text(text: str) -> str:
    return shorten(visible_text(shorten(text, 1000)), 2000)


def _tiles(record: TraceRecord, findings: Findings) -> tuple[Tile, ...]:
    tiles = []
    if findings.particle is not None:
        tiles.append(_particle_tile(record, findings.particle))
    if findings.vulnerable is not None:
        tiles += [_vulnerable_tile(record, findings.vulnerable), _js_tile(record, findings.vulnerable)]
    return (*tiles, *_answer_tiles(record))


def _answer_tiles(record: TraceRecord) -> list[Tile]:
    """How many answers the model gives whole; where that is not known, with how many it begins."""
    solved = [prompt.solved for prompt in record.prompts if prompt.solved is not None]
    begins = [prompt.begins for prompt in record.prompts if prompt.begins is not None]
    tiles = []
    if record.solved_share is not None:
        of = f"{sum(solved):,} of {show_count(len(solved), 'prompt')}"
        more = f"; begins with it in {sum(begins):,}" if begins and sum(begins) != sum(solved) else ""
        details = (of, f"gives the whole answer{more}")
        tiles.append(Tile(label="Solved", value=f"{100 * record.solved_share:.0f}", unit="%", details=details))
    elif record.begins_share is not None:
        details = (f"{sum(begins):,} of {show_count(len(begins), 'prompt')}", "top token begins the answer")
        value = f"{100 * record.begins_share:.0f}"
        tiles.append(Tile(label="Begins with the answer", value=value, unit="%", details=details))
    return tiles


def _particle_tile(record: TraceRecord, particle: TaskParticle) -> Tile:
    found = f"found on {show_share(particle.share_found)} of {show_count(record.n_prompts, 'prompt')}"
    of = f"of 0–{record.n_layers - 1}"
    if particle.layer is None:
        return Tile(label="Task particle", value="none", unit=of, details=("in the mean curve", found))
    interval = particle.interval
    stated = (
        f"{100 * interval.level:g} % interval {show_interval(interval)}" if interval else no_interval_clause(particle)
    )
    return Tile(
        label="Task particle",
        value=str(particle.layer),
        unit=of,
        details=(stated, found),
    )


def _vulnerable_tile(record: TraceRecord, vulnerable: VulnerableLayer) -> Tile:
    stable = f"{show_share(vulnerable.stability)} of resamples"
    of = f"of 0–{record.n_layers - 1}{edge_clause(vulnerable, record.n_layers)}"
    if record.n_layers == 1 or is_sole(record):
        which = "the only layer" if record.n_layers == 1 else "the only layer that was perturbed"
        return Tile(label="Vulnerable layer", value=str(vulnerable.layer), unit=of, details=(which,))
    if vulnerable.is_clear and vulnerable.interval is not None:
        details = (f"the only contender at {100 * vulnerable.interval.level:g} %", f"stable in {stable}")
        return Tile(label="Vulnerable layer", value=str(vulnerable.layer), unit=of, details=details)
    details = (contenders_clause(vulnerable, record.n_layers), f"layer {vulnerable.layer} leads in {stable}")
    return Tile(label="Vulnerable layer", value="none clear", unit=f"of 0–{record.n_layers - 1}", details=details)


def _js_tile(record: TraceRecord, vulnerable: VulnerableLayer) -> Tile:
    value = vulnerable.mean_js_bits
    shown = f"{value:.2f}" if value >= 0.01 else show_number(value, digits=2)
    where = f"mean at layer {vulnerable.layer}{edge_clause(vulnerable, record.n_layers)}"
    details = (where, f"{site_name(record.spec)} perturbed")
    return Tile(label="Largest JS divergence", value=shown, unit="bits", details=details)


def _compare(findings: Findings, solved: Findings) -> Table:
    rows = [_finding_row("All prompts", findings), _finding_row("Solved prompts", solved)]
    columns = ("", "Prompts", "Task particle", "Interval", "Found on", "Vulnerable layer", "Contenders", "Stable in")
    return Table(columns=columns, rows=tuple(rows), numeric=frozenset(range(1, 8)))


def _finding_row(name: str, findings: Findings) -> tuple[str, ...]:
    row = [name, f"{findings.n_prompts:,}"]
    particle, vulnerable = findings.particle, findings.vulnerable
    if particle is None:
        row += ["–"] * 3
    else:
        layer = "none" if particle.layer is None else str(particle.layer)
        row += [layer, show_interval(particle.interval), show_share(particle.share_found)]
    if vulnerable is None:
        row += ["–"] * 3
    else:
        layer = str(vulnerable.layer) if vulnerable.is_clear else f"none clear (largest {vulnerable.layer})"
        row += [layer, show_ranges(vulnerable.contenders), show_share(vulnerable.stability)]
    return tuple(row)


def _tabulate_mixers(record: TraceRecord, findings: Findings) -> Table:
    """One row per kind of mixer."""
    columns = ("Mixer", "Layers", "Mean depth", "Mean JS, bits", "Interval", "Largest at", "Gain per layer")
    return Table(
        columns=columns,
        rows=tuple(_mixer_row(record, group) for group in findings.by_mixer),
        numeric=frozenset(range(1, 7)),
    )


def _mixer_row(record: TraceRecord, group: MixerGroup) -> tuple[str, ...]:
    layers, gain_prob = f"{group.n_layers:,}", show_number(group.mean_gain_prob, digits=2, sign=True)
    row = [shorten(visible_line(group.mixer), 40), layers, f"{group.mean_depth:.2f}"]
    if group.mean_js_bits is None or group.max_js_bits is None:
        return (*row, missing_part(record.spec), "–", "–", gain_prob)
    if group.n_perturbed < group.n_layers:
        row[1] = f"{group.n_perturbed:,} of {layers}"
    interval = group.interval
    ends = ("none",) if interval is None else (show_number(end, digits=2) for end in (interval.low, interval.high))
    worst = f"layer {group.vulnerable_layer} ({show_number(group.max_js_bits, digits=2)})"
    return (*row, show_number(group.mean_js_bits), " to ".join(ends), worst, gain_prob)


def _strips(record: TraceRecord, findings: Findings, js: Curve) -> tuple[Strip, Strip]:
    particle, vulnerable = findings.particle, findings.vulnerable
    return (
        Strip(
            title="Gain in target probability",
            unit="probability",
            values=gain(record),
            kind="signed",
            marked=particle.layer if particle else None,
            mark_label=None if particle is None or particle.layer is None else f"task particle {particle.layer}",
            least=least_probability(record.spec),
        ),
        Strip(
            title=f"JS divergence at the {site_name(record.spec)}",
            unit="bits",
            values=js.mean,
            kind="magnitude",
            marked=vulnerable.layer if vulnerable else None,
            mark_label=None if vulnerable is None else vulnerable_label(vulnerable),
            least=LEAST_JS_BITS,
            missing=f"{missing_part(record.spec)} here" if record.layers_without_site else None,
        ),
    )


def describe_sensitivity(record: TraceRecord) -> str:
    """How far the task particle moves with the parameter of its criterion, in a sentence."""
    if record.n_prompts == 0:
        return "No prompt was finished."
    sweep = record.sensitivity
    if sweep.parameter is None:
        return f"{criterion_kind(record.spec.onset)} has no parameter to vary."
    thresholds = f"{sweep.parameter} {sweep.values[0]:g} to {sweep.values[-1]:g}"
    layers = set(sweep.layers)
    found = sorted(layer for layer in layers if layer is not None)
    if not found:
        return f"No value finds a layer ({thresholds})."
    somewhere_none = ", and none at some values" if None in layers else ""
    if sweep.note is not None and len(layers) == 1:
        return f"Layer {found[0]} throughout ({thresholds}), {sweep.note}."
    more = "" if sweep.note is None else f" Layer {record.task_particle.layer}: {sweep.note}."
    if len(found) == 1:
        return f"Layer {found[0]} at every value that finds one ({thresholds}){somewhere_none}.{more}"
    return f"Layers {show_ranges(found)}: moves by {found[-1] - found[0]} over {thresholds}{somewhere_none}.{more}"


def _describe_surety(record: TraceRecord, findings: Findings) -> tuple[str, ...]:
    """What must be known of the intervals, one sentence each."""
    if findings.particle is None:
        return ()
    sentences = []
    if findings.particle.note is not None:
        sentences.append(f"Task particle: {findings.particle.note}.")
    if findings.vulnerable is not None and findings.vulnerable.note is not None:
        sentences.append(f"Vulnerable layer: {findings.vulnerable.note}.")
    if not record.sampling.has_random_draws:
        sentences.append(_over_prompts_alone(record))
    if record.spec.task.get("n_shot") and record.sampling.units is None:
        sentences.append(
            "All prompts share one set of demonstrations: intervals hold for these demonstrations only (several: "
            "--demonstration-sets 8)."
        )
    if record.sampling.units is not None:
        n_sets = len(set(record.sampling.units))
        sentences.append(f"Intervals resample {show_count(n_sets, 'set')} of demonstrations, not single prompts.")
    return tuple(sentences)


def _over_prompts_alone(record: TraceRecord) -> str:
    """Why intervals resample prompts and no draws: these are given, or each prompt's own."""
    if record.certificate is None or name_draws(record.spec.perturbation) == "given":
        return "Nothing about the perturbation is random, so intervals are over prompts alone."
    drawn, is_or_are = ("masks", "are") if record.spec.perturbation.get("kind") == "mask" else ("noise", "is")
    return (
        f"{drawn.capitalize()} {is_or_are} each prompt's own, drawn with it: intervals resample prompts, and with them "
        f"their {drawn}."
    )


def _advise(record: TraceRecord, findings: Findings) -> str | None:
    """What to ask instead where no layer stands out."""
    vulnerable = findings.vulnerable
    if vulnerable is None or vulnerable.is_clear:
        return None
    if record.n_layers == 1 or is_sole(record):
        return None
    if vulnerable.interval is None:
        return f"Take {_what_is_few(record, vulnerable)} to tell layers apart."
    return other_sites_advice(record.spec)


def _what_is_few(record: TraceRecord, vulnerable: VulnerableLayer) -> str:
    """What to take more of, by the note of a layer without interval."""
    if "draw" in (vulnerable.note or ""):
        least = max(5, record.sampling.sure_draws)
        whole = "whole partitions (--scheme partition) or " if record.spec.perturbation.get("kind") == "mask" else ""
        return f"{whole}more draws (--draws {least})"
    return "more prompts (--limit 32)" if record.sampling.units is None else "more sets (--demonstration-sets 8)"


def _checks(record: TraceRecord) -> Table:
    rows = tuple(
        (
            visible_line(check.name),
            visible_line(check.meaning),
            show_number(check.error, digits=2),
            show_number(check.tolerance, digits=2),
            visible_line(check.unit),
            "passed" if check.passed else "FAILED",
        )
        for check in record.self_check.checks
    )
    columns = ("Check", "What agrees with what", "Error", "Allowed", "Unit", "Result")
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 3}))


def _describe_self_check(record: TraceRecord) -> str:
    check = record.self_check
    n_passed = sum(one.passed for one in check.checks)
    errors = ", ".join(
        f"{visible_line(one.name)} {show_number(one.error, digits=2)} {visible_line(one.unit)}" for one in check.checks
    )
    method = "method: ladder" if record.method == "ladder" else "method: one hooked forward at a time"
    verdict = "passed" if check.passed else "FAILED"
    return f"{verdict} ({n_passed} of {len(check.checks)}; {errors or 'no checks'}; {method})"


def describe_audit(record: TraceRecord) -> str:
    """What was measured again, how far it was off, and what that bounds."""
    audit = record.audit
    if audit is None:
        return "none (this run was written before there were audits, or failed before its own)"
    if not audit.share:
        return "turned off: nothing was measured again on these prompts"
    if audit.worst_nats is None:
        return "nothing was measured again: no prompt was finished"
    worst = f"{show_number(audit.worst_nats, digits=2)} nats"
    if audit.worst_bits is not None:
        worst += f" and {show_number(audit.worst_bits, digits=2)} bits"
    cells, forwards = show_count(audit.n_cells, "number"), show_count(audit.n_forwards, "plain forward")
    found = f"{cells} measured again in {forwards}, off by at most {worst}"
    if audit.bound is None:
        return found
    drawn = f"none of {audit.n_drawn:,} drawn by the seed was wrong: fewer than {show_share(audit.bound)} of all are"
    return f"{found}; {drawn} (95 %)"
