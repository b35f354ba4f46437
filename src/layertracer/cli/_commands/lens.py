"""`layertracer lens`: fit a lens, show what one is worth, and read a prompt's grid through one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layertracer._errors import printable
from layertracer._types import LensGrid
from layertracer.cli._choices import DEFAULT_MODEL
from layertracer.cli._console import describe_terminal, quiet_stdout, say, say_json, say_table
from layertracer.cli._exit_codes import debug_option, explain_interruption
from layertracer.cli._options import add_options, load_asked_model, model_options, option
from layertracer.cli._progress import showing_progress

if TYPE_CHECKING:
    from layertracer.tracing import Progress
else:  # under test, annotations are looked up when a function is called
    Progress = object

_PATH: Any = click.Path(path_type=Path)
_KINDS = ("tuned", "linear", "jacobian")

_fit_options: Callable[[Any], Any] = add_options(
    option(
        "--text",
        metavar="FILE|TEXT",
        default=None,
        help="Text to fit, choose and report on, three ways apart.  [default: what the model writes itself]",
    ),
    option("--kind", type=click.Choice(_KINDS), default="tuned", help="How the lens is fitted."),
    option("--name", metavar="NAME", default=None, help="What its readings are called.  [default: its kind]"),
    option("--rows", type=click.IntRange(min=3), default=None,
           help="Passages, of all three parts together.  [default: 64; 16 of a jacobian lens]"),
    option("--row-tokens", type=click.IntRange(min=2), default=None,
           help="Tokens of a passage.  [default: 128; 64 of a jacobian lens; fewer where the text is short]"),
    option("--seed", type=click.IntRange(min=0), default=0, help="Seed of all that is drawn."),
    option("--out", type=_PATH, metavar="FOLDER", required=True, help="Folder of the lens to make."),
    option("--overwrite", is_flag=True, help="Replace a lens that lies at --out."),
    option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table."),
)  # fmt: skip


@click.group("lens", short_help="Fit lenses, and show what they are worth.")
def lens_command() -> None:
    """Fit lenses that translate a layer's stream before the model's tail reads it, and show what they are worth."""


@click.command("fit", short_help="Fit a lens to a model.")
@click.argument("model", default=DEFAULT_MODEL)
@_fit_options
@model_options
@debug_option
@click.pass_context
def fit_command(context: click.Context, /, model: str, **settings: Any) -> None:
    """Fit a lens to MODEL on text, and report on text that it was not fitted on.

    A layer whose translation is no better than none falls back to the logit lens, and the table says so. Progress goes
    to standard error. After Ctrl-C nothing is kept.
    """
    from layertracer.runs import LENS, refuse_occupied

    refuse_occupied(settings["out"], overwrite=settings["overwrite"], kind=LENS)
    explain_interruption(context, "Interrupted: no lens was saved.")
    with quiet_stdout(), showing_progress() as display:
        display.begin(f"Loading {model}")
        from layertracer.api import fit_lens

        loaded = load_asked_model(model, settings)
        display.begin(f"Fitting a {settings['kind']} lens to {loaded.name}")

        def advance(progress: Progress) -> None:
            display.advance(progress.done, progress.total, progress.stage)

        lens = fit_lens(
            loaded,
            settings["text"],
            kind=settings["kind"],
            name=settings["name"],
            n_rows=settings["rows"],
            row_tokens=settings["row_tokens"],
            seed=settings["seed"],
            progress=advance,
        )
        folder = lens.save(settings["out"], overwrite=settings["overwrite"])
    explain_interruption(context, f"Interrupted: the lens is whole, and is saved in {folder}")
    facts = {"name": lens.name, "kind": lens.kind, "facts": lens.facts}
    _show(facts | {"reports": lens.details["reports"], "folder": str(folder)}, as_json=settings["as_json"])


@click.command("show", short_help="Show what a stored lens is worth.")
@click.argument("folder", type=_PATH)
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@debug_option
def show_command(folder: Path, *, as_json: bool) -> None:
    """Show what the lens in FOLDER was fitted on, and what it is worth beside the logit lens.

    No model is loaded. For every layer: KL(final ‖ lens) in nats, its bias, and how often the top token is the final
    one, on text that the lens was not fitted on.
    """
    from layertracer.tracing import describe_lens

    _show({**describe_lens(folder), "folder": str(folder)}, as_json=as_json)


@click.command("grid", short_help="Show what lenses read at every position and layer of a prompt.")
@click.argument("model")
@click.argument("prompt")
@option(
    "--lens",
    "lenses",
    metavar="FOLDER|logit",
    multiple=True,
    help="Lens to read through beside the logit lens: the folder of a fitted one; repeatable.",
)
@option("--allow-pickle", is_flag=True, help="Read published lenses, which are pickled; no code in them runs.")
@option("--chat", is_flag=True, help="Put the prompt into the tokenizer's chat template.")
@option("--report", type=_PATH, metavar="FILE", default=None, help="HTML page of the grid to write.")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@model_options
@debug_option
def grid_command(model: str, prompt: str, **settings: Any) -> None:
    """Show the most probable next token of MODEL at every position and layer of PROMPT.

    One table for each lens, the logit lens first: a row for every layer, the model's own output last, and the last
    positions that fit; --report writes a page with all of them.
    """
    with quiet_stdout(), showing_progress() as display:
        display.begin(f"Loading {model}")
        from layertracer.api import load_lens, read_grid

        loaded = load_asked_model(model, settings)
        lenses = [
            "logit" if one == "logit" else load_lens(one, loaded, allow_pickle=settings["allow_pickle"])
            for one in dict.fromkeys(settings["lenses"])
        ]
        display.begin("Reading the grid")
        grid = read_grid(loaded, prompt, lens=lenses, chat=settings["chat"])
    if settings["report"] is not None:
        from layertracer.reports import write_grid_report

        write_grid_report(grid, settings["report"])
    if settings["as_json"]:
        say_json(grid.to_dict())
        return
    for name in grid.readings:
        _show_grid(grid, name)
    if settings["report"] is not None:
        say(f"Report  {settings['report']}")


_CELL = 10


def _show_grid(grid: LensGrid, name: str) -> None:
    """Print what a lens reads at the last positions that fit."""
    room = max(1, (describe_terminal().width - 5) // (_CELL + 2))
    positions = range(max(0, len(grid.token_ids) - room), len(grid.token_ids))
    reading = grid.readings[name]
    say(f"{name}: most probable next token at positions {positions.start}–{positions.stop - 1}")
    header = ("layer", *(_cut(grid.text(grid.token_ids[position])) for position in positions))
    rows = [
        ("emb" if not row else str(row - 1), *(_cut(grid.text(int(ids[position]))) for position in positions))
        for row, ids in enumerate(reading.top_ids)
    ]
    say_table(header, rows)


def _cut(text: str) -> str:
    shown = printable(text).replace("\n", "↵").replace(" ", "␣")
    return shown if len(shown) <= _CELL else f"{shown[: _CELL - 1]}…"


def _show(lens: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a lens's reports, layer by layer, the embeddings first."""
    if as_json:
        say_json(dict(lens))
        return
    own, logit = lens["reports"].get(lens["name"]), lens["reports"].get("logit")
    if own is None or logit is None:
        say(f"{lens['name']}: a {lens['kind']} lens without a report")
    else:
        say(f"{lens['name']}: a {lens['kind']} lens, reported on {own['n_tokens']:,} tokens that it was not fitted on")
        say_table(
            ("layer", "KL, nats", "logit", "bias", "logit", "top-1", "logit", ""),
            [_row(index, own, logit) for index in range(len(own["kl_nats"]))],
        )
        if own["fallback"]:
            say("Where it says fallback, the lens was no better than the logit lens, which is used there.")
    for note in (lens["facts"].get("text"), *lens["facts"].get("notes", ())):
        if note:
            say(str(note))
    say(f"Lens    {lens['folder']}")


def _row(index: int, own: Mapping[str, Any], logit: Mapping[str, Any]) -> tuple[str, ...]:
    layer = "emb" if not index else str(index - 1)
    numbers = [_shown(one[name][index], digits) for name, digits in _COLUMNS for one in (own, logit)]
    return (layer, *numbers, "fallback" if index - 1 in own["fallback"] else "")


_COLUMNS = (("kl_nats", 3), ("bias_nats", 3), ("top1", 2))


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


for _command in (fit_command, show_command, grid_command):
    lens_command.add_command(_command)
