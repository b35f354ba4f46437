"""`layertracer causal`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
from click.core import ParameterSource

from layertracer.cli._choices import CAUSAL_SITES, CORRUPTIONS, DEFAULT_MODEL, DIRECTIONS
from layertracer.cli._console import quiet_stdout
from layertracer.cli._exit_codes import command_line, debug_option, explain_interruption, explain_kept
from layertracer.cli._grouped_help import GroupedCommand
from layertracer.cli._options import add_options, load_asked_model, model_options, option, task_options
from layertracer.cli._progress import ProgressDisplay, showing_progress
from layertracer.cli._run_folder import default_run_folders
from layertracer.cli._trace_options import load_asked_task, question_options, refuse_chat_options, say_what_was_read
from layertracer.cli._writing import Shown, show_made

if TYPE_CHECKING:
    from layertracer.api import CausalTrace
    from layertracer.tasks import Task
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called
    CausalTrace = Progress = Task = object

_PATH: Any = click.Path(path_type=Path)
_OF_NOISE = ("draws", "noise_scale")
_ASKED = ("corrupt", "site", "window", "draws", "noise_scale", "direction", "min_total_effect", "seed", "memory")
_OF_CHAT = ("chat", "system", "template_arguments")

_corruption_options = add_options(
    option(
        "--corrupt",
        type=click.Choice(CORRUPTIONS),
        default="noise",
        help="Noise on the subject's embeddings, or swap: the contrast prompt is run instead.",
    ),
    option("--draws", type=click.IntRange(min=1), default=10, help="How often noise is drawn; --corrupt noise only."),
    option(
        "--noise-scale",
        type=click.FloatRange(min=0, min_open=True),
        default=3.0,
        help="Standard deviation of the noise, in those of the subjects' embeddings; --corrupt noise only.",
    ),
    option(
        "--direction",
        type=click.Choice(DIRECTIONS),
        default="denoise",
        help="Clean values into the corrupted run (denoise), or corrupted ones into the clean run (noise).",
    ),
    option("--site", type=click.Choice(CAUSAL_SITES), default="block_output", help="Where inside the layer."),
    option("--window", type=click.IntRange(min=1), metavar="LAYERS", default=1, help="Layers patched together."),
    option(
        "--min-total-effect",
        type=click.FloatRange(0, 1),
        default=0.01,
        help="Prompts whose answer's probability corruption moves by less are not patched.",
    ),
)

_effort_options = add_options(
    option(
        "--audit",
        type=click.FloatRange(0, 1),
        default=0.1,
        help="Share of the arithmetic that is done again the plain way, in [0, 1].",
    ),
    option("--no-audit", is_flag=True, help="Measure nothing again; the result says so."),
    option(
        "--memory",
        metavar="SIZE",
        default=None,
        help="Memory to take beyond the weights, e.g. 8GiB.  [default: most of what is free]",
    ),
)

_output_options = add_options(
    option(
        "--out", type=_PATH, metavar="FOLDER", default=None, help="Folder to make.  [default: runs/MODEL-causal-TIME]"
    ),
    option("--overwrite", is_flag=True, help="Replace a causal trace that lies at --out."),
    option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the summary."),
    option(
        "--csv", "csv_file", type=_PATH, metavar="FILE", default=None, help="Table of all cells to write, one row each."
    ),
    option("--report", type=_PATH, metavar="FILE", default=None, help="HTML report to write.  [default: in --out]"),
    option("--no-report", is_flag=True, help="Write no report."),
)


class _CausalCommand(GroupedCommand):
    """The command, its options in groups."""

    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Corruption and patch": (
            *("corrupt", "draws", "noise_scale", "direction", "site", "window", "min_total_effect"),
        ),
        "Task": (
            *("task", "limit", "shots", "demonstration_sets", "seed", "template", "prompt_field", "answer_field"),
            *("answer_prefix", "header", "n_keys", "min_distance", "chat", "system", "template_arguments"),
        ),
        "Effort": ("audit", "no_audit", "memory"),
        "Model": ("device", "device_map", "offload_folder", "dtype", "revision", "trust_remote_code"),
        "Output": ("out", "overwrite", "as_json", "csv_file", "report", "no_report"),
    }


@click.command("causal", cls=_CausalCommand, short_help="Patch runs: at which layer and token lies the answer.")
@click.argument("model", default=DEFAULT_MODEL)
@question_options
@task_options
@_corruption_options
@_effort_options
@model_options
@_output_options
@debug_option
@click.pass_context
def causal_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Put values of a clean run of MODEL into a corrupted one, at every layer and token, and see what that restores.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file. The task is
    a file of known facts (subject, attribute, template, prompt), of contrast pairs (clean_prefix, patch_prefix,
    clean_answer, patch_answer), a relation, or word pairs, whose words are the subjects.

    Progress goes to standard error; the summary, or with --json one JSON document, to standard output. Ctrl-C keeps
    what is finished, and so do SIGTERM and SIGHUP.
    """
    _refuse_contradictions(context, settings)
    task = load_asked_task(context, settings)
    out = settings["out"] or next(folder for folder in default_run_folders(model, "causal") if not folder.exists())
    try:
        with quiet_stdout(), showing_progress() as display:
            found = _trace(context, model, task, out, display=display, settings=settings)
    except KeyboardInterrupt as stop:
        kept = getattr(stop, "record", None)
        if kept is not None:
            n_done = len(kept.lengths) - sum(one.reason == "unfinished" for one in kept.excluded)
            explain_interruption(
                context, f"Interrupted: {n_done} of {len(kept.lengths)} prompts were finished, and are saved in {out}"
            )
        raise
    explain_kept(context, f"The causal trace is saved in {out}")
    explain_interruption(context, f"Interrupted: the causal trace is whole, and is saved in {out}")
    _show(found, out, settings)


