"""`python -m design_study`: train hybrids, score placements, write docs/design.md."""

from __future__ import annotations

import time

import click

from design_study.plan import STATE, Recipe, list_jobs
from design_study.trained import train_students


@click.command()
def main() -> None:
    """x."""
    began = time.perf_counter()
    for path in train_students(list_jobs(), STATE, Recipe()):
        click.echo(f"{time.perf_counter() - began:6.0f} s  {path.stem}")


if __name__ == "__main__":
    main()
