"""The report as one HTML file that asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from layertracer._errors import UsageError
from layertracer.reports._assets import content_policy, page_environment, plotly_script, read_asset, to_script_json
from layertracer.reports._sections.content import figure_data, table_data
from layertracer.reports._sections.guard import settled_subjects
from layertracer.reports._sections.order import list_sections
from layertracer.reports._sections.tables import provenance_facts, question_facts
from layertracer.reports._values.overview import Overview, build_overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.reproduce import command_line, python_code
from layertracer.runs import TraceRecord, write_file

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
    target = Path(path)
    refuse_folder(target)
    write_page(render_page(record), target)
    return target


def refuse_folder(target: Path) -> None:
    """Refuse a folder where a file is to be written.

    Raises:
        UsageError: If `target` is a folder.
    """
    if target.is_dir():
        raise UsageError(
            f"Cannot write the report to {str(target)!r}: it is a folder, and a file is needed. "
            f"Give a file name, e.g. {str(target / 'report.html')!r}."
        )


def write_page(page: str, target: Path) -> None:
    """Write a page whole; folders above it are made."""
    write_file(target, page.encode("utf-8"))


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
    scripts = page_scripts(has_figures=has_figures)
    return (
        page_environment()
        .get_template("page.html.j2")
        .render(
            overview=overview,
            policy=content_policy(scripts.values()),
            style=Markup(read_asset("style.css")),
            sections=list_sections(record, overview, has_figures=has_figures, subjects=subjects),
            has_figures=has_figures,
            tables=table_data(record, overview, budget, subjects) if has_figures else {},
            capped=budget.describe(record.n_prompts),
            lens_labels=[prompt["label"] for prompt in data["lens"]["prompts"]] if has_figures else [],
            question=question_facts(record),
            provenance=provenance_facts(record),
            command=command_line(record),
            python=python_code(record),
            data=Markup(to_script_json(data)),
            **{name: Markup(script) for name, script in scripts.items()},
        )
    )


def page_scripts(*, has_figures: bool) -> dict[str, str]:
    """The scripts of a page, by the names that the templates give them."""
    scripts = {"theme_script": read_asset("theme.js"), "page_script": "\n".join(map(read_asset, _SCRIPTS))}
    return scripts | {"plotly_script": plotly_script()} if has_figures else scripts
