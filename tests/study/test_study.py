"""The study of the miniatures, from traces to the page, on miniatures that are hardly trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import layertracer as lt
from layertracer import UsageError
from layertracer.tracing import TracedModel

from study.figures import draw_figures, family_of
from study.findings import collect_findings, miniature_labels, tasks_of, trained_labels
from study.page import write_page
from study.plan import Plan
from study.runs import load_runs, make_readings, make_runs
from study.subjects import RESULTS, ROOT, TWIN, Subject, list_subjects
from training import build_untrained, find_miniature, list_miniatures, make_tokenizer

NAMES = ("attention", "attention-s", "gated-deltanet", "mamba2", "hybrid", "mamba2-hybrid")
PLAN = Plan(tasks=("antonym", "recall"), sites=("block_output", "mixer_output"), n_prompts=4, n_draws=5, n_resamples=50)


def _loader(name: str, *, seed: int, label: str) -> Callable[[], TracedModel]:
    def load() -> TracedModel:
        module = build_untrained(replace(find_miniature(name), seed=seed)).eval()
        return lt.wrap_model(module, tokenizer=make_tokenizer(), name=label)

    return load


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    """Six miniatures with twins, both with random weights, and one that stands for SmolLM2."""
    found = []
    for name in NAMES:
        for seed, label in ((0, name), (1, name + TWIN)):
            load = _loader(name, seed=seed, label=label)
            found.append(
                Subject(label=label, miniature=find_miniature(name), is_trained=seed == 0, weights=label, load=load)
            )
    other = _loader("moe", seed=0, label="smollm2")
    return [*found, Subject(label="smollm2", miniature=None, is_trained=True, weights="", load=other)]


@pytest.fixture(scope="module")
def runs(subjects: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their runs."""
    folder = tmp_path_factory.mktemp("study")
    assert len(list(make_runs(subjects, folder, PLAN))) == len(subjects) * 4
    assert len(list(make_readings(subjects, folder, PLAN))) == len(NAMES) * 2
    return folder


@pytest.fixture(scope="module")
def findings(subjects: list[Subject], runs: Path) -> pd.DataFrame:
    """What they say."""
    return collect_findings(subjects, runs, PLAN)


def test_finished_runs_are_kept(subjects: list[Subject], runs: Path) -> None:
    """A study that goes on makes only what is missing."""
    assert list(make_runs(subjects, runs, PLAN)) == []
    assert list(make_readings(subjects, runs, PLAN)) == []


@pytest.mark.parametrize("of_plan", [True, False])
def test_runs_of_something_else_are_refused(subjects: list[Subject], runs: Path, of_plan: bool) -> None:
    """Runs of other weights, or with other numbers of prompts, are not taken for those of this study."""
    plan = replace(PLAN, n_prompts=5) if of_plan else PLAN
    subject = subjects[0] if of_plan else replace(subjects[0], weights="trained again")
    with pytest.raises(UsageError, match=r"attention holds runs of other weights or of another plan"):
        list(make_runs([subject], runs, plan))


def test_findings_are_the_runs(subjects: list[Subject], runs: Path, findings: pd.DataFrame) -> None:
    """The table's numbers are those of the stored traces and of their comparison."""
    (trace,) = load_runs(subjects[:1], runs, "recall", "mixer_output")
    rows = findings[(findings["question"] == "twin") & (findings["task"] == "recall")]
    rows = rows[(rows["site"] == "mixer_output") & (rows["model"] == "attention")]
    stored = rows.loc[rows["quantity"] == "js_bits", "value"].to_numpy()
    assert stored == pytest.approx(trace.js_bits.mean(axis=(0, 1)))
    chosen = [subject for subject in subjects if subject.label in {"attention", "mamba2", "gated-deltanet"}]
    comparison = lt.compare(load_runs(chosen, runs, "recall", "mixer_output"), n_resamples=50)
    (row,) = findings[
        (findings["question"] == "mixer")
        & (findings["part"] == "difference")
        & (findings["quantity"] == "mean_js_bits")
        & (findings["task"] == "recall")
        & (findings["site"] == "mixer_output")
        & (findings["model"] == "mamba2")
        & (findings["other"] == "attention")
    ]["value"]
    models = {model.label: model for model in comparison.models}
    means = [model.mean_js.value for model in models.values() if model.mean_js is not None]
    names = list(models)
    difference = means[names.index("mamba2")] - means[names.index("attention")]
    assert row == pytest.approx(difference)


