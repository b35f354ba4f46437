"""`layertracer validate`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from layertracer.cli._choices import CORRUPTIONS, DEFAULT_MODEL, LENS_KINDS
from layertracer.cli._console import quiet_stdout
from layertracer.cli._exit_codes import command_line, debug_option, explain_interruption, explain_kept
from layertracer.cli._grouped_help import GroupedCommand
from layertracer.cli._kept_work import (
    OUTPUT,
    announcing,
    find_place,
    go_on_command,
    in_options,
    output_options,
    refuse_output,
    saying_what_is_kept,
    show_plan,
    telling,
)
from layertracer.cli._options import add_options, load_asked_model, model_options, option, prompt_options
from layertracer.cli._progress import ProgressDisplay, showing_progress
from layertracer.cli._trace_options import load_asked_task, question_options, say_what_was_read
from layertracer.cli._writing import Shown, show_made

if TYPE_CHECKING:
    from layertracer.api import Evidence
    from layertracer.evidence import ValidationPlan
    from layertracer.tasks import Task
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called
    Evidence = Task = TracedModel = ValidationPlan = object

_FILE: Any = click.Path(exists=True, dir_okay=False, path_type=Path)

_validation_options = add_options(
    option(
        "--quick",
        is_flag=True,
        help="The short form: 16 prompts, the logit lens, skips and zero-ablations, two controls, three doses.",
    ),
    option(
        "--lens",
        "lenses",
        metavar="KIND|FOLDER",
        multiple=True,
        help=f"Lens to read with beside the logit lens: one to fit ({', '.join(LENS_KINDS)}), or the folder of one "
        "that is fitted; several times for several. Not with --quick.",
    ),
    option("--allow-pickle", is_flag=True, help="Read published lenses, which are pickled; no code in them runs."),
    option(
        "--causal",
        type=click.Choice(CORRUPTIONS),
        default="swap",
        help="How causal tracing corrupts a prompt: with another one of equal length, or with noise on its subject.",
    ),
    option("--no-causal", is_flag=True, help="No causal tracing."),
    option(
        "--text",
        type=_FILE,
        metavar="FILE",
        default=None,
        help="Running text to measure on, too.  [default: text that the model writes]",
    ),
    option("--no-text", is_flag=True, help="Measure on the task alone."),
)

_effort_options = add_options(
    option(
        "--audit",
        type=click.FloatRange(0, 1),
        default=0.1,
        help="Share of the arithmetic that is done again the plain way, in [0, 1].",
    ),
    option(
        "--memory",
        metavar="SIZE",
        default=None,
        help="Memory to take beyond the weights, e.g. 8GiB.  [default: most of what is free]",
    ),
)

_output_options = output_options(
    "evidence", "validation", command="validate", table="Table of all numbers that are not of single prompts to write"
)


class _ValidateCommand(GroupedCommand):
    """The command, its options in groups."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What is asked": ("quick", "lenses", "allow_pickle", "causal", "no_causal", "text", "no_text"),
        "Task": (
            *("task", "limit", "shots", "demonstration_sets", "seed", "template", "prompt_field", "answer_field"),
            *("answer_prefix", "header", "n_keys", "min_distance"),
        ),
        "Effort": ("audit", "memory"),
        "Model": ("device", "device_map", "offload_folder", "dtype", "revision", "trust_remote_code"),
        "Output": OUTPUT,
    }


