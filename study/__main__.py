"""`python -m study`: trace all subjects, compare them, write docs/miniatures.md and its figures."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pandas as pd

from layertracer._files import write_whole

from study.figures import draw_figures
from study.findings import collect_findings
from study.page import write_page
from study.plan import Plan
from study.runs import make_readings, make_runs
from study.subjects import RESULTS, ROOT, list_subjects


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), default=ROOT / "study" / "runs", help="Folder of the traces.")
@click.option("--page-only", is_flag=True, help="Write the page from the stored findings; nothing is traced.")
def main(runs: Path, *, page_only: bool) -> None:
    """Make the study of the miniatures; traces that are there are kept."""
    plan = Plan()
    if not page_only:
        subjects, began = list_subjects(), time.perf_counter()
        for folder in make_runs(subjects, runs, plan):
            click.echo(f"{time.perf_counter() - began:6.0f} s  {folder.parent.name}/{folder.name}")
        for path in make_readings(subjects, runs, plan):
            click.echo(f"{time.perf_counter() - began:6.0f} s  {path.parent.name}/{path.name}")
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        collect_findings(subjects, runs, plan).to_parquet(RESULTS, index=False)
    findings = pd.read_parquet(RESULTS)
    draw_figures(findings, ROOT / "docs" / "images")
    page = ROOT / "docs" / "miniatures.md"
    write_whole(page, write_page(findings, plan).encode())
    click.echo(page)


if __name__ == "__main__":
    main()