def test_kinds_are_those_of_the_traces(subjects: list[Subject], runs: Path, findings: pd.DataFrame) -> None:
    """By kind: the mean over its layers, from the stored divergences; what all kinds add is the whole rise."""
    (hybrid,) = [subject for subject in subjects if subject.label == "hybrid"]
    (trace,) = load_runs([hybrid], runs, "recall", "mixer_output")
    rows = findings[(findings["part"] == "kind") & (findings["model"] == "hybrid") & (findings["task"] == "recall")]
    rows = rows[rows["site"] == "mixer_output"].set_index(["other", "quantity"])["value"]
    assert rows["attention", "mean_js_bits"] == pytest.approx(trace.js_bits[:, :, [3, 7]].mean())
    assert rows["attention", "n_layers"] == 2
    assert rows["gated_deltanet", "mean_js_bits"] == pytest.approx(trace.js_bits[:, :, [0, 1, 2, 4, 5, 6]].mean())
    rise = float((trace.target_prob[:, -1] - trace.embedding_prob).mean())
    gains = rows["attention", "gain_prob"] + rows["gated_deltanet", "gain_prob"]
    assert gains == pytest.approx(rise, abs=1e-6)


def test_every_question_is_answered(findings: pd.DataFrame) -> None:
    """Depth, lenses, size, mixers, hybrids and twins each have rows for every task."""
    assert set(findings["question"]) == {"depth", "lens", "size", "mixer", "hybrid", "twin"}
    for question in ("depth", "lens", "size", "mixer", "hybrid", "twin"):
        assert tasks_of(findings[findings["question"] == question]) == ["antonym", "recall"]
    assert trained_labels(findings) == [*NAMES, "smollm2"]


def test_page_and_figures_are_written(findings: pd.DataFrame, tmp_path: Path) -> None:
    """The page has every section and no number that is missing; figures are the same at every call."""
    figures = draw_figures(findings, tmp_path)
    first = {name: path.read_bytes() for name, path in figures.items()}
    assert {name: path.read_bytes() for name, path in draw_figures(findings, tmp_path).items()} == first
    page = write_page(findings, PLAN)
    assert "nan" not in page
    for name in figures:
        assert f"images/miniatures-{name}.svg" in page
    for heading in (
        "Claim 1",
        "Claim 2",
        "mixers differ",
        "carries recall",
        "Lenses",
        "nothing was learnt",
        "cannot say",
    ):
        assert heading in page


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("hybrid-seed1", "hybrid"),
        ("mamba2-hybrid", "mamba2-hybrid"),
        ("mamba2 (untrained)", "mamba2"),
        ("smollm2", "smollm2"),
    ],
)
def test_labels_tell_families(label: str, family: str) -> None:
    """A label is of the family with the longest name that it begins with."""
    assert family_of(label) == family


def test_subjects_come_with_twins() -> None:
    """Every miniature that is there stands beside its untrained twin, and SmolLM2 is the last."""
    labels = [subject.label for subject in list_subjects()]
    assert labels[-1] == "smollm2"
    assert {"attention", "hybrid", "attention" + TWIN} <= set(labels)
    assert len(labels) % 2 == 1


def test_stored_page_is_what_the_stored_findings_say() -> None:
    """docs/miniatures.md is written from study/results/findings.parquet and the cards of all miniatures."""
    findings = pd.read_parquet(RESULTS)
    page = ROOT / "docs" / "miniatures.md"
    assert write_page(findings, Plan()) == page.read_text(encoding="utf-8")
    assert set(miniature_labels(findings)) == {miniature.name for miniature in list_miniatures()}