def _refuse_contradictions(context: click.Context, settings: Mapping[str, Any]) -> None:
    """Options that contradict one another, or would be ignored, are a mistake."""
    refuse_chat_options(settings)

    def is_given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    for name in _OF_NOISE:
        if settings["corrupt"] != "noise" and is_given(name):
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} has no meaning with --corrupt swap: it is for noise.")
    for name, other in (("report", "no_report"), ("audit", "no_audit")):
        if is_given(name) and settings[other]:
            raise click.UsageError(f"--{name} and --no-{name} contradict one another. Give one of them.")
    if settings["overwrite"] and settings["out"] is None:
        raise click.UsageError("--overwrite needs --out: without it a new folder is made. Leave it out.")


def _trace(
    context: click.Context,
    model: str,
    task: Task,
    out: Path,
    *,
    display: ProgressDisplay,
    settings: Mapping[str, Any],
) -> CausalTrace:
    display.begin(f"Loading {model}")
    from layertracer.api import causal_trace

    loaded = load_asked_model(model, settings)
    display.begin(f"Patching {loaded.name} on {task.name}", f"{loaded.anatomy.n_layers} layers")
    say_what_was_read(task, display)

    def advance(progress: Progress) -> None:
        display.advance(progress.done, progress.total)

    return causal_trace(
        loaded,
        task,
        **{name: settings[name] for name in (*_ASKED, *_OF_CHAT)},
        audit=0.0 if settings["no_audit"] else float(settings["audit"]),
        out=out,
        overwrite=settings["overwrite"],
        progress=advance,
        command=command_line(context),
    )


def _show(found: CausalTrace, out: Path, settings: Mapping[str, Any]) -> None:
    """Write page and table, and print it."""
    from layertracer.reports import causal_json, render_causal_text, write_causal_csv

    shown = Shown(
        name="causal",
        as_json=partial(causal_json, found),
        as_text=partial(render_causal_text, found),
        write_page=found.report,
        write_table=partial(write_causal_csv, found),
    )
    show_made(shown, out, settings)
