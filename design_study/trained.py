"""Training of the students, one after another; what is finished is kept at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pandas as pd
import torch

from layertracer._errors import UsageError
from layertracer._files import write_whole

from design_study.alignment import Aligned, align_mixers
from design_study.distillation import Parent, distil
from design_study.judgement import judge
from design_study.plan import Job, Recipe, show_placement
from design_study.students import load_trained, make_student


def train_students(jobs: Iterable[Job], folder: Path, recipe: Recipe) -> Iterator[Path]:
    """Trains the students that are not there yet; a study that was stopped goes on.

    Args:
        jobs: Which ones, in order.
        folder: Where results and aligned mixers are kept.
        recipe: The budget of each.

    Yields:
        The file of each student's results.

    Raises:
        UsageError: If the folder holds results of another recipe.
    """
    _check_recipe(folder, recipe)
    parent = cache(lambda name: Parent(load_trained(name), recipe))

    @cache
    def align(name: str, seed: int) -> Aligned:
        return align_mixers(parent(name).module, seed, recipe, state_file=folder / "aligned" / f"{name}-{seed}.pt")

    for job in jobs:
        path = folder / "students" / f"{name_job(job)}.json"
        if not path.is_file():
            record = _train(job, parent(job.parent), align(job.parent, job.seed), recipe)
            write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
            yield path


def name_job(job: Job) -> str:
    """The name of a job's file."""
    return f"{job.parent}-{job.seed}-{show_placement(job.kept)}"


def collect_students(folder: Path) -> pd.DataFrame:
    """All finished students, a row each, sorted."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "students").glob("*.json"))]
    return pd.DataFrame(records).sort_values(["parent", "n_kept", "kept", "seed"], ignore_index=True)


def collect_alignment(folder: Path) -> pd.DataFrame:
    """What aligned mixers miss: a row a parent, seed and layer."""
    rows = []
    for path in sorted((folder / "aligned").glob("*.pt")):
        parent, _, seed = path.stem.rpartition("-")
        errors = torch.load(path, weights_only=True)["errors"]
        rows += [
            {"parent": parent, "seed": int(seed), "layer": layer, "missed_share": round(error, 6)}
            for layer, error in enumerate(errors)
        ]
    return pd.DataFrame(rows)


def _train(job: Job, parent: Parent, aligned: Aligned, recipe: Recipe) -> dict[str, object]:
    """The record of one student: what it does after the first stage, and after the second."""
    student = make_student(parent.module, job.kept, aligned.mixers)
    before = judge(student, parent, recipe)
    cpu_s = distil(student.train(), parent, job.seed, recipe)
    after = asdict(judge(student, parent, recipe))
    return {
        "parent": job.parent,
        "n_kept": len(job.kept),
        "kept": show_placement(job.kept),
        "seed": job.seed,
        "n_steps": recipe.n_steps,
        **{name: round(value, 6) for name, value in after.items()},
        "aligned_kl_nats": round(before.kl_nats, 6),
        "aligned_recall": round(before.recall, 6),
        "cpu_s": round(cpu_s, 1),
    }


def _check_recipe(folder: Path, recipe: Recipe) -> None:
    """Notes beside the results how they came about, and refuses to mix them with others."""
    path, text = folder / "recipe.json", json.dumps(asdict(recipe), indent=1) + "\n"
    if not path.is_file():
        write_whole(path, text.encode())
    elif path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{path} is of another recipe than {asdict(recipe)}. Delete {folder}, and everything is trained anew."
        )
