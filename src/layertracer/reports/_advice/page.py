"""The report of design advice as one HTML file that asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from layertracer.advice import AdviceRecord
from layertracer.reports._advice.overview import build_advice_overview
from layertracer.reports._advice.reproduce import design_code, design_command, snippet_texts
from layertracer.reports._advice.sections import advice_sections
from layertracer.reports._advice.tables import rows_table
from layertracer.reports._advice.words import asked_facts, limits, model_facts, reads
from layertracer.reports._page import fill_page
from layertracer.reports._values.documents import write_whole
from layertracer.reports._values.visible import shorten, visible_text


def write_advice_report(record: AdviceRecord, path: str | Path) -> Path:
    """One self-contained HTML file: which layers to keep, at what cost, how sure, and all that it rests on.

    Laws: the same record gives the same bytes; no text of the record is markup; the file asks for nothing from
    elsewhere.

    Args:
        record: The advice.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_advice_page(record), path)


def render_advice_page(record: AdviceRecord) -> str:
    """The HTML of a report on advice."""
    sections = tuple(advice_sections(record))
    figures = {section.id: section.drawing for section in sections if section.drawing is not None}
    return fill_page(
        "advice.html.j2",
        {"figures": figures},
        overview=build_advice_overview(record),
        sections=sections,
        snippets=snippet_texts(record),
        snippet_reason=shorten(visible_text(record.snippet_reason), 2000),
        limits=tuple(limits(record)),
        reads=reads(record),
        rows=rows_table(record),
        notes=tuple(shorten(visible_text(note), 2000) for note in record.evaluations.notes),
        asked=asked_facts(record),
        provenance=model_facts(record),
        command=design_command(record),
        python=design_code(record),
    )
