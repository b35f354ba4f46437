"""`layertracer trace`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from layertracer._types import InterruptGate, keeping_interrupts_back
from layertracer.cli._choices import DEFAULT_MODEL, ONSETS
from layertracer.cli._console import describe_terminal, quiet_stdout, say, say_aside, say_drawn, say_json
from layertracer.cli._exit_codes import (
    EXIT_USER_ERROR,
    command_line,
    debug_option,
    explain_interruption,
    explain_kept,
)
from layertracer.cli._options import add_options, load_asked_model, model_options, option, task_options
from layertracer.cli._progress import ProgressDisplay, showing_progress
from layertracer.cli._run_folder import Saved, reserving, save_trace
from layertracer.cli._streams import give_up_stdout
from layertracer.cli._trace_options import (
    effort_options,
    load_asked_task,
    make_perturbations,
    perturbation_options,
    question_options,
    refuse_unused_options,
    say_what_was_read,
    target_options,
    trace_settings,
)
from layertracer.cli._writing import Writing

if TYPE_CHECKING:
    from layertracer.api import Trace
    from layertracer.measures import OnsetCriterion
    from layertracer.tasks import Task
    from layertracer.tracing import TracePlan
else:  # under test, annotations are looked up when a function is called
    OnsetCriterion = Task = Trace = TracePlan = object

_onset_options = add_options(
    option("--onset", type=click.Choice(ONSETS), default="rise", help="When the target counts as risen."),
    option(
        "--delta",
        type=click.FloatRange(0, 1, min_open=True),
        default=None,
        help="Rise in probability that counts, in (0, 1]; --onset rise only.  [default: 0.05]",
    ),
)

_until_options = add_options(
    option(
        "--until",
        type=click.Choice(("certified",)),
        default=None,
        help="Stop once one layer is certified to be the most vulnerable; layers that cannot be it any more are "
        "dropped. Of a built-in task all prompts are there to be read then.",
    ),
    option(
        "--confidence",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=None,
        help="Of what is certified, in (0, 1); --until certified only.  [default: 0.95]",
    ),
    option(
        "--budget",
        type=click.IntRange(min=1),
        default=None,
        help="Cells (prompts × draws × layers) to measure at most; --until certified only.",
    ),
)

_lens_options = add_options(
    option(
        "--lens",
        "lenses",
        metavar="FOLDER|logit",
        multiple=True,
        help="Lens to read the layers through beside the logit lens: the folder of a fitted one; repeatable.",
    ),
    option("--allow-pickle", is_flag=True, help="Read published lenses, which are pickled; no code in them runs."),
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


_UNTIL = ("until", "confidence", "budget")


@click.command("trace", short_help="Trace a model: where the task starts, where it breaks.")
@click.argument("model", default=DEFAULT_MODEL)
@question_options
@task_options
@target_options
@_onset_options
@_lens_options
@perturbation_options
@_until_options
@model_options
@_output_options
@debug_option
@click.pass_context
def trace_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Trace MODEL on a task: where the task starts, and where the model breaks.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file.

    Progress goes to standard error; the summary, or with --json one JSON document, to standard output. Ctrl-C keeps
    what is finished, and so do SIGTERM and SIGHUP.
    """
    refuse_unused_options(context, settings)
    if settings["delta"] is not None and settings["onset"] != "rise":
        raise click.UsageError(f"--delta has no meaning with --onset {settings['onset']}: it is for rise.")
    _refuse_without_until(settings)
    from layertracer.api import trace

    # What can be refused is refused before the model is loaded.
    asked = {
        "perturbation": make_perturbations(settings),
        "onset": _make_onset(settings),
        "task": load_asked_task(context, settings),
    }
    place = {"model": model, "task": settings["task"], "overwrite": settings["overwrite"]}
    with reserving(settings["out"], **place) as out, keeping_interrupts_back(trace) as gate:
        _trace_and_finish(context, gate, partial(_trace, context, model, asked, settings), out, settings)


def _trace_and_finish(
    context: click.Context, gate: InterruptGate, run: Callable[..., Trace], out: Path, settings: Mapping[str, Any]
) -> None:
    """Trace; then save what was finished, whatever ended it, then write the report, then print."""
    ending = _Ending()
    try:
        _trace_and_save(gate, run, ending, partial(_save, context, ending, out, settings))
        _show(cast("Trace", ending.trace), cast("Saved", ending.saved).run, settings)
    except KeyboardInterrupt as stop:
        ending.trace = ending.trace or getattr(stop, "record", None)
        if ending.saved is None and ending.trace is not None and ending.trace.n_prompts:
            gate.has_begun = True
            _save(context, ending, out, settings)
            gate.has_begun = False
            try:
                _show(ending.trace, cast("Saved", ending.saved).run, settings)
            except OSError:  # the terminal is gone, which is why it ends
                give_up_stdout()
        raise
    if not cast("Saved", ending.saved).is_as_asked:
        context.exit(EXIT_USER_ERROR)


