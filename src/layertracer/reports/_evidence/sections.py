"""The sections of a report on evidence: a question each, its answer, its figure, its caveat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from layertracer.evidence import Agreement, EvidenceRecord
from layertracer.reports._drawing.page_sections import PageSection
from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._drawing.role_map import draw_role_map
from layertracer.reports._evidence.agreement_figures import draw_forest, draw_matrix, is_dense
from layertracer.reports._evidence.dose_figures import draw_dominant, draw_doses
from layertracer.reports._evidence.layer_figures import draw_strips, effect_strips, measure_strips
from layertracer.reports._evidence.lens_figures import draw_lens_quality, draw_probes
from layertracer.reports._evidence.overview import EvidenceOverview
from layertracer.reports._evidence.particle_figures import draw_false_positives, draw_particles
from layertracer.reports._evidence.spread_figures import draw_prompts_needed, draw_variance
from layertracer.reports._evidence.tables import (
    agreement_table,
    control_table,
    dominant_table,
    dose_table,
    effect_table,
    excluded_table,
    fidelity_table,
    importance_table,
    particle_table,
    probe_table,
    prompts_table,
    quality_table,
    role_table,
    target_table,
    variance_table,
)
from layertracer.reports._evidence.wording import PROMPTS, SHORT, AnswerLine, lens_name, rows_words
from layertracer.reports._evidence.words import FOREST, LEADS, MATRIX, TITLES, causal_lead, lead_of
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import plain, shorten, visible_text

Tables = tuple[tuple[str, Table], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What is shown of a question.

    Attributes:
        lead: How to read it.
        alt: What the figure shows, in words.
        drawing: The figure; None where there is none.
        tables: Tables that stand on the page, by their captions.
        numbers: The numbers behind the figure, folded away.
        points: Sentences that stand below the tables.
    """

    lead: str = ""
    alt: str = ""
    drawing: Figure | None = None
    tables: Tables = ()
    numbers: Table | None = None
    points: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return self.drawing is None and not self.tables


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceSection:
    """A section of a page on evidence.

    Attributes:
        part: Its words, figure and tables.
        answer: The question with its answer; None where none was asked.
    """

    part: PageSection
    answer: AnswerLine | None = None


def evidence_sections(record: EvidenceRecord, overview: EvidenceOverview) -> Iterator[EvidenceSection]:
    """The questions in their order, then what no question asks for, of which there is something."""
    answers = {one.section: one for one in overview.answers}
    for question, show in _SHOWN.items():
        section = question.replace("_", "-")
        answer, shown = answers.pop(section, None), show(record)
        if answer is not None or not shown.is_empty:
            yield _section(section, SHORT[question], TITLES[question], shown, answer)
        if question == "causal":
            yield from _from_prompt_to_prompt(record)
        if question == "importance":
            yield from _measures(record)
        if question == "running_text":
            yield from _other_families(record)
    for section, answer in answers.items():
        yield _section(section, answer.short, answer.asked, Shown(), answer)
    probes = _probes(record)
    if not probes.is_empty:
        yield _section("probes", "Probes", "What probes read off the stream", probes, None)


def _section(section: str, short: str, title: str, shown: Shown, answer: AnswerLine | None) -> EvidenceSection:
    part = PageSection(
        id=section,
        short=short,
        title=title if answer is None else answer.asked,
        lead="" if shown.is_empty else shown.lead,
        alt=shown.alt,
        drawing=shown.drawing,
        tables=shown.tables,
        numbers=shown.numbers,
        points=shown.points,
    )
    return EvidenceSection(part=part, answer=answer)


def _tables(**found: Table | None) -> Tables:
    return tuple((caption.replace("_", " "), table) for caption, table in found.items() if table is not None)


# ---------------------------------------------------------------- a question each


def _threshold(record: EvidenceRecord) -> Shown:
    table = particle_table(record)
    return Shown(
        lead=LEADS["threshold"],
        alt=f"Curves of the target's probability over layers, and {len(table.rows)} particles with their intervals.",
        drawing=draw_particles(record),
        tables=_tables(The_particle_by_lens_and_criterion=table if table.rows else None),
        numbers=target_table(record),
    )


def _lens(record: EvidenceRecord) -> Shown:
    names = ", ".join(dict.fromkeys(lens_name(one.lens) for one in record.lenses))
    return Shown(
        lead=LEADS["lens"],
        alt=f"KL from the final output and agreement of the top token, by layer, of {len(record.lenses)} lenses"
        f"{f': {names}' if names else ''}.",
        drawing=draw_lens_quality(record),
        numbers=quality_table(record),
    )


def _false_positives(record: EvidenceRecord) -> Shown:
    drawing = draw_false_positives(record)
    return Shown(
        lead=LEADS["false_positives"],
        alt="Bars of how often each criterion fires on random targets, with intervals and a line at 5 %.",
        drawing=drawing,
    )


def _causal(record: EvidenceRecord) -> Shown:
    causal = record.causal
    if causal is None:
        return Shown()
    is_used = bool(causal.by_role.n_prompts.any())
    title = "Mean indirect effect, change of probability"
    return Shown(
        lead=causal_lead(causal),
        alt=f"A map of {causal.n_layers} layers and the roles of tokens: the mean indirect effect of each.",
        drawing=draw_role_map(causal.by_role, causal.n_layers, title) if is_used else None,
        tables=_tables(Prompts_that_could_not_be_used=excluded_table(causal)),
        numbers=role_table(causal.by_role) if is_used else None,
    )


