"""The traces of the study: every subject on every task at every site, kept as run folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import layertracer as lt
from layertracer._types import Site
from layertracer.api import Trace
from layertracer.miniatures import write_samples
from layertracer.tasks import Task

from study.plan import Plan
from study.subjects import Subject


def load_prompts(task: str, plan: Plan) -> Task | Sequence[lt.Sample]:
    """The prompts of a task, the same for all subjects."""
    if task == "recall":
        return write_samples(task, n=plan.n_prompts)
    return lt.load_task(task, n_shot=plan.n_shot, limit=plan.n_prompts)


def run_folder(runs: Path, subject: Subject, task: str, site: Site) -> Path:
    """Where the run of a subject lies."""
    name = subject.label.replace(" ", "-").replace("(", "").replace(")", "")
    return runs / name / f"{task}-{site}"


def make_runs(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[Path]:
    """Traces what is not there yet; a study that was stopped goes on.

    Yields:
        The folder of each run that was made.
    """
    for subject in subjects:
        missing = [
            (task, site)
            for task in plan.tasks
            for site in plan.sites
            if not run_folder(runs, subject, task, site).is_dir()
        ]
        if not missing:
            continue
        model = subject.load()
        for task, site in missing:
            mask = lt.Mask(site=site, draws=plan.n_draws)
            trace = lt.trace(model, load_prompts(task, plan), perturbation=mask)
            yield trace.save(run_folder(runs, subject, task, site))


def load_runs(subjects: Sequence[Subject], runs: Path, task: str, site: Site) -> list[Trace]:
    """The runs of some subjects on one task at one site, in their order."""
    return [lt.load_run(run_folder(runs, subject, task, site)) for subject in subjects]