@click.command("validate", cls=_ValidateCommand, short_help="Put a trace to the test: is what it found real.")
@click.argument("model", default=DEFAULT_MODEL)
@_validation_options
@question_options
@prompt_options
@_effort_options
@model_options
@_output_options
@debug_option
@click.pass_context
def validate_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Ask of MODEL on a task what a referee would ask: is the particle real, is the vulnerable layer real.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file. Criteria and
    lenses are compared with causal tracing, JS divergence with other measures of importance, and everything with
    controls, doses and running text. Each question is answered yes, no, or undecided, with its numbers.

    Progress goes to standard error; the answers, or with --json one JSON document, to standard output. After Ctrl-C,
    SIGTERM or SIGHUP the same command with --resume goes on from what is finished.
    """
    _refuse_contradictions(context, settings)
    task = load_asked_task(context, settings)
    out = settings["out"]
    if not settings["only_plan"]:
        from layertracer.runs import EVIDENCE

        out = find_place(out, model, settings, kind=EVIDENCE, command="validate")
    with in_options(_IN_OPTIONS):
        with quiet_stdout(), showing_progress() as display:
            display.begin(f"Loading {model}")
            loaded = load_asked_model(model, settings)
            say_what_was_read(task, display)
            if settings["only_plan"]:
                plan = _plan(loaded, task, out, display=display, settings=settings)
            else:
                evidence = _validate(context, loaded, task, out, display=display, settings=settings)
        if settings["only_plan"]:
            show_plan(plan, settings)
            return
    explain_kept(context, f"The evidence is saved in {out}")
    explain_interruption(context, f"Interrupted: the evidence is whole, and is saved in {out}")
    _show(evidence, out, settings)


def _refuse_contradictions(context: click.Context, settings: Mapping[str, Any]) -> None:
    """Options that contradict one another, or would be ignored, are a mistake."""
    refuse_output(settings, "validation")
    is_given = context.get_parameter_source("causal") is click.core.ParameterSource.COMMANDLINE
    if settings["no_causal"] and is_given:
        raise click.UsageError("--causal and --no-causal contradict one another. Give one of them.")
    if settings["quick"] and settings["lenses"]:
        raise click.UsageError("--quick reads the logit lens alone. Leave out --lens, or --quick.")
    odd = [lens for lens in settings["lenses"] if lens not in LENS_KINDS and not Path(lens).exists()]
    if odd:
        kinds = ", ".join(LENS_KINDS)
        raise click.UsageError(f"--lens {odd[0]} is neither one of {kinds} nor a folder that is there.")
    if settings["text"] is not None and settings["no_text"]:
        raise click.UsageError("--text and --no-text contradict one another. Give one of them.")


def _asked(loaded: TracedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a validation is asked, as `lt.validate` calls it."""
    from layertracer.api import load_lens

    lenses = [
        one if one in LENS_KINDS else load_lens(one, loaded, allow_pickle=settings["allow_pickle"])
        for one in dict.fromkeys(settings["lenses"])
    ]
    return {
        "quick": settings["quick"],
        "text": False if settings["no_text"] else None if settings["text"] is None else str(settings["text"]),
        "lenses": lenses,
        "causal": None if settings["no_causal"] else settings["causal"],
        "seed": settings["seed"],
        "audit": settings["audit"],
        "memory": settings["memory"],
    }


def _plan(
    loaded: TracedModel, task: Task, out: Path | None, *, display: ProgressDisplay, settings: Mapping[str, Any]
) -> ValidationPlan:
    from layertracer.api import plan_validation

    display.begin(f"Planning a validation of {loaded.name}")
    return plan_validation(loaded, task, out=out, **_asked(loaded, settings))


def _validate(
    context: click.Context,
    loaded: TracedModel,
    task: Task,
    out: Path,
    *,
    display: ProgressDisplay,
    settings: Mapping[str, Any],
) -> Evidence:
    """Validate; what was finished lies in the folder however it ends, and that is said."""
    from layertracer.api import validate

    again = go_on_command(command_line(context), out)
    display.begin(f"Validating {loaded.name} on {task.name}", f"{loaded.anatomy.n_layers} layers")

    with saying_what_is_kept(out, again):
        return validate(
            loaded,
            task,
            **_asked(loaded, settings),
            out=out,
            overwrite=settings["overwrite"],
            progress=telling(context, display, out, again),
            on_plan=announcing(display, settings),
            command=command_line(context),
        )


def _show(evidence: Evidence, out: Path, settings: Mapping[str, Any]) -> None:
    """Write page and table, and print it."""
    from layertracer.reports import evidence_json, next_evidence_steps, render_evidence_text, write_evidence_csv

    shown = Shown(
        name="evidence",
        as_json=partial(evidence_json, evidence),
        as_text=partial(render_evidence_text, evidence),
        write_page=evidence.report,
        write_table=partial(write_evidence_csv, evidence),
        steps=next_evidence_steps(evidence),
    )
    show_made(shown, out, settings)


_IN_OPTIONS = (
    (r"\bquick=True", lambda _: "--quick"),
    (r"\blenses=", lambda _: "--lens"),
    (r"\bcausal=None", lambda _: "--no-causal"),
    (r"\bcausal=['\"](\w+)['\"]", lambda found: f"--causal {found[1]}"),
    (r"\btext=False", lambda _: "--no-text"),
    (r"\boverwrite=True \(command line: --overwrite\)", lambda _: "--overwrite"),
)
"""What arguments of `validate` are called on the command line."""
