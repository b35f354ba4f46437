"""The report of evidence as one HTML file that asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from layertracer.evidence import EvidenceRecord
from layertracer.reports._assets import content_policy, page_environment, read_asset, to_script_json
from layertracer.reports._evidence.overview import build_evidence_overview
from layertracer.reports._evidence.reproduce import validate_code, validate_command
from layertracer.reports._evidence.sections import evidence_sections
from layertracer.reports._evidence.words import asked_facts, limits, model_facts, reads
from layertracer.reports._page import page_scripts, refuse_folder, write_page


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
    target = Path(path)
    refuse_folder(target)
    write_page(render_evidence_page(record), target)
    return target


def render_evidence_page(record: EvidenceRecord) -> str:
    """The HTML of a report on evidence."""
    overview = build_evidence_overview(record)
    sections = tuple(evidence_sections(record, overview))
    figures = {one.part.id: one.part.drawing for one in sections if one.part.drawing is not None}
    scripts = page_scripts(has_figures=True)
    return (
        page_environment()
        .get_template("evidence.html.j2")
        .render(
            overview=overview,
            policy=content_policy(scripts.values()),
            style=Markup(read_asset("style.css")),
            sections=sections,
            limits=limits(record),
            reads=reads(record),
            asked=asked_facts(record),
            provenance=model_facts(record),
            command=validate_command(record),
            python=validate_code(record),
            data=Markup(to_script_json({"figures": figures})),
            **{name: Markup(script) for name, script in scripts.items()},
        )
    )