@dataclass(slots=True)
class _Ending:
    """What a trace has come to.

    Attributes:
        trace: What was finished.
        saved: Where it lies.
    """

    trace: Trace | None = None
    saved: Saved | None = None


def _trace_and_save(gate: InterruptGate, run: Callable[..., Trace], ending: _Ending, save: Callable[[], None]) -> None:
    try:
        with quiet_stdout(), showing_progress() as display:
            ending.trace = run(gate=gate, display=display)
    except Exception as error:
        if (kept := getattr(error, "record", None)) is not None:
            ending.trace = cast("Trace", kept)
            save()
            finished = f"{ending.trace.n_prompts} of {ending.trace.n_requested} prompts"
            say_aside(f"The run failed after {finished}. Its record is {cast('Saved', ending.saved).run}")
        raise
    gate.has_begun = True
    save()
    gate.has_begun = False  # nothing can be lost any more


def _save(context: click.Context, ending: _Ending, out: Path, settings: Mapping[str, Any]) -> None:
    """Save what was finished, and see to it that it is said where, however the command ends."""
    trace = cast("Trace", ending.trace)
    ending.saved = save_trace(trace, out, overwrite=settings["overwrite"], is_asked=settings["out"] is not None)
    what = f"{trace.n_prompts} of {trace.n_requested} prompts were finished, and are saved in {ending.saved.run}"
    if trace.status == "complete":
        what = f"the run is whole, and is saved in {ending.saved.run}"
    explain_interruption(context, f"Interrupted: {what}")
    explain_kept(context, f"The run is saved in {ending.saved.run}")


def _trace(
    context: click.Context,
    model: str,
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    gate: InterruptGate,
    display: ProgressDisplay,
) -> Trace:
    display.begin(f"Loading {model}")
    from layertracer.api import load_lens, trace
    from layertracer.tracing import Progress

    loaded = load_asked_model(model, settings)
    task: Task = asked["task"]
    lenses = [
        "logit" if one == "logit" else load_lens(one, loaded, allow_pickle=settings["allow_pickle"])
        for one in dict.fromkeys(settings["lenses"])
    ]
    display.begin(f"Tracing {loaded.name} on {task.name}", f"{loaded.anatomy.n_layers} layers")
    say_what_was_read(task, display)

    def announce(plan: TracePlan) -> None:
        if not settings["as_json"]:
            display.note(f"Plan: {plan.headline()}")

    def advance(progress: Progress) -> None:
        gate.has_begun = True
        display.advance(progress.done, progress.total)

    return trace(
        loaded,
        **asked,
        **trace_settings(settings),
        lens=lenses,
        **{name: settings[name] for name in _UNTIL if settings[name] is not None},
        seed=settings["seed"],
        progress=advance,
        on_plan=announce,
        command=command_line(context),
    )


def _refuse_without_until(settings: Mapping[str, Any]) -> None:
    """What is for a trace that stops by itself is a mistake in one that does not."""
    for name in _UNTIL[1:]:
        if settings[name] is not None and settings["until"] is None:
            raise click.UsageError(f"--{name} has no meaning without --until certified.")


def _make_onset(settings: Mapping[str, Any]) -> OnsetCriterion:
    from layertracer.measures import onset_from_name

    parameters = {} if settings["delta"] is None else {"delta": settings["delta"]}
    return onset_from_name(settings["onset"], **parameters)


def _show(trace: Trace, run: Path, settings: Mapping[str, Any]) -> None:
    """Write the report and print the summary; a report that cannot be written keeps nobody from the numbers."""
    from layertracer.reports import render_text, summarize
    from layertracer.runs import REPORT_FILE

    writing = Writing()
    report = writing.attempt(trace.report, None if settings["no_report"] else run / REPORT_FILE)
    if settings["as_json"]:
        say_json({**summarize(trace), "run": str(run), "report": None if report is None else str(report)})
    else:
        terminal = describe_terminal()
        say_drawn(render_text(trace, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
        say(f"Run     {run}")
        if report is not None:
            say(f"Report  {report}")
    writing.end()
