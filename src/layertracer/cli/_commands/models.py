"""`layertracer models`."""

from __future__ import annotations

import dataclasses

import click

from layertracer.cli._console import quiet_stdout, say, say_json, say_table
from layertracer.cli._exit_codes import debug_option
from layertracer.cli._options import option


@click.command("models", short_help="List the embedded models.")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of the table.")
@debug_option
def models_command(*, as_json: bool) -> None:
    """List the models that come with Python packages, without any hub.

    Every other command also takes an id on the Hugging Face hub, a folder with a checkpoint, or a .gguf file.
    """
    with quiet_stdout():
        from layertracer.models import list_embedded

        embedded = list_embedded()
    if as_json:
        say_json([dataclasses.asdict(model) for model in embedded])
        return
    say_table(
        ("name", "installed", "parameters", "licence", "description"),
        [
            (model.name, "yes" if model.is_installed else "no", model.n_parameters, model.licence, model.description)
            for model in embedded
        ],
    )
    say()
    say("Other models: an id on the Hugging Face hub, a folder with a checkpoint, or a .gguf file.")
