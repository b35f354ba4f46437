"""What the runs say: every number of the page, in one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import layertracer as lt
from layertracer._types import Site
from layertracer.comparisons import ComparisonSettings

from study.plan import PARTICLE_SITE, Plan
from study.runs import load_read_runs, load_runs, with_linear_lens
from study.subjects import SMOLLM2, Subject
from training import SCALED

_KEPT = {
    "depth": ("model", "profile", "headline", "verdict"),
    "lens": ("model", "verdict", "headline"),
    "size": ("trend", "headline", "verdict"),
    "mixer": ("model", "difference", "difference_profile"),
    "hybrid": ("model", "profile", "mixer"),
}
"""Parts of a comparison's table that the page uses, by question."""


def collect_findings(subjects: Sequence[Subject], runs: Path, plan: Plan) -> pd.DataFrame:
    """All comparisons of the study.

    Args:
        subjects: The subjects whose runs are there.
        runs: Folder of the runs.
        plan: What was asked.

    Returns:
        The table of `Comparison.to_frame` with the columns `question`, `task` and `site` before it.
    """
    parts = [
        *_compare_depths(subjects, runs, plan),
        *_compare_lenses(subjects, runs, plan),
        *_compare_sizes(subjects, runs, plan),
        *_compare_mixers(subjects, runs, plan),
        *_describe_hybrids(subjects, runs, plan),
        *_describe_twins(subjects, runs, plan),
    ]
    return pd.concat(parts, ignore_index=True)


