"""The report of evidence as one HTML file that asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from layertracer.evidence import EvidenceRecord
from layertracer.reports._evidence.overview import build_evidence_overview
from layertracer.reports._evidence.reproduce import validate_code, validate_command
from layertracer.reports._evidence.sections import evidence_sections
from layertracer.reports._evidence.words import asked_facts, limits, model_facts, reads
from layertracer.reports._page import fill_page
from layertracer.reports._values.documents import write_whole


def write_evidence_report(record: EvidenceRecord, path: str | Path) -> Path:
    """One self-contained HTML file: each question with its answer, its figure and its caveat.

    Laws: the same record gives the same bytes; no text of the record is markup; the file asks for nothing from
    elsewhere.

    Args:
        record: The evidence.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_evidence_page(record), path)


def render_evidence_page(record: EvidenceRecord) -> str:
    """The HTML of a report on evidence."""
    overview = build_evidence_overview(record)
    sections = tuple(evidence_sections(record, overview))
    figures = {one.part.id: one.part.drawing for one in sections if one.part.drawing is not None}
    return fill_page(
        "evidence.html.j2",
        {"figures": figures},
        overview=overview,
        sections=sections,
        limits=limits(record),
        reads=reads(record),
        asked=asked_facts(record),
        provenance=model_facts(record),
        command=validate_command(record),
        python=validate_code(record),
    )
