"""`layertracer compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layertracer.cli._choices import FAMILIES, ONSETS
from layertracer.cli._console import describe_terminal, say, say_drawn, say_json
from layertracer.cli._exit_codes import debug_option, explain_interruption
from layertracer.cli._options import add_options, option
from layertracer.cli._writing import Writing

if TYPE_CHECKING:
    from layertracer.api import Comparison
else:  # under test, annotations are looked up when a function is called
    Comparison = object

_PATH: Any = click.Path(path_type=Path)

_question_options = add_options(
    option("--label", "labels", metavar="NAME", multiple=True, help="Name of a model; once for each RUN, in order."),
    option("--solved", is_flag=True, help="Count only the prompts that a model solves; pairs share what both solve."),
    option(
        "--onset",
        "onsets",
        type=click.Choice(ONSETS),
        multiple=True,
        help="Onset criterion, that of the headline first; repeatable.  [default: the runs' own, then all others]",
    ),
    option(
        "--families",
        type=click.Choice(FAMILIES),
        default="mixers",
        help="Compare sizes among models with the same kinds of mixers, or among all.",
    ),
    option(
        "--family",
        "given_families",
        metavar="NAME",
        multiple=True,
        help="Family of a run's model instead of --families; once for each RUN, in order.",
    ),
    option(
        "--deep",
        "deep_depth",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.5,
        help="Relative depth above which a task particle is deep, in [0, 1).",
    ),
    option(
        "--level",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.95,
        help="Coverage of intervals; 1 - level is the significance of tests.",
    ),
    option("--resamples", "n_resamples", type=click.IntRange(min=1), default=10_000, help="Bootstrap resamples."),
    option("--min-shared", type=click.IntRange(min=2), default=8, help="Shared prompts that a paired bootstrap needs."),
    option("--grid", "n_grid", type=click.IntRange(min=1), default=None,
           help="Depths of the common grid.  [default: the layers, where all models have equally many; else 20]"),
    option("--bands", "n_bands", type=click.IntRange(min=1), default=None,
           help="Bands of depth in which kinds of mixers are compared.  [default: of 4 layers or more]"),
    option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the resamples and random permutations."),
    option("--site", metavar="SITE", default=None,
           help="Site at which runs of several perturbations are compared.  [default: the first that all have]"),
    option("--allow-mismatch", is_flag=True, help="Compare runs that ask different questions, with a warning."),
)  # fmt: skip

_output_options = add_options(
    option("--out", type=_PATH, metavar="FILE", default=None, help="HTML report to write."),
    option(
        "--csv",
        "csv_file",
        type=_PATH,
        metavar="FILE",
        default=None,
        help="Table of all numbers to write, one row a number.",
    ),
    option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables."),
)


@click.command("compare", short_help="Compare stored runs of several models.")
@click.argument("runs", nargs=-1, required=True, type=_PATH, metavar="RUN...")
@_question_options
@_output_options
@debug_option
@click.pass_context
def compare_command(context: click.Context, /, runs: tuple[Path, ...], **settings: Any) -> None:
    """Compare the models of two or more stored RUNs on relative depth.

    RUN is the folder that a trace printed, or the run.json in it. All runs must have the same task and target,
    and a perturbation in common. Two claims are judged: task particles lie deep whatever the size and the mixer; larger
    models are more robust. No model is loaded.
    """
    from layertracer.api import compare

    comparison = compare(runs, labels=settings["labels"] or None, **_comparison_settings(settings))
    writing = Writing()
    csv_file = writing.attempt(comparison.to_csv, settings["csv_file"])
    page = writing.attempt(comparison.report, settings["out"])
    explain_interruption(context, f"Interrupted: {writing.describe()}")
    _print_comparison(comparison, runs, csv_file=csv_file, page=page, as_json=settings["as_json"])
    writing.end()


def _print_comparison(
    comparison: Comparison, runs: tuple[Path, ...], *, csv_file: Path | None, page: Path | None, as_json: bool
) -> None:
    from layertracer.reports import render_comparison_text

    if as_json:
        written = {"csv": None if csv_file is None else str(csv_file), "report": None if page is None else str(page)}
        say_json({**comparison.to_dict(), "runs": [str(run) for run in runs], **written})
        return
    terminal = describe_terminal()
    say_drawn(
        render_comparison_text(
            comparison, width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only
        ).rstrip("\n")
    )
    if csv_file is not None:
        say(f"Table    {csv_file}")
    if page is not None:
        say(f"Report   {page}")


def _comparison_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    from layertracer.measures import onset_from_name

    names = ("deep_depth", "level", "n_resamples", "min_shared", "n_grid", "n_bands", "seed", "site", "allow_mismatch")
    return {
        **{name: settings[name] for name in names},
        "prompts": "solved" if settings["solved"] else "all",
        "onsets": tuple(onset_from_name(name) for name in settings["onsets"]) or None,
        "families": settings["given_families"] or settings["families"],
    }
