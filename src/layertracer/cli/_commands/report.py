"""`layertracer report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from layertracer.cli._choices import FIGURE_FORMATS
from layertracer.cli._console import describe_terminal, say, say_drawn, say_json
from layertracer.cli._exit_codes import debug_option, explain_interruption
from layertracer.cli._options import option
from layertracer.cli._writing import Writing

_PATH: Any = click.Path(path_type=Path)


@click.command("report", short_help="Write the report of a stored run, or of design advice.")
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

    RUN is the folder that a trace or a design printed. No model is loaded.
    """
    from layertracer.advice import is_advice

    if is_advice(run):
        if figures is not None:
            raise click.UsageError(f"--figures draws traces, and {run} is design advice. Leave it out.")
        _report_advice(context, run, out, as_json=as_json)
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


def _report_advice(context: click.Context, folder: Path, out: Path | None, *, as_json: bool) -> None:
    """The report of design advice."""
    from layertracer.advice import read_advice
    from layertracer.reports import advice_json, render_advice_text, write_advice_report
    from layertracer.runs import REPORT_FILE

    advice = read_advice(folder)
    writing = Writing()
    page = writing.attempt(lambda path: write_advice_report(advice, path), out or folder / REPORT_FILE)
    explain_interruption(context, f"Interrupted: {writing.describe()}")
    if as_json:
        say_json({**advice_json(advice), "advice": str(folder), "report": None if page is None else str(page)})
        writing.end()
        return
    terminal = describe_terminal()
    say_drawn(render_advice_text(advice, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
    if page is not None:
        say(f"Report   {page}")
    writing.end()
