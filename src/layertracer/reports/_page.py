"""The report as one HTML file that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from layertracer.reports._assets import content_policy, page_environment, plotly_script, read_asset, to_script_json
from layertracer.reports._sections.content import figure_data, table_data
from layertracer.reports._sections.guard import settled_subjects
from layertracer.reports._sections.order import list_sections
from layertracer.reports._sections.tables import provenance_facts, question_facts
from layertracer.reports._values.documents import write_whole
from layertracer.reports._values.overview import Overview, build_overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.reproduce import command_line, python_code
from layertracer.runs import TraceRecord

_MAX_BYTES = 5_900_000
_SCRIPTS = ("figures.js", "tables.js", "lens.js", "cells.js", "start.js")


def write_report(record: TraceRecord, path: str | Path) -> Path:
    """One self-contained HTML file: figures, tables, and how to run the trace again.

    Laws: the same record gives the same bytes; no text of the record is markup; the file asks for
    nothing from elsewhere and is below 6 MB.

    Args:
        record: The trace; interrupted and failed ones too.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_page(record), path)


def render_page(record: TraceRecord) -> str:
    """The HTML of a report; prompts are left out until it is small enough, and the page says so."""
    overview = build_overview(record)
    budget = Budget.for_record(record)
    page = _render(record, overview, budget)
    while len(page.encode("utf-8")) > _MAX_BYTES and budget != budget.halve():
        budget = budget.halve()
        page = _render(record, overview, budget)
    return page


def _render(record: TraceRecord, overview: Overview, budget: Budget) -> str:
    has_figures = overview.findings.particle is not None
    subjects = settled_subjects(record, overview, budget) if has_figures else ()
    data = figure_data(record, overview, budget, subjects) if has_figures else {}
    return fill_page(
        "page.html.j2",
        data,
        has_figures=has_figures,
        overview=overview,
        sections=list_sections(record, overview, has_figures=has_figures, subjects=subjects),
        tables=table_data(record, overview, budget, subjects) if has_figures else {},
        capped=budget.describe(record.n_prompts),
        lens_labels=[prompt["label"] for prompt in data["lens"]["prompts"]] if has_figures else [],
        question=question_facts(record),
        provenance=provenance_facts(record),
        command=command_line(record),
        python=python_code(record),
    )


def fill_page(template: str, data: Mapping[str, Any], *, has_figures: bool = True, **parts: Any) -> str:
    """The HTML of a page: its template with style, scripts, and the policy that lets nothing else run.

    Args:
        template: The template's file.
        data: What the scripts draw.
        has_figures: Whether there is anything to draw.
        parts: What else the template shows; none of it is taken for markup.
    """
    scripts = {"theme_script": read_asset("theme.js"), "page_script": "\n".join(map(read_asset, _SCRIPTS))}
    if has_figures:
        scripts |= {"plotly_script": plotly_script()}
    return (
        page_environment()
        .get_template(template)
        .render(
            **parts,
            has_figures=has_figures,
            policy=content_policy(scripts.values()),
            style=Markup(read_asset("style.css")),
            data=Markup(to_script_json(data)),
            **{name: Markup(script) for name, script in scripts.items()},
        )
    )
