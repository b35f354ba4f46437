"""`python -m training`: train the miniatures."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import click

from layertracer._errors import LayerTracerError
from layertracer._files import write_whole

from training import FAST, FULL, ask_miniatures, make_miniatures, write_data_card

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--out", type=_FOLDER, default=Path("miniatures"), show_default=True, help="Folder of the checkpoints.")
@click.option("--embedded", type=_FOLDER, help="Folder of those that are part of the package.")
@click.option("--state", type=_FOLDER, help="Folder of unfinished trainings, which go on from there.")
@click.option("--device", default="cpu", show_default=True, help="Where to train: cpu, cuda, cuda:1, ...")
@click.option("--compile", "compiles", is_flag=True, help="Let torch compile each model first (needs a C++ compiler).")
@click.option("--steps", type=click.IntRange(min=1), help=f"Steps of training, {FULL.n_steps:,} without.")
@click.option("--fast", is_flag=True, help="A few steps only: shows that everything works.")
@click.option("--ask", is_flag=True, help="Train nothing; ask the models that are there again, and write their cards.")
def main(  # noqa: PLR0913 - one argument an option
    names: tuple[str, ...],
    *,
    out: Path,
    embedded: Path | None,
    state: Path | None,
    device: str,
    compiles: bool,
    steps: int | None,
    fast: bool,
    ask: bool,
) -> None:
    """Train miniatures from the corpus to checkpoints; all of them without NAMES."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = FAST if fast else FULL
    flags = [flag for flag, is_set in (("--fast", fast), ("--compile", compiles)) if is_set]
    if device != "cpu":
        flags.append(f"--device {device}")
    if steps is not None:
        recipe, flags = replace(recipe, n_steps=steps), [*flags, f"--steps {steps}"]
    try:
        if ask:
            folders = ask_miniatures(names, folder=out, embedded_folder=embedded)
        else:
            folders = make_miniatures(
                names,
                folder=out,
                embedded_folder=embedded,
                state_folder=state,
                recipe=recipe,
                device=device,
                compiles=compiles,
                command=" ".join(["python -m training", *flags]),
            )
    except LayerTracerError as error:
        raise click.ClickException(str(error)) from None
    write_whole(out / "README.md", write_data_card().encode())
    for folder in folders:
        click.echo(folder)


if __name__ == "__main__":
    main()
