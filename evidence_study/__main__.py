"""`python -m evidence_study`: validate the embedded models, and write docs/evidence-*.md from what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

import layertracer as lt
from layertracer._errors import LayerTracerError

from evidence_study.page import is_interrupted, write_pages
from evidence_study.plan import EVERYTHING, RESULTS, SEED, STATE, Asked, prose


@click.command()
@click.option("--only", "names", multiple=True, help="Names of validations; all of them without.")
@click.option("--part", type=click.Choice(["evidence", "page"]), help="Measure alone, or write the pages alone.")
@click.option("--state", type=click.Path(path_type=Path), default=STATE, show_default=True, help="Unfinished stages.")
def main(names: tuple[str, ...], *, part: str | None, state: Path) -> None:
    """Validate the embedded models on one thread; what was finished is kept, and what was stopped goes on.

    With --part page, nothing is measured and the pages are written from the stored evidence.
    """
    torch.set_num_threads(1)
    try:
        for asked in () if part == "page" else EVERYTHING:
            if (not names or asked.name in names) and not _is_finished(RESULTS / asked.name):
                click.echo(_measure(asked, state))
        if part != "evidence":
            for path in write_pages():
                click.echo(path)
    except LayerTracerError as error:
        raise click.ClickException(str(error)) from None


def _is_finished(path: Path) -> bool:
    """Whether evidence is stored of which every stage was reached."""
    return path.is_dir() and not is_interrupted(lt.load_evidence(path))


def _measure(asked: Asked, state: Path) -> Path:
    """Measure, and store what was found; what was stopped by hand is stored as far as it came."""
    try:
        evidence = lt.validate(
            lt.load_model(asked.model),
            lt.load_task(asked.task, limit=asked.n_prompts, seed=SEED),
            text=prose() if asked.has_text else None,
            seed=SEED,
            out=state / asked.name,
            overwrite=True,
            progress=_said(asked.name),
            **asked.options,
        )
    except KeyboardInterrupt as stop:
        found = getattr(stop, "record", None)
        if found is not None:
            found.save(RESULTS / asked.name, overwrite=True)
        raise
    return evidence.save(RESULTS / asked.name, overwrite=True)


def _said(name: str) -> Callable[[Any], None]:
    stages: set[str] = set()

    def say(progress: Any) -> None:
        if progress.stage not in stages:
            stages.add(progress.stage)
            click.echo(f"{time.strftime('%H:%M:%S')} {name}: {progress.stage}, {progress.done} of {progress.total}")

    return say


if __name__ == "__main__":
    main()
