"""`layertracer plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layertracer.cli._choices import DEFAULT_MODEL
from layertracer.cli._console import quiet_stdout, say, say_json, say_table
from layertracer.cli._exit_codes import debug_option
from layertracer.cli._options import load_asked_model, model_options, option, task_options
from layertracer.cli._progress import showing_progress
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

if TYPE_CHECKING:
    from layertracer.tracing import TracePlan
else:  # under test, annotations are looked up when a function is called
    TracePlan = object


@click.command("plan", short_help="Show what a trace would take: passes, arithmetic, memory, time.")
@click.argument("model", default=DEFAULT_MODEL)
@question_options
@task_options
@target_options
@perturbation_options
@model_options
@effort_options
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables.")
@debug_option
@click.pass_context
def plan_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Show what a trace of MODEL would do and take, without tracing it.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file. What its
    layers take is measured by running them on one prompt and on two.
    """
    refuse_unused_options(context, settings)
    perturbation = make_perturbations(settings)
    task = load_asked_task(context, settings)
    with quiet_stdout(), showing_progress() as display:
        display.begin(f"Loading {model}")
        from layertracer.api import plan

        loaded = load_asked_model(model, settings)
        say_what_was_read(task, display)
        display.begin(f"Planning {task.name}")
        found = plan(loaded, task, perturbation=perturbation, **trace_settings(settings))
    if settings["as_json"]:
        say_json(found.to_dict())
        return
    _print_plan(found)


def _print_plan(plan: TracePlan) -> None:
    say(f"{plan.model}: {plan.headline()}")
    say()
    say_table(("quantity", "value"), plan.facts())
    if plan.prefixes:
        say()
        say_table(
            ("shared prefix", "prompts", "passes", "tokens saved", "remembered"),
            [prefix.cells() for prefix in plan.prefixes],
        )
    say()
    say_table(
        ("own tokens", "after", "prompts", "at a time", "cuts", "passes", "rows", "peak"),
        [bucket.cells() for bucket in plan.buckets],
    )
    for note in plan.notes:
        say(f"Note: {note}")
