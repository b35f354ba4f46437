"""`layertracer report`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from layertracer.cli._choices import FIGURE_FORMATS
from layertracer.cli._console import describe_terminal, say, say_drawn, say_json
from layertracer.cli._exit_codes import debug_option, explain_interruption
from layertracer.cli._options import option
from layertracer.cli._writing import Writing

_PATH: Any = click.Path(path_type=Path)


@click.command("report", short_help="Write the report of a stored run, advice, evidence, or causal trace.")
@click.argument("run", type=_PATH)
@option("--out", type=_PATH, metavar="FILE", default=None, help="HTML file to write.  [default: RUN/report.html]")
@option(
    "--figures",
    type=_PATH,
    metavar="FOLDER",
    default=None,
    help="Write the figures as files for a paper, too; not into RUN, where they stay when it is replaced.",
)
@option("--format", "format_", type=click.Choice(FIGURE_FORMATS), default="svg", help="Format of --figures.")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the summary.")
@debug_option
@click.pass_context
def report_command(
    context: click.Context,
    /,
    run: Path,
    *,
    out: Path | None,
    figures: Path | None,
    format_: Literal["svg", "png", "pdf"],
    as_json: bool,
) -> None:
    """Write the report of a stored RUN, and print its summary.

    RUN is the folder that a trace, a design, a validation or a causal trace printed. No model is loaded.
    """
    drawing = _find_drawing(run)
    if drawing is not None:
        if figures is not None:
            raise click.UsageError(f"--figures draws traces, and {run} is {drawing.holds}. Leave it out.")
        _report_record(context, run, out, drawing, as_json=as_json)
        return
    from layertracer.api import load_run
    from layertracer.reports import render_text, summarize, write_figures
    from layertracer.runs import REPORT_FILE

    trace = load_run(run)
    # A shared run may be read-only: who asks for figures alone gets figures alone.
    wants_page = out is not None or figures is None
    writing = Writing()
    page = writing.attempt(trace.report, (out or run / REPORT_FILE) if wants_page else None)
    drawn = writing.attempt(lambda folder: write_figures(trace, folder, format=format_), figures) or []
    explain_interruption(context, f"Interrupted: {writing.describe()}")
    if as_json:
        written = {"report": None if page is None else str(page), "figures": [str(path) for path in drawn]}
        say_json({**summarize(trace), "run": str(run), **written})
        writing.end()
        return
    terminal = describe_terminal()
    say_drawn(render_text(trace, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
    if page is not None:
        say(f"Report   {page}")
    for path in drawn:
        say(f"Figure   {path}")
    writing.end()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawing:
    """How what is no run is drawn.

    Attributes:
        holds: What the folder holds, for messages.
        name: What it is called in a JSON document.
        read: Reads it.
        as_json: Its JSON document.
        as_text: What is said of it on a terminal.
        write: Writes its page.
    """

    holds: str
    name: str
    read: Callable[[Path], Any]
    as_json: Callable[[Any], dict[str, Any]]
    as_text: Callable[..., str]
    write: Callable[[Any, Path], Path]


def _find_drawing(folder: Path) -> _Drawing | None:
    """How what is in a folder is drawn; None where it is the run of a trace, or nothing of ours."""
    from layertracer import advice, evidence, reports

    if advice.is_advice(folder):
        return _Drawing(
            holds="design advice",
            name="advice",
            read=advice.read_advice,
            as_json=reports.advice_json,
            as_text=reports.render_advice_text,
            write=reports.write_advice_report,
        )
    if evidence.is_evidence(folder):
        return _Drawing(
            holds="evidence",
            name="evidence",
            read=evidence.read_evidence,
            as_json=reports.evidence_json,
            as_text=reports.render_evidence_text,
            write=reports.write_evidence_report,
        )
    if evidence.is_causal(folder):
        return _Drawing(
            holds="a causal trace",
            name="causal",
            read=evidence.read_causal,
            as_json=reports.causal_json,
            as_text=reports.render_causal_text,
            write=reports.write_causal_report,
        )
    return None


def _report_record(context: click.Context, folder: Path, out: Path | None, drawing: _Drawing, *, as_json: bool) -> None:
    """The report of what is no run."""
    from layertracer.runs import REPORT_FILE

    record = drawing.read(folder)
    writing = Writing()
    page = writing.attempt(lambda path: drawing.write(record, path), out or folder / REPORT_FILE)
    explain_interruption(context, f"Interrupted: {writing.describe()}")
    if as_json:
        written = {drawing.name: str(folder), "report": None if page is None else str(page)}
        say_json({**drawing.as_json(record), **written})
        writing.end()
        return
    terminal = describe_terminal()
    say_drawn(drawing.as_text(record, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
    if page is not None:
        say(f"Report   {page}")
    writing.end()
