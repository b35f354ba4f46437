"""Options that say what a design is asked, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from layertracer.cli._choices import SEARCHES, SUBSTITUTES
from layertracer.cli._options import add_options, option

_FILE: Any = click.Path(exists=True, dir_okay=False, path_type=Path)
_ROWS = {"search_rows": "search", "compared_rows": "compared", "held_out_rows": "held_out", "row_tokens": "tokens"}


def parse_keep(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...] | None:
    """Numbers of layers, separated by commas; None where nothing is said."""
    words = [word.strip() for value in values for word in value.split(",")]
    for word in words:
        if not (word.isascii() and word.isdecimal()) or int(word) < 1:
            raise click.BadParameter(
                f"{word!r} is no number of layers. Give one or several of at least 1, e.g. 4,8.", context, parameter
            )
    return tuple(sorted({int(word) for word in words})) or None


question_options: Callable[[Any], Any] = add_options(
    option(
        "--task",
        "tasks",
        metavar="NAME|FILE",
        multiple=True,
        help="Task whose answers are judged: built-in, a file, or hf:name:split; several times for several.  "
        "[default: recall]",
    ),
    option("--no-tasks", is_flag=True, help="Judge on text alone."),
    option(
        "--text",
        type=_FILE,
        metavar="FILE",
        default=None,
        help="Text to search and to judge on; no passage is used for both.  [default: text that the model writes]",
    ),
    option("--no-text", is_flag=True, help="Search and judge on tasks alone."),
)

placement_options: Callable[[Any], Any] = add_options(
    option(
        "--keep",
        metavar="N,N",
        multiple=True,
        callback=parse_keep,
        help="Numbers of layers that keep their mixer, each by itself, e.g. 4,8.  [default: a quarter of them]",
    ),
    option(
        "--budget",
        metavar="SIZE",
        default=None,
        help="Instead of --keep: what the KV cache of one text may take, e.g. 2GiB; needs --context.",
    ),
    option(
        "--context",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        default=None,
        help="Tokens of the text whose KV cache is counted.",
    ),
    option(
        "--substitute",
        type=click.Choice(SUBSTITUTES),
        default="window",
        help="What stands in the layers that are not kept: a short window, nothing, or the mixer's mean.",
    ),
    option(
        "--window",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        default=64,
        help="Last tokens that a position sees, itself included; --substitute window only.",
    ),
    option(
        "--sinks",
        type=click.IntRange(min=0),
        metavar="TOKENS",
        default=4,
        help="First tokens of the text that every position sees besides; --substitute window only.",
    ),
)

search_options: Callable[[Any], Any] = add_options(
    option(
        "--search",
        type=click.Choice(SEARCHES),
        default="greedy",
        help="How placements are chosen: greedily from both ends, by single layers, by one trace, by pairs, or all.",
    ),
    option("--pairs", is_flag=True, help="Measure the interaction of every two layers."),
    option("--no-ratio", is_flag=True, help="Measure no curve over the number of layers kept."),
    option(
        "--random",
        "n_random",
        type=click.IntRange(min=0),
        metavar="N",
        default=200,
        help="Random placements of each size to compare with.",
    ),
    option(
        "--against",
        type=click.Choice(("published", "none")),
        default="published",
        help="Compare with published lists of this model and size, where there are any.",
    ),
    option("--seed", type=click.IntRange(min=0), default=0, help="Seed of rows, random placements and resamples."),
)

effort_options: Callable[[Any], Any] = add_options(
    option(
        "--search-rows",
        type=click.IntRange(min=1),
        metavar="N",
        default=None,
        help="Passages, and prompts of each task, that the search sees.  [default: by the model's size]",
    ),
    option(
        "--held-out-rows",
        type=click.IntRange(min=1),
        metavar="N",
        default=None,
        help="Passages, and prompts of each task, that judge.  [default: by the model's size]",
    ),
    option(
        "--compared-rows",
        type=click.IntRange(min=1),
        metavar="N",
        default=None,
        help="Of these, those on which random placements are measured, too.  [default: by the model's size]",
    ),
    option(
        "--row-tokens",
        type=click.IntRange(min=1),
        metavar="TOKENS",
        default=None,
        help="Tokens of each passage.  [default: by the window's size]",
    ),
    option(
        "--audit",
        type=click.FloatRange(0, 1),
        default=0.02,
        help="Share of the measurements that are made again the plain way, in [0, 1].",
    ),
    option(
        "--memory",
        metavar="SIZE",
        default=None,
        help="Memory to take beyond the weights, e.g. 8GiB.  [default: most of what is free]",
    ),
)


def refuse_contradictions(context: click.Context, settings: Mapping[str, Any]) -> None:
    """Options that contradict one another, or would be ignored, are a mistake."""

    def is_given(name: str) -> bool:
        return context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    if settings["budget"] is not None and settings["keep"] is not None:
        raise click.UsageError("--budget stands instead of --keep: it says how many layers can be kept. Give one.")
    if settings["budget"] is not None and settings["context"] is None:
        raise click.UsageError("--budget needs --context: the cache grows with the text. Add e.g. --context 32768.")
    for name in ("window", "sinks"):
        if settings["substitute"] != "window" and is_given(name):
            raise click.UsageError(
                f"--{name} has no meaning with --substitute {settings['substitute']}: it is for window."
            )
    for name, other in (("tasks", "no_tasks"), ("text", "no_text")):
        if settings[name] and settings[other]:
            flag = "--task" if name == "tasks" else "--text"
            raise click.UsageError(f"{flag} and --{other.replace('_', '-')} contradict one another. Give one of them.")
    if settings["no_tasks"] and settings["no_text"]:
        raise click.UsageError("Without tasks and without text there is nothing to judge on. Leave one of them.")


def design_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a design takes, as it is called, beside the model and where it is written."""
    asked = {name: settings[name] for name in ("keep", "budget", "context", "search", "seed", "n_random", "pairs")}
    rows = {name: settings[option] for option, name in _ROWS.items() if settings[option] is not None}
    return asked | {
        "tasks": () if settings["no_tasks"] else settings["tasks"] or ("recall",),
        "text": False if settings["no_text"] else None if settings["text"] is None else str(settings["text"]),
        "substitute": _make_substitute(settings),
        "ratio": not settings["no_ratio"],
        "rows": rows or None,
        "audit": settings["audit"],
        "memory": settings["memory"],
    }


def _make_substitute(settings: Mapping[str, Any]) -> Any:
    from layertracer import MeanMixer, NoMixer, Window

    if settings["substitute"] == "window":
        return Window(settings["window"], sinks=settings["sinks"])
    return NoMixer() if settings["substitute"] == "none" else MeanMixer()
