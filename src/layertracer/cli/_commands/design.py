"""`layertracer design`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from layertracer.cli._choices import DEFAULT_MODEL
from layertracer.cli._console import quiet_stdout
from layertracer.cli._design_options import (
    design_settings,
    effort_options,
    placement_options,
    question_options,
    refuse_contradictions,
    search_options,
)
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
from layertracer.cli._options import load_asked_model, model_options
from layertracer.cli._progress import ProgressDisplay, showing_progress
from layertracer.cli._writing import Shown, show_made

if TYPE_CHECKING:
    from layertracer.advice import DesignPlan
    from layertracer.api import Advice
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called
    Advice = DesignPlan = TracedModel = object

_output_options = output_options(
    "advice", "design", command="design", table="Table of placements and single layers to write"
)


class _DesignCommand(GroupedCommand):
    """The command, its options in groups."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "What is asked": ("tasks", "no_tasks", "text", "no_text"),
        "Placements": ("keep", "budget", "context", "substitute", "window", "sinks"),
        "Search": ("search", "pairs", "no_ratio", "n_random", "against", "seed"),
        "Effort": ("search_rows", "held_out_rows", "compared_rows", "row_tokens", "audit", "memory"),
        "Model": ("device", "device_map", "offload_folder", "dtype", "revision", "trust_remote_code"),
        "Output": OUTPUT,
    }


@click.command("design", cls=_DesignCommand, short_help="Advise which layers a hybrid should keep, and prove it.")
@click.argument("model", default=DEFAULT_MODEL)
@question_options
@placement_options
@search_options
@effort_options
@model_options
@_output_options
@debug_option
@click.pass_context
def design_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Advise which layers of MODEL should keep their mixers when the others get something cheaper.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file. Placements
    are searched on some rows and judged on others: KL divergence from the full model in nats, tasks solved, and where
    they lie among random placements of their size.

    Progress goes to standard error; the advice, or with --json one JSON document, to standard output. After Ctrl-C,
    SIGTERM or SIGHUP the same command with --resume goes on from what is finished.
    """
    refuse_output(settings, "design")
    refuse_contradictions(context, settings)
    asked = design_settings(settings)
    out = settings["out"]
    if not settings["only_plan"]:
        from layertracer.runs import ADVICE

        out = find_place(out, model, settings, kind=ADVICE, command="design")
    with in_options(_IN_OPTIONS):
        with quiet_stdout(), showing_progress() as display:
            display.begin(f"Loading {model}")
            loaded = load_asked_model(model, settings)
            if settings["only_plan"]:
                plan = _plan(loaded, asked, out, display)
            else:
                advice = _design(context, loaded, asked, out, display=display, settings=settings)
        if settings["only_plan"]:
            show_plan(plan, settings)
            return
    explain_kept(context, f"The advice is saved in {out}")
    explain_interruption(context, f"Interrupted: the advice is whole, and is saved in {out}")
    _show(advice, out, settings)


def _plan(loaded: TracedModel, asked: Mapping[str, Any], out: Path | None, display: ProgressDisplay) -> DesignPlan:
    from layertracer.api import plan_design

    display.begin(f"Planning a design of {loaded.name}")
    return plan_design(loaded, out=out, **asked)


def _design(
    context: click.Context,
    loaded: TracedModel,
    asked: Mapping[str, Any],
    out: Path,
    *,
    display: ProgressDisplay,
    settings: Mapping[str, Any],
) -> Advice:
    """Design; what was finished lies in the folder however it ends, and that is said."""
    from layertracer.api import design

    again = go_on_command(command_line(context), out)
    display.begin(f"Designing {loaded.name}")

    with saying_what_is_kept(out, again):
        return design(
            loaded,
            **asked,
            against=None if settings["against"] == "none" else settings["against"],
            out=out,
            overwrite=settings["overwrite"],
            progress=telling(context, display, out, again),
            on_plan=announcing(display, settings),
            command=command_line(context),
        )


def _show(advice: Advice, out: Path, settings: Mapping[str, Any]) -> None:
    """Write page and table, and print it."""
    from layertracer.reports import advice_json, next_steps, render_advice_text, write_advice_csv

    shown = Shown(
        name="advice",
        as_json=partial(advice_json, advice),
        as_text=partial(render_advice_text, advice),
        write_page=advice.report,
        write_table=partial(write_advice_csv, advice),
        steps=next_steps(advice),
    )
    show_made(shown, out, settings)


_IN_OPTIONS = (
    (r"\bkeep=\(([\d, ]+?),?\)", lambda found: "--keep " + found[1].replace(" ", "")),
    (r"\bkeep (?=has |is empty)", lambda _: "--keep "),
    (r"\bsubstitute=Window\((\d+), sinks=(\d+)\)", lambda found: f"--window {found[1]} --sinks {found[2]}"),
    (r"\bsearch=['\"](\w+)['\"]", lambda found: f"--search {found[1]}"),
    (r"\btasks=\(\)", lambda _: "--no-tasks"),
    (r"\btext=False", lambda _: "--no-text"),
    (r"\bn_random\b", lambda _: "--random"),
    (r"\boverwrite=True \(command line: --overwrite\)", lambda _: "--overwrite"),
)  # fmt: skip
"""What arguments of `design` are called on the command line."""
