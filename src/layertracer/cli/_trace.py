"""`layertracer trace`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layertracer._errors import LayerTracerError
from layertracer.cli._boundary import command_line, debug_option, explain_interruption
from layertracer.cli._choices import DEFAULT_MODEL, ONSETS
from layertracer.cli._console import describe_terminal, quiet_stdout, say, say_aside, say_drawn, say_json
from layertracer.cli._destination import default_run_folder, ignoring_interrupts, save_trace
from layertracer.cli._options import add_options, model_options, option, task_options
from layertracer.cli._progress import ProgressDisplay, showing_progress
from layertracer.cli._questions import (
    audit_share,
    effort_options,
    load_asked_task,
    make_perturbation,
    perturbation_options,
    question_options,
    refuse_unused_options,
    say_what_was_read,
    target_options,
)

if TYPE_CHECKING:
    from layertracer.api import Trace
    from layertracer.measures import OnsetCriterion
    from layertracer.tracing import TracePlan
else:  # under test, annotations are looked up when a function is called
    OnsetCriterion = Trace = TracePlan = object

_onset_options = add_options(
    option("--onset", type=click.Choice(ONSETS), default="rise", help="When the target counts as risen."),
    option(
        "--delta",
        type=click.FloatRange(0, 1, min_open=True),
        default=None,
        help="Rise in probability that counts, in (0, 1]; --onset rise only.  [default: 0.05]",
    ),
)

_output_options = add_options(
    effort_options,
    option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        default=None,
        help="Run folder to make.  [default: runs/MODEL-TASK-TIME]",
    ),
    option("--overwrite", is_flag=True, help="Replace a run that lies at --out."),
    option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the summary."),
    option("--no-report", is_flag=True, help="Write no report.html into the run folder."),
)


@click.command("trace", short_help="Trace a model: where the task starts, where it breaks.")
@click.argument("model", default=DEFAULT_MODEL)
@question_options
@task_options
@target_options
@_onset_options
@perturbation_options
@model_options
@_output_options
@debug_option
@click.pass_context
def trace_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Trace MODEL on a task: where the task starts, and where the model breaks.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file.

    Progress goes to standard error; the summary, or with --json one JSON document, to standard output. Ctrl-C keeps
    what is finished.
    """
    refuse_unused_options(context, settings)
    if settings["delta"] is not None and settings["onset"] != "rise":
        raise click.UsageError(f"--delta has no meaning with --onset {settings['onset']}: it is for rise.")
    out = settings["out"] or default_run_folder(model, settings["task"])
    try:
        with quiet_stdout(), showing_progress() as display:
            trace = _trace(context, model, settings, out=out, display=display)
        _finish(context, trace, out, settings=settings)
    except KeyboardInterrupt as stop:
        partial = getattr(stop, "record", None)
        if partial is not None and partial.n_prompts:
            with ignoring_interrupts():
                _finish(context, partial, out, settings=settings)
            finished = f"{partial.n_prompts} of {partial.n_requested} prompts"
            explain_interruption(context, f"Interrupted: {finished} were finished, and are saved.")
        raise
    except LayerTracerError as error:
        _keep_failed(error, out, settings)
        raise


def _trace(
    context: click.Context, model: str, settings: Mapping[str, Any], *, out: Path, display: ProgressDisplay
) -> Trace:
    """What can be refused is refused before the model is loaded."""
    from layertracer.api import trace
    from layertracer.runs import refuse_occupied

    perturbation, onset = make_perturbation(settings), _make_onset(settings)
    task = load_asked_task(context, settings)
    refuse_occupied(out.expanduser(), overwrite=settings["overwrite"])
    display.begin(f"Loading {model}")
    from layertracer.tracing import Progress, load_model

    loaded = load_model(
        model,
        device=settings["device"],
        device_map=settings["device_map"],
        offload_folder=settings["offload_folder"],
        dtype=settings["dtype"],
        revision=settings["revision"],
        trust_remote_code=settings["trust_remote_code"],
    )
    display.begin(f"Tracing {loaded.name} on {task.name}", f"{loaded.anatomy.n_layers} layers")
    say_what_was_read(task, display)

    def announce(plan: TracePlan) -> None:
        if not settings["as_json"]:
            display.note(f"Plan: {plan.headline()}")

    def advance(progress: Progress) -> None:
        display.advance(progress.done, progress.total)

    return trace(
        loaded,
        task,
        perturbation=perturbation,
        onset=onset,
        target=settings["target"],
        target_tokens=settings["target_tokens"],
        chat=settings["chat"],
        system=settings["system"],
        template_arguments=settings["template_arguments"],
        seed=settings["seed"],
        share_prefix=settings["share_prefix"],
        audit=audit_share(settings),
        memory=settings["memory"],
        progress=advance,
        on_plan=announce,
        command=command_line(context),
    )


def _make_onset(settings: Mapping[str, Any]) -> OnsetCriterion:
    from layertracer.measures import onset_from_name

    parameters = {} if settings["delta"] is None else {"delta": settings["delta"]}
    return onset_from_name(settings["onset"], **parameters)


def _finish(context: click.Context, trace: Trace, out: Path, *, settings: Mapping[str, Any]) -> None:
    """Save, write the report, print the summary."""
    from layertracer.reports import render_text, summarize
    from layertracer.runs import REPORT_FILE

    run = save_trace(trace, out, overwrite=settings["overwrite"])
    explain_interruption(context, f"Interrupted: the run is whole, and is saved in {run}")
    if not settings["as_json"]:
        terminal = describe_terminal()
        say_drawn(render_text(trace, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
        say(f"Run     {run}")
    report = None if settings["no_report"] else trace.report(run / REPORT_FILE)
    if settings["as_json"]:
        say_json({**summarize(trace), "run": str(run), "report": None if report is None else str(report)})
    elif report is not None:
        say(f"Report  {report}")


def _keep_failed(error: LayerTracerError, out: Path, settings: Mapping[str, Any]) -> None:
    """Save a run that failed on its way: a failed run is a record too."""
    partial: Any = error.record
    if partial is None:
        return
    run = save_trace(partial, out, overwrite=settings["overwrite"])
    say_aside(f"The run failed after {partial.n_prompts} of {partial.n_requested} prompts. Its record is {run}")
