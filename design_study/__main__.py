"""`python -m design_study`: score placements, train hybrids, write the study's part of docs/design.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import click
import pandas as pd

from layertracer._errors import LayerTracerError

from design_study.findings import as_choices, choose_repeated, collect_findings
from design_study.page import write_pages
from design_study.plan import PARENTS, STATE, Recipe, list_jobs
from design_study.recall import HYBRIDS, take_apart
from design_study.results import TABLES, read_table, table_file, write_table
from design_study.scores import score_parent
from design_study.trained import collect_alignment, collect_students, train_students
from design_study.windows import MODELS, advise, place_windows

_PARTS = (*TABLES, "page")


@click.command()
@click.option("--part", "parts", type=click.Choice(_PARTS), multiple=True, help="Which part; all of them without.")
@click.option("--minutes", type=click.FloatRange(min=0), help="No student is begun after so many minutes.")
@click.option("--state", type=click.Path(path_type=Path), default=STATE, show_default=True, help="Finished students.")
def main(parts: tuple[str, ...], *, minutes: float | None, state: Path) -> None:
    """Make the trained proof of design advice; students that are there are kept.

    With --part page, nothing is measured and the page is written from the stored results.
    """
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "scores": lambda: _piecewise(state / "scores", score_parent, PARENTS),
        "windows": lambda: _piecewise(state / "windows", place_windows, MODELS),
        "advice": lambda: _piecewise(state / "advice", advise, MODELS),
        "recall": lambda: _piecewise(state / "recall", take_apart, HYBRIDS),
        "students": lambda: _train(state, minutes),
        "alignment": lambda: collect_alignment(state),
        "findings": _find,
    }
    try:
        for part in parts or _PARTS:
            if part == "page":
                for path in write_pages():
                    click.echo(path)
            else:
                write_table(table_file(part), makers[part]())
                click.echo(table_file(part))
    except LayerTracerError as error:
        raise click.ClickException(str(error)) from None


def _piecewise(folder: Path, make: Callable[[str], pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """The tables of some models, one below the other; each is kept as it comes and not made again."""
    tables = []
    for name in names:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            write_table(path, make(name))
            click.echo(path)
        tables.append(pd.read_parquet(path))
    return pd.concat(tables, ignore_index=True)


def _find() -> pd.DataFrame:
    """What scores and advice foretold of the students."""
    scores = pd.concat([read_table("scores"), as_choices(read_table("advice"))], ignore_index=True)
    return collect_findings(read_table("students"), scores, read_table("alignment"))


def _train(state: Path, minutes: float | None) -> pd.DataFrame:
    """Trains what is missing, as long as there is time; all students that are there."""
    began = time.perf_counter()
    jobs = list_jobs(choose_repeated(read_table("scores")))
    in_time = takewhile(lambda _: minutes is None or time.perf_counter() - began < 60 * minutes, jobs)
    for path in train_students(in_time, state, Recipe()):
        click.echo(f"{time.perf_counter() - began:6.0f} s  {path.stem}")
    return collect_students(state)


if __name__ == "__main__":
    main()
