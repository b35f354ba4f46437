"""Commands that keep what they finished: where it lies, how they go on, and what an interruption leaves."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import click

from layertracer._errors import LayerTracerError
from layertracer.cli._console import say, say_aside, say_json
from layertracer.cli._exit_codes import explain_interruption
from layertracer.cli._options import add_options, option
from layertracer.cli._progress import ProgressDisplay
from layertracer.cli._run_folder import default_run_folders

if TYPE_CHECKING:
    from layertracer.runs import FolderKind
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called
    FolderKind = Progress = object


@runtime_checkable
class Plan(Protocol):
    """A plan: lines as a text, and JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""


_PATH: Any = click.Path(path_type=Path)

OUTPUT = ("only_plan", "out", "resume", "overwrite", "as_json", "csv_file", "report", "no_report")
"""Names of the options of the output, in their order."""


def output_options(holds: str, made_by: str, *, command: str, table: str) -> Callable[[Any], Any]:
    """Options that say what is written, and where.

    Args:
        holds: What the folder holds, e.g. "advice".
        made_by: What makes it, e.g. "design".
        command: How the default folder is called.
        table: What the table has.
    """
    return add_options(
        option("--plan", "only_plan", is_flag=True, help="Say what it would measure and take, and measure nothing."),
        option(
            "--out",
            type=_PATH,
            metavar="FOLDER",
            default=None,
            help=f"{holds.capitalize()} folder to make; finished measurements are kept there as they come.  "
            f"[default: runs/MODEL-{command}-TIME]",
        ),
        option(
            "--resume",
            is_flag=True,
            help=f"Go on with what an interrupted {made_by} left at --out; else refused.",
        ),
        option("--overwrite", is_flag=True, help=f"Replace {holds} that lies at --out."),
        option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables."),
        option("--csv", "csv_file", type=_PATH, metavar="FILE", default=None, help=f"{table}, one row a number."),
        option("--report", type=_PATH, metavar="FILE", default=None, help="HTML report to write.  [default: in --out]"),
        option("--no-report", is_flag=True, help="Write no report."),
    )


def refuse_output(settings: Mapping[str, Any], made_by: str) -> None:
    """Options of the output that contradict one another.

    Args:
        settings: What was given.
        made_by: What keeps its work, e.g. "design".
    """
    if settings["report"] is not None and settings["no_report"]:
        raise click.UsageError("--report and --no-report contradict one another. Give one of them.")
    if settings["resume"] and settings["out"] is None:
        raise click.UsageError(f"--resume needs --out: the folder that the interrupted {made_by} named.")
    if settings["only_plan"] and (settings["csv_file"] is not None or settings["report"] is not None):
        raise click.UsageError("--plan measures nothing: there is nothing to write. Leave out --csv and --report.")


def find_place(out: Path | None, model: str, settings: Mapping[str, Any], *, kind: FolderKind, command: str) -> Path:
    """The folder of what is made, before the model is loaded: what cannot be written there is refused now.

    Raises:
        RunError: If nothing can be saved there, or there is nothing to go on with where that was asked.
    """
    from layertracer import RunError
    from layertracer.runs import has_parts, require_claim

    if out is None:
        return next(folder for folder in default_run_folders(model, command) if not folder.exists())
    if settings["resume"] and not has_parts(out):
        raise RunError(
            f"There is nothing to go on with at {out}: no {kind.made_by} was interrupted there. Leave out --resume."
        )
    require_claim(out, overwrite=settings["overwrite"], kind=kind).release()
    return out


def telling(context: click.Context, display: ProgressDisplay, out: Path, again: str) -> Callable[[Progress], None]:
    """What is called whenever something is measured: it moves the display, and says what an interruption leaves.

    Args:
        context: The command's.
        display: Where it is shown.
        out: Where finished measurements lie.
        again: The command that goes on.
    """
    stage = ""

    def advance(progress: Progress) -> None:
        nonlocal stage
        if progress.stage != stage:
            stage = progress.stage
            display.note(f"{stage[:1].upper()}{stage[1:]}")
        display.advance(progress.done, progress.total, "measurements")
        explain_interruption(
            context, f"Interrupted: {progress.done} measurements were finished, and lie in {out}. To go on: {again}"
        )

    return advance


@contextlib.contextmanager
def saying_what_is_kept(out: Path, again: str) -> Iterator[None]:
    """Within, an error is followed by where finished measurements lie, if there are any, and how to go on."""
    from layertracer.runs import has_parts

    try:
        yield
    except Exception:
        if has_parts(out):
            say_aside(f"What was finished lies in {out}. To go on: {again}")
        raise


def announcing(display: ProgressDisplay, settings: Mapping[str, Any]) -> Callable[[Plan], None]:
    """What is called with the plan: it notes the plan's last line, but where a JSON document is asked for."""

    def announce(plan: Plan) -> None:
        if not settings["as_json"]:
            display.note(f"Plan: {str(plan).splitlines()[-1]}")

    return announce


def show_plan(plan: Plan, settings: Mapping[str, Any]) -> None:
    """Print a plan: its lines, or one JSON document."""
    if settings["as_json"]:
        say_json(plan.to_dict())
        return
    for line in str(plan).splitlines():
        say(line)


def go_on_command(given: Sequence[str], out: Path) -> str:
    """The command that goes on after an interruption of the one that was given, quoted for a shell."""
    words = list(given)
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(out)]
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


Translations = Sequence[tuple[str, Callable[[re.Match[str]], str]]]
"""What arguments are called on the command line: a pattern, and what stands in its place."""


@contextlib.contextmanager
def in_options(translations: Translations) -> Iterator[None]:
    """Within, errors speak of options where they spoke of arguments."""
    try:
        yield
    except LayerTracerError as error:
        said = str(error)
        for pattern, called in translations:
            said = re.sub(pattern, called, said)
        if said != str(error):
            error.args = (said, *error.args[1:])
        raise
