"""The traces of the study: every subject on every task at every site, kept as run folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import layertracer as lt
from layertracer._types import Site
from layertracer.api import Trace
from layertracer.miniatures import write_samples
from layertracer.tasks import Task

from study.subjects import Subject

TASKS = ("antonym", "synonym", "present-past", "singular-plural", "recall")
"""Word-pair tasks of which the miniatures know every word, and associative recall."""
SITES: tuple[Site, ...] = ("block_output", "mixer_output", "state")
N_SHOT = 4
N_PROMPTS = 48
N_DRAWS = 5


def load_prompts(task: str, *, n_prompts: int = N_PROMPTS) -> Task | Sequence[lt.Sample]:
    """The prompts of a task, the same for all subjects."""
    if task == "recall":
        return write_samples(task, n=n_prompts)
    return lt.load_task(task, n_shot=N_SHOT, limit=n_prompts)


def run_folder(runs: Path, subject: Subject, task: str, site: Site) -> Path:
    """Where the run of a subject lies."""
    name = subject.label.replace(" ", "-").replace("(", "").replace(")", "")
    return runs / name / f"{task}-{site}"


def make_runs(subjects: Sequence[Subject], runs: Path, *, n_prompts: int = N_PROMPTS) -> Iterator[Path]:
    """Traces what is not there yet; a study that was stopped goes on.

    Yields:
        The folder of each run that was made.
    """
    for subject in subjects:
        missing = [
            (task, site) for task in TASKS for site in SITES if not run_folder(runs, subject, task, site).is_dir()
        ]
        if not missing:
            continue
        model = subject.load()
        for task, site in missing:
            trace = lt.trace(
                model, load_prompts(task, n_prompts=n_prompts), perturbation=lt.Mask(site=site, draws=N_DRAWS)
            )
            yield trace.save(run_folder(runs, subject, task, site))


def load_runs(subjects: Sequence[Subject], runs: Path, task: str, site: Site) -> list[Trace]:
    """The runs of some subjects on one task at one site, in their order."""
    return [lt.load_run(run_folder(runs, subject, task, site)) for subject in subjects]
