"""The command `layertracer` and its subcommands."""

from __future__ import annotations

import os

import click

from layertracer.cli._advice import hide_advice_on_kernels
from layertracer.cli._commands.causal import causal_command
from layertracer.cli._commands.compare import compare_command
from layertracer.cli._commands.design import design_command
from layertracer.cli._commands.inspect import inspect_command
from layertracer.cli._commands.lens import lens_command
from layertracer.cli._commands.models import models_command
from layertracer.cli._commands.plan import plan_command
from layertracer.cli._commands.report import report_command
from layertracer.cli._commands.tasks import tasks_command
from layertracer.cli._commands.trace import trace_command
from layertracer.cli._commands.validate import validate_command
from layertracer.cli._commands.verify import verify_command
from layertracer.cli._exit_codes import CommandLine, debug_option
from layertracer.cli._library_messages import escape_library_messages


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the version and end; the version is looked up only then."""
    del parameter
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("layertracer")
    except PackageNotFoundError:
        number = "(not installed, run from its source)"
    click.echo(f"layertracer {number}")
    context.exit()


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@debug_option
def main() -> None:
    """Where a language model starts executing a task, and where it breaks most easily.

    Begin with `layertracer trace`: it traces the embedded default model on antonyms and writes a report.

    Exit codes: 0 done, 1 something that you can act upon, 2 a command that makes no sense, 130 interrupted (what was
    finished is kept).
    """
    # Read by OpenMP when torch is loaded. Threads that wait actively take the cores from those that work as soon as
    # another program runs: with one of two cores busy, a trace of SmolLM2 took 2.7 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hide_advice_on_kernels()
    escape_library_messages()


for _command in (
    trace_command,
    plan_command,
    design_command,
    inspect_command,
    models_command,
    tasks_command,
    report_command,
    compare_command,
    verify_command,
    causal_command,
    lens_command,
    validate_command,
):
    main.add_command(_command)
