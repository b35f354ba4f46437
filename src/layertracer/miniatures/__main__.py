"""`python -m layertracer.miniatures`: train the miniatures."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from layertracer._errors import LayerTracerError
from layertracer.miniatures import FAST, FULL, make_miniatures
from layertracer.miniatures._data_card import write_data_card


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("miniatures"),
    show_default=True,
    help="Folder for the checkpoints.",
)
@click.option("--embedded", type=click.Path(path_type=Path), help="Folder for those that are part of the package.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="Folder for unfinished trainings, which go on from there."
)
@click.option("--fast", is_flag=True, help="A few steps only: shows that everything works.")
def main(names: tuple[str, ...], out: Path, embedded: Path | None, state: Path | None, fast: bool) -> None:
    """Train miniatures from the corpus to checkpoints; all of them without NAMES."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        folders = make_miniatures(
            names,
            folder=out,
            embedded_folder=embedded,
            state_folder=state,
            recipe=FAST if fast else FULL,
            command="python -m layertracer.miniatures" + (" --fast" if fast else ""),
        )
        out.mkdir(parents=True, exist_ok=True)
        (out / "README.md").write_text(write_data_card(), encoding="utf-8")
    except LayerTracerError as error:
        raise click.ClickException(str(error)) from None
    for folder in folders:
        click.echo(folder)


if __name__ == "__main__":
    main()
