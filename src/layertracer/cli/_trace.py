"""`layertracer trace`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from layertracer._errors import LayerTracerError
from layertracer.cli._boundary import command_line, debug_option, explain_interruption
from layertracer.cli._choices import (
    DEFAULT_MODEL,
    FILLS,
    ONSETS,
    PERTURBATIONS,
    POSITIONS,
    SCHEMES,
    SITES,
    TARGET_TOKENS,
    TARGETS,
)
from layertracer.cli._console import describe_terminal, quiet_stdout, say, say_json
from layertracer.cli._destination import default_run_folder, ignoring_interrupts, save_trace
from layertracer.cli._options import add_options, limit_option, model_options, option, task_options
from layertracer.cli._progress import ProgressDisplay, showing_progress

if TYPE_CHECKING:
    from layertracer._types import Perturbation
    from layertracer.api import Trace
    from layertracer.measures import OnsetCriterion
    from layertracer.tasks import Task
else:  # under test, annotations are looked up when a function is called
    OnsetCriterion = Perturbation = Task = Trace = object

_APPLIES_TO = {
    "mask_fraction": ("mask",),
    "scheme": ("mask",),
    "fill": ("mask",),
    "noise_scale": ("noise",),
    "draws": ("mask", "noise"),
    "site": ("mask", "noise"),
}
"""Options that only some perturbations take."""

_question_options = add_options(
    option(
        "--task",
        metavar="NAME|FILE",
        default="antonym",
        help="Built-in task (see `layertracer tasks`), file, or hf:name:split.",
    ),
    limit_option(32, "Largest number of prompts, or all."),
)

_target_options = add_options(
    option(
        "--target",
        type=click.Choice(TARGETS),
        default="answer",
        help="Token that is followed: the task's answer, or the model's own top token.",
    ),
    option(
        "--target-tokens",
        type=click.Choice(TARGET_TOKENS),
        default="first",
        help="Follow the answer's first token, or the product over all of them.",
    ),
    option("--onset", type=click.Choice(ONSETS), default="rise", help="When the target counts as risen."),
    option(
        "--delta",
        type=click.FloatRange(0, 1, min_open=True),
        default=None,
        help="Rise in probability that counts, in (0, 1]; --onset rise only.  [default: 0.05]",
    ),
)

_perturbation_options = add_options(
    option("--perturbation", type=click.Choice(PERTURBATIONS), default="mask", help="What is done to each layer."),
    option("--site", type=click.Choice(SITES), default="block_output", help="Where inside the layer."),
    option(
        "--mask-fraction",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.2,
        help="Share of the dimensions masked in one draw, in (0, 1].",
    ),
    option("--draws", type=click.IntRange(min=1), default=5, help="Random repetitions for each layer."),
    option(
        "--scheme",
        type=click.Choice(SCHEMES),
        default="partition",
        help="Draws that split the dimensions between them, or that each pick their own.",
    ),
    option("--fill", type=click.Choice(FILLS), default="zero", help="What masked dimensions become."),
    option(
        "--positions",
        type=click.Choice(POSITIONS),
        default="all",
        help="Perturb at every position of the prompt, or at its last one alone, which is far cheaper.",
    ),
    option(
        "--noise-scale",
        type=click.FloatRange(min=0),
        default=0.1,
        help="Standard deviation of the noise, relative to the stream's root mean square; --perturbation noise only.",
    ),
)

_output_options = add_options(
    option(
        "--memory",
        metavar="SIZE",
        default=None,
        help="Memory a pass may take, e.g. 4GiB.  [default: half of what is free, less on a CPU]",
    ),
    option(
        "--share-prefix/--no-share-prefix",
        default=None,
        help="Read what prompts have in common once, where that is proved right.  [default: where it saves time]",
    ),
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
@_question_options
@task_options
@_target_options
@_perturbation_options
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
    _refuse_unused_options(context, settings)
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

    perturbation, onset = _make_perturbation(settings), _make_onset(settings)
    task = load_task_from(settings["task"], settings, limit=settings["limit"])
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
    display.begin(f"Tracing {loaded.name} on {task.name}", f"{len(task)} prompts, {loaded.anatomy.n_layers} layers")

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
        seed=settings["seed"],
        share_prefix=settings["share_prefix"],
        memory=settings["memory"],
        progress=advance,
        command=command_line(context),
    )


def load_task_from(name: str, settings: Mapping[str, Any], *, limit: int | None) -> Task:
    """The task that the options describe."""
    from layertracer.tasks import load_task

    template = settings["template"]
    return load_task(
        name,
        n_shot=settings["shots"],
        limit=limit,
        seed=settings["seed"],
        template=None if template is None else template.replace("\\n", "\n"),
        prompt_field=settings["prompt_field"],
        answer_field=settings["answer_field"],
    )


def _make_perturbation(settings: Mapping[str, Any]) -> Perturbation:
    from layertracer import Mask, Noise, Skip

    site, draws, seed = settings["site"], settings["draws"], settings["seed"]
    if settings["perturbation"] == "skip":
        return Skip(positions=settings["positions"])
    if settings["perturbation"] == "noise":
        scale = settings["noise_scale"]
        return Noise(scale=scale, site=site, draws=draws, positions=settings["positions"], seed=seed)
    return Mask(
        fraction=settings["mask_fraction"],
        site=site,
        draws=draws,
        scheme=settings["scheme"],
        fill=settings["fill"],
        positions=settings["positions"],
        seed=seed,
    )


def _make_onset(settings: Mapping[str, Any]) -> OnsetCriterion:
    from layertracer.measures import onset_from_name

    parameters = {} if settings["delta"] is None else {"delta": settings["delta"]}
    return onset_from_name(settings["onset"], **parameters)


def _refuse_unused_options(context: click.Context, settings: Mapping[str, Any]) -> None:
    """An option that would be ignored is a mistake."""
    kind = settings["perturbation"]
    for name, kinds in _APPLIES_TO.items():
        if kind not in kinds and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{flag} has no meaning with --perturbation {kind}: it is for {' and '.join(kinds)}."
            )
    if settings["delta"] is not None and settings["onset"] != "rise":
        raise click.UsageError(f"--delta has no meaning with --onset {settings['onset']}: it is for rise.")


def _finish(context: click.Context, trace: Trace, out: Path, *, settings: Mapping[str, Any]) -> None:
    """Save, write the report, print the summary."""
    from layertracer.reports import render_text, summarize
    from layertracer.runs import REPORT_FILE

    run = save_trace(trace, out, overwrite=settings["overwrite"])
    explain_interruption(context, f"Interrupted: the run is whole, and is saved in {run}")
    if not settings["as_json"]:
        terminal = describe_terminal()
        say(render_text(trace, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
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
    click.echo(
        f"The run failed after {partial.n_prompts} of {partial.n_requested} prompts. Its record is {run}", err=True
    )
