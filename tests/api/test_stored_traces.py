"""Whatever a trace can be is stored and read again: the ranges of the run format refuse nothing that is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layertracer as lt
from layertracer._types import Perturbation

from tests.support.models.planted import D_MODEL, planted_answer
from tests.support.tiny import tiny

IDS = [(3, 5, 9), (7, 2, 4), (11, 1), (4, 4, 8, 2)]
SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in IDS]
SEVERAL = [lt.Sample(prompt_ids=ids, answer_ids=(planted_answer(ids), 5, 17)) for ids in IDS]
OPEN = [lt.Sample(prompt_ids=ids) for ids in IDS]
FOREIGN = [lt.Sample(prompt_ids=ids, answer_id=10**6) for ids in IDS]


@pytest.fixture(scope="module")
def planted() -> lt.TracedModel:
    """A model of 19 tokens, whose distributions come close to both ends of every range."""
    return tiny("planted")


def _keep() -> np.ndarray:
    """A mask of the first five dimensions, and one that masks nothing."""
    keep = np.ones((6, 2, D_MODEL))
    keep[:, 0, :5] = 0
    return keep


PERTURBATIONS: list[Perturbation] = [
    lt.Mask(),
    lt.Mask(fraction=1.0, draws=1, site="block_output"),
    lt.Mask(fraction=0.5, draws=3, scheme="random", site="mlp_output", fill="resample"),
    lt.Mask(fill="mean", positions="last"),
    lt.Noise(scale=0.0, draws=1),
    lt.Noise(scale=1e4, draws=2),
    lt.Skip(),
    lt.Mask.explicit(_keep()),
]


def _check(trace: lt.Trace, folder: Path) -> None:
    assert lt.load_run(trace.save(folder)) == trace
    found = lt.verify_run(folder)
    notes = [note for note in found.notes if "those that were selected" not in note]
    assert (found.faults, notes, found.summary_agrees) == ((), [], True)


@pytest.mark.parametrize("perturbation", PERTURBATIONS, ids=str)
def test_every_perturbation(perturbation: Perturbation, planted: lt.TracedModel, tmp_path: Path) -> None:
    """Masks of all kinds, noise that is nothing or everything, and skipped layers are read as they were saved."""
    _check(lt.trace(planted, SAMPLES, perturbation=perturbation), tmp_path / "run")


QUESTIONS: dict[str, tuple[list[lt.Sample], dict[str, Any]]] = {
    "several answers": (SEVERAL, {}),
    "several answers, all tokens": (SEVERAL, {"target_tokens": "all"}),
    "the model's own token": (OPEN, {"target": "model"}),
    "answers that the model does not know": (FOREIGN, {"target": "model"}),
    "one prompt": (SAMPLES[:1], {}),
    "the same prompt twice": ([SAMPLES[0], SAMPLES[0]], {}),
    "no audit": (SAMPLES, {"audit": 0}),
    "half maximum": (SAMPLES, {"onset": lt.HalfMax()}),
    "ratio": (SAMPLES, {"onset": lt.Ratio(first_layer=2)}),
    "rise without sigmas": (SAMPLES, {"onset": lt.Rise(sigmas=float("inf"))}),
}


@pytest.mark.parametrize(("samples", "settings"), QUESTIONS.values(), ids=QUESTIONS.keys())
def test_every_question(
    samples: list[lt.Sample], settings: dict[str, Any], planted: lt.TracedModel, tmp_path: Path
) -> None:
    """Whatever is asked, with and without answers, is read as it was saved."""
    _check(lt.trace(planted, samples, **settings), tmp_path / "run")


def test_an_interrupted_trace(planted: lt.TracedModel, tmp_path: Path) -> None:
    """A trace that was interrupted after some of its prompts is read as it was saved."""

    def press(_progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="of 4 prompts") as stop:
        lt.trace(planted, SAMPLES, progress=press)
    record = stop.value.record
    assert isinstance(record, lt.Trace)
    _check(record, tmp_path / "run")


def test_selected_prompts(planted: lt.TracedModel, tmp_path: Path) -> None:
    """A selection is read as it was saved, one of no prompt and one that repeats prompts among them."""
    trace = lt.trace(planted, SAMPLES)
    for number, rows in enumerate([[], [2], [0, 0, 1, 1, 2, 2, 3, 3], [3, 0]]):
        _check(trace.select(rows), tmp_path / str(number))
