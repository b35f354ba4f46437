"""The sections of a report in their order."""

from __future__ import annotations

from layertracer.reports._sections.curves import CURVES
from layertracer.reports._sections.dominant import DOMINANT
from layertracer.reports._sections.effects import EFFECTS
from layertracer.reports._sections.lens import LENS
from layertracer.reports._sections.lens_quality import LENS_QUALITY
from layertracer.reports._sections.lenses import LENSES
from layertracer.reports._sections.map import MAP
from layertracer.reports._sections.measures import MEASURES
from layertracer.reports._sections.mixers import MIXERS
from layertracer.reports._sections.protocol import Section, Subject, register_section, subjects_of
from layertracer.reports._sections.sensitivity import SENSITIVITY
from layertracer.reports._sections.strips import STRIPS
from layertracer.reports._values.overview import Overview
from layertracer.runs import TraceRecord

__all__ = ["ORDER", "list_sections", "subjects_of"]

ORDER = (CURVES, STRIPS, EFFECTS, MEASURES, LENSES, LENS_QUALITY, MIXERS, MAP, LENS, SENSITIVITY, DOMINANT)
for _subject in ORDER:
    register_section(_subject)


def list_sections(
    record: TraceRecord, overview: Overview, *, has_figures: bool, subjects: tuple[Subject, ...] | None = None
) -> tuple[Section, ...]:
    """The sections of a page, in order; those with figures only where there is something to draw."""
    last = (
        Section(id="provenance", short="Provenance", title="Self-check and provenance"),
        Section(id="reproduce", short="Run it again", title="Run it again"),
    )
    answer = Section(id="answer", short="Answer", title="Answer")
    if not has_figures:
        return (answer, *last)
    prompts = Section(id="prompts", short="Prompts", title="Every prompt")
    subjects = subjects_of(record, overview) if subjects is None else subjects
    shown = (subject.section(record, overview) for subject in subjects)
    return (answer, *shown, prompts, *last)