def _compare_depths(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Claim 1: all trained models, on each task."""
    chosen = [subject for subject in subjects if subject.is_trained]
    for task in plan.tasks:
        yield _compare(chosen, runs, task, PARTICLE_SITE, question="depth", settings=_settings(plan))


def _compare_lenses(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Claim 1 for the trained miniatures, by both lenses."""
    chosen = with_linear_lens(subjects)
    for task in plan.tasks:
        for lens, traces in (
            ("logit", load_runs(chosen, runs, task, PARTICLE_SITE)),
            ("linear", load_read_runs(chosen, runs, task)),
        ):
            frame = _tabulate(chosen, traces, task, PARTICLE_SITE, question="lens", settings=_settings(plan))
            frame["lens"] = lens
            yield frame


def _compare_sizes(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Claim 2: the families that come in several sizes, on each task at each site."""
    chosen = [one for one in subjects if one.is_trained and one.miniature and one.miniature.family in SCALED]
    families = tuple(str(one.miniature.family) for one in chosen if one.miniature)
    for task in plan.tasks:
        for site in plan.sites:
            yield _compare(
                chosen, runs, task, site, question="size", settings=replace(_settings(plan), families=families)
            )


def _compare_mixers(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Stacks of one mixer at equal depth, width and data: attention against Gated DeltaNet and Mamba2."""
    families = ("attention", "gated-deltanet", "mamba2")
    chosen = [
        one
        for one in subjects
        if one.is_trained and one.miniature and one.miniature.family in families and one.miniature.size == "M"
    ]
    for task in plan.tasks:
        for site in plan.sites:
            yield _compare(chosen, runs, task, site, question="mixer", settings=_settings(plan))


def _describe_hybrids(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Kinds of mixers inside the hybrids."""
    chosen = [one for one in subjects if one.is_trained and one.miniature and "hybrid" in one.miniature.family]
    for task in plan.tasks:
        for site in plan.sites:
            traces = load_runs(chosen, runs, task, site)
            yield _tabulate(chosen, traces, task, site, question="hybrid", settings=_settings(plan))
            rows = [
                row for subject, trace in zip(chosen, traces, strict=True) for row in _describe_kinds(subject, trace)
            ]
            yield _as_frame(rows, task, site, question="hybrid")


def _describe_kinds(subject: Subject, trace: lt.Trace) -> Iterator[dict[str, object]]:
    """Each kind of mixer in a hybrid: its layers' mean JS divergence, and what its layers gain."""
    for group in trace.by_mixer:
        shared = {"part": "kind", "model": subject.label, "other": group.mixer, "n_prompts": trace.n_prompts}
        interval = group.interval
        ends = {} if interval is None else {"low": interval.low, "high": interval.high}
        yield shared | ends | {"quantity": "mean_js_bits", "value": group.mean_js_bits}
        yield shared | {"quantity": "gain_prob", "value": group.mean_gain_prob * group.n_layers}
        yield shared | {"quantity": "n_layers", "value": float(group.n_layers)}


def _settings(plan: Plan) -> ComparisonSettings:
    return ComparisonSettings(n_resamples=plan.n_resamples)


def _compare(
    subjects: Sequence[Subject], runs: Path, task: str, site: Site, *, question: str, settings: ComparisonSettings
) -> pd.DataFrame:
    """The comparison of stored runs."""
    traces = load_runs(subjects, runs, task, site)
    return _tabulate(subjects, traces, task, site, question=question, settings=settings)


def _tabulate(
    subjects: Sequence[Subject],
    traces: Sequence[lt.Trace],
    task: str,
    site: Site,
    *,
    question: str,
    settings: ComparisonSettings,
) -> pd.DataFrame:
    """One comparison as a table; the parts that nobody asks for are left out."""
    comparison = lt.compare(traces, labels=[subject.label for subject in subjects], settings=settings)
    frame = comparison.to_frame()
    return _with_question(frame[frame["part"].isin(_KEPT[question])].copy(), task, site, question=question)


def _as_frame(rows: Sequence[dict[str, object]], task: str, site: Site, *, question: str) -> pd.DataFrame:
    return _with_question(pd.DataFrame(rows), task, site, question=question)


def _with_question(frame: pd.DataFrame, task: str, site: Site, *, question: str) -> pd.DataFrame:
    """The frame with the columns of the study before its own."""
    for place, (name, value) in enumerate({"question": question, "task": task, "site": site}.items()):
        frame.insert(place, name, value)
    return frame


def _describe_twins(subjects: Sequence[Subject], runs: Path, plan: Plan) -> Iterator[pd.DataFrame]:
    """Each model, trained or not, by itself: what it solves, whether a particle is found, how it breaks."""
    for task in plan.tasks:
        for site in plan.sites:
            rows = [
                _describe_run(subject, trace)
                for subject, trace in zip(subjects, load_runs(subjects, runs, task, site), strict=True)
            ]
            yield _as_frame([row for rows_of in rows for row in rows_of], task, site, question="twin")


def _describe_run(subject: Subject, trace: lt.Trace) -> list[dict[str, object]]:
    """Rows of one run in the columns of a comparison's table."""
    curves = {"target_prob": trace.target_prob.mean(axis=0), "js_bits": np.nanmean(trace.js_bits, axis=(0, 1))}
    shared = {"model": subject.label, "n_prompts": trace.n_prompts}
    layer = trace.task_particle.layer
    numbers = {
        "solved_share": trace.solved_share,
        "particle_share_found": trace.task_particle.share_found,
        "particle_layer": None if layer is None else float(layer),
        "max_js_bits": float(np.nanmax(curves["js_bits"])),
    }
    rows: list[dict[str, object]] = [
        shared | {"part": "model", "quantity": name, "value": value} for name, value in numbers.items()
    ]
    for name, curve in curves.items():
        rows += [
            shared | {"part": "profile", "quantity": name, "depth": (index + 1) / len(curve), "value": float(value)}
            for index, value in enumerate(curve)
        ]
    return rows


def tasks_of(findings: pd.DataFrame) -> list[str]:
    """The tasks of the study, in order."""
    return list(dict.fromkeys(findings["task"]))


def sites_of(findings: pd.DataFrame) -> list[str]:
    """The sites of the study, in order."""
    return list(dict.fromkeys(findings.loc[findings["question"] == "twin", "site"]))


def unsolved(findings: pd.DataFrame, labels: Sequence[str], task: str) -> list[str]:
    """Which of some models solve less of a task's prompts than a verdict on their particles asks for."""
    rows = findings[(findings["question"] == "twin") & (findings["quantity"] == "solved_share")]
    shares = rows[(rows["task"] == task) & (rows["site"] == PARTICLE_SITE)].set_index("model")["value"]
    return [label for label in labels if shares[label] < ComparisonSettings().min_solved]


def describe_unsolved(findings: pd.DataFrame, labels: Sequence[str]) -> str:
    """Names the models that hardly solve a task, in a sentence a task; nothing where all solve all."""
    sentences = []
    for task in tasks_of(findings):
        found = unsolved(findings, labels, task)
        if found:
            named, verb = ", ".join(f"`{label}`" for label in found), "solves" if len(found) == 1 else "solve"
            sentences.append(f"On {task}, {named} {verb} less than a quarter of the prompts: what breaks is no answer.")
    return " ".join(sentences)


def is_twin(label: str) -> bool:
    """Whether a label is that of an untrained twin."""
    return label.endswith("(untrained)")


def miniature_labels(findings: pd.DataFrame) -> list[str]:
    """Labels of the trained miniatures, in order."""
    labels = list(dict.fromkeys(findings.loc[findings["question"] == "twin", "model"]))
    return [label for label in labels if not is_twin(label) and label != SMOLLM2]


def trained_labels(findings: pd.DataFrame) -> list[str]:
    """Labels of the trained models, in order, SmolLM2 the last."""
    return [*miniature_labels(findings), SMOLLM2]
