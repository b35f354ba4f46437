"""The traces of the study: every subject on every task at every site, kept as run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import layertracer as lt
from layertracer._errors import UsageError
from layertracer._types import Site
from layertracer.api import Trace
from layertracer.tasks import Task

from study.lenses import TargetReading, fit_linear_lens, read_targets
from study.plan import PARTICLE_SITE, Plan
from study.subjects import Subject
from training import write_samples


def load_prompts(task: str, plan: Plan) -> Task | Sequence[lt.Sample]:
    """The prompts of a task, the same for all subjects."""
    if task == "recall":
        return write_samples(task, n=plan.n_prompts)
    return lt.load_task(task, n_shot=plan.n_shot, limit=plan.n_prompts)


def run_folder(runs: Path, subject: Subject, task: str, site: Site) -> Path:
    """Where the run of a subject lies."""
    name = subject.label.replace(" ", "-").replace("(", "").replace(")", "")
    return runs / name / f"{task}-{site}"


def reading_file(runs: Path, subject: Subject, task: str) -> Path:
    """Where lies what the linear lens reads on a task."""
    return run_folder(runs, subject, task, PARTICLE_SITE).parent / f"{task}-linear-lens.npz"


def make_runs(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[Path]:
    """Traces what is not there yet; a study that was stopped goes on.

    Yields:
        The folder of each run that was made.

    Raises:
        UsageError: If runs of a subject are there that are of other weights or of another plan.
    """
    for subject in subjects:
        _check_source(runs, subject, plan)
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


def _check_source(runs: Path, subject: Subject, plan: Plan) -> None:
    """Notes beside the runs of a subject what they are of, and refuses to mix them with others."""
    path = run_folder(runs, subject, plan.tasks[0], PARTICLE_SITE).parent / "source.json"
    source = json.dumps({"weights": subject.weights, "plan": asdict(plan)}, indent=1)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        path.write_text(source, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != source:
        raise UsageError(
            f"{path.parent} holds runs of other weights or of another plan than those of this study. Delete the "
            "folder, and they are made anew."
        )


def make_readings(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[Path]:
    """Reads the runs of the trained miniatures through the linear lens, where that is not done yet.

    Yields:
        The file of each reading that was made.
    """
    for subject in with_linear_lens(subjects):
        missing = [task for task in plan.tasks if not reading_file(runs, subject, task).is_file()]
        if not missing:
            continue
        model = subject.load()
        lens = fit_linear_lens(model)
        for task in missing:
            (trace,) = load_runs([subject], runs, task, PARTICLE_SITE)
            path = reading_file(runs, subject, task)
            read_targets(lens, model, trace.prompts).save(path)
            yield path


def with_linear_lens(subjects: Sequence[Subject]) -> list[Subject]:
    """The trained miniatures; SmolLM2 has no corpus here to fit a lens on."""
    return [subject for subject in subjects if subject.is_trained and subject.miniature is not None]


def load_read_runs(subjects: Sequence[Subject], runs: Path, task: str) -> list[Trace]:
    """The runs of some subjects on one task as the linear lens reads them, in their order."""
    traces = load_runs(subjects, runs, task, PARTICLE_SITE)
    readings = [TargetReading.load(reading_file(runs, subject, task)) for subject in subjects]
    return [reading.put_into(trace) for reading, trace in zip(readings, traces, strict=True)]


def load_runs(subjects: Sequence[Subject], runs: Path, task: str, site: Site) -> list[Trace]:
    """The runs of some subjects on one task at one site, in their order."""
    return [lt.load_run(run_folder(runs, subject, task, site)) for subject in subjects]