def _mask(record: EvidenceRecord) -> Shown:
    strips, table = effect_strips(record), effect_table(record)
    return Shown(
        lead=LEADS["mask"],
        alt=f"Rows of cells over layers: mean JS divergence at {len(strips)} sites.",
        drawing=draw_strips(strips, record.model["n_layers"]),
        tables=_tables(The_most_vulnerable_layer_of_each_site=table if table.rows else None),
    )


def _importance(record: EvidenceRecord) -> Shown:
    family = next(iter(_over_layers(record)), None)
    shown = _agreement(_over_layers(record)[family], "Correlation over layers") if family is not None else Shown()
    return replace(shown, tables=_tables(First_order_estimates=fidelity_table(record)))


def _controls(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=LEADS["controls"],
        tables=_tables(Controls=control_table(record)),
        points=tuple(shorten(visible_text(one.sentence), 1000) for one in record.controls),
    )


def _dose(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=LEADS["dose"],
        alt=f"Lines of JS over layers on a logarithmic axis, one for each share masked, at {len(record.doses)} sites.",
        drawing=draw_doses(record),
        tables=_tables(The_largest_layer_by_dose=dose_table(record)),
    )


def _dominant(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=LEADS["dominant"],
        alt="Lines of JS over layers: all dimensions, the dominant ones never masked, they alone masked.",
        drawing=draw_dominant(record),
        tables=_tables(With_and_without_dominant_dimensions=dominant_table(record)),
    )


def _running_text(record: EvidenceRecord) -> Shown:
    n_layers = record.model["n_layers"]
    strips = (*effect_strips(record, beside_text=True), *measure_strips(record.text_importance, rows_words("text")))
    return Shown(
        lead=LEADS["running_text"],
        alt=f"{len(strips)} rows of cells over layers, on the task and on running text.",
        drawing=draw_strips(strips, n_layers),
    )


def _prompts(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=LEADS["prompts"],
        alt="Half the width of the interval against the number of prompts, with a line at one layer.",
        drawing=draw_prompts_needed(record),
        tables=_tables(Prompts_for_an_interval_of_one_layer=prompts_table(record)),
    )


def _templates(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=LEADS["templates"],
        alt="A bar for each number, in parts by where its variance comes from.",
        drawing=draw_variance(record),
        tables=_tables(Shares_of_the_variance=variance_table(record)),
    )


_SHOWN: Mapping[str, Callable[[EvidenceRecord], Shown]] = {
    "threshold": _threshold,
    "lens": _lens,
    "false_positives": _false_positives,
    "causal": _causal,
    "mask": _mask,
    "importance": _importance,
    "controls": _controls,
    "dose": _dose,
    "dominant": _dominant,
    "running_text": _running_text,
    "prompts": _prompts,
    "templates": _templates,
}
"""What is shown of each question, in the order in which they are shown."""


# ---------------------------------------------------------------- what no question asks for


def _over_layers(record: EvidenceRecord) -> Mapping[str, list[Agreement]]:
    """Comparisons over layers by family, in their order; the first family is that of the question."""
    families: dict[str, list[Agreement]] = {}
    for one in record.agreements:
        if one.units != PROMPTS:
            families.setdefault(one.family, []).append(one)
    return families


def _agreement(chosen: list[Agreement], title: str) -> Shown:
    """A matrix, or points with intervals where most cells of a matrix would be empty."""
    is_matrix = is_dense(chosen)
    return Shown(
        lead=MATRIX if is_matrix else FOREST,
        alt=f"{'A matrix of ' if is_matrix else ''}{len(chosen)} correlations over layers, from −1 to 1.",
        drawing=draw_matrix(chosen, title) if is_matrix else draw_forest(chosen, title),
        numbers=agreement_table(chosen),
    )


def _other_families(record: EvidenceRecord) -> Iterator[EvidenceSection]:
    """Comparisons over layers beside those of the question, such as those on running text."""
    for number, (family, chosen) in enumerate(_over_layers(record).items()):
        if number:
            shown = _agreement(chosen, "Correlation over layers")
            words = plain(family, 60)
            yield _section(f"agreement-{number}", f"Agreement, {words}"[:32], f"Agreement: {words}", shown, None)


def _from_prompt_to_prompt(record: EvidenceRecord) -> Iterator[EvidenceSection]:
    chosen = [one for one in record.agreements if one.units == PROMPTS]
    shown = Shown(
        lead=FOREST,
        alt=f"{len(chosen)} correlations over prompts as points with their intervals, on an axis from −1 to 1.",
        drawing=draw_forest(chosen, "Correlation over prompts"),
        numbers=agreement_table(chosen),
    )
    if not shown.is_empty:
        title = "What goes together from prompt to prompt"
        yield _section("prompt-by-prompt", "Prompt by prompt", title, shown, None)


def _measures(record: EvidenceRecord) -> Iterator[EvidenceSection]:
    strips = measure_strips(record.importance)
    shown = Shown(
        lead=lead_of("importance"),
        alt=f"Rows of cells over layers: {len(strips)} other measures of importance.",
        drawing=draw_strips(strips, record.model["n_layers"]),
        numbers=importance_table(record),
    )
    if not shown.is_empty:
        yield _section("measures", "Measures", "Other measures of a layer's importance", shown, None)


def _probes(record: EvidenceRecord) -> Shown:
    return Shown(
        lead=lead_of("probes"),
        alt="Accuracy of probes by layer with intervals, beside a control and chance.",
        drawing=draw_probes(record),
        numbers=probe_table(record),
    )
