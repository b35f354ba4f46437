"""`layertracer inspect`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from layertracer.cli._choices import DEFAULT_MODEL, SITES
from layertracer.cli._console import quiet_stdout, say, say_json, say_table
from layertracer.cli._exit_codes import debug_option
from layertracer.cli._options import load_asked_model, model_options, option
from layertracer.cli._progress import showing_progress

if TYPE_CHECKING:
    from layertracer._types import SelfCheck
    from layertracer.runs import ModelRecord
else:  # under test, annotations are looked up when a function is called
    ModelRecord = SelfCheck = object


@click.command("inspect", short_help="Show a model's layers and its self-check.")
@click.argument("model", default=DEFAULT_MODEL)
@model_options
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the tables.")
@debug_option
def inspect_command(model: str, *, as_json: bool, **settings: Any) -> None:
    """Show the layers of MODEL, the kind of each, and the self-check.

    MODEL is the embedded default (smollm2), an id on the hub, a folder with a checkpoint, or a .gguf file. The kinds
    are found by running the model, not looked up by its name.
    """
    with quiet_stdout(), showing_progress() as display:
        display.begin(f"Loading {model}")
        from layertracer.tracing import describe_model

        loaded = load_asked_model(model, settings)
        record = describe_model(loaded)
        proved = loaded.check_everything()
    if as_json:
        check = dataclasses.asdict(proved) | {"passed": proved.passed}
        say_json({"model": dataclasses.asdict(record), "self_check": check, "sites": _sites(proved)})
        return
    _print_model(record)
    say()
    say_table(
        ("layer", "path", "mixer", "mlp", "parameters"),
        [(layer.index, layer.path, layer.mixer, layer.mlp, layer.n_parameters) for layer in record.layers],
    )
    say()
    _print_self_check(proved)


def _print_model(record: ModelRecord) -> None:
    say(f"{record.name}: {record.class_name}, {record.n_parameters:,} parameters")
    facts = f"{record.n_layers} layers, width {record.d_model}, vocabulary {record.d_vocab}"
    say(f"{facts}, {record.dtype} on {record.device}")
    if record.revision is not None:
        say(f"revision {record.revision}")


def _print_self_check(check: SelfCheck) -> None:
    verdict = "passed" if check.passed else "NOT passed"
    how = {"ladder": "one pass (ladder)", "plain": "one layer at a time (plain)"}[check.method]
    rows = ", prompts one at a time" if check.row_by_row else ""
    say(f"Self-check {verdict}; method: {how}{rows}; sites: {', '.join(_sites(check))}")
    say_table(
        ("check", "error", "allowed", "unit", "result", "meaning"),
        [
            (
                one.name,
                f"{one.error:.1e}",
                f"{one.tolerance:.1e}",
                one.unit,
                "ok" if one.passed else "FAILED",
                one.meaning,
            )
            for one in check.checks
        ],
    )
    for note in check.notes:
        say(f"Note: {note}")


def _sites(check: SelfCheck) -> list[str]:
    """The sites at which this model can be perturbed."""
    proved = {one.name for one in check.checks if one.passed}
    return [site for site in SITES if site == "block_output" or site in proved]
