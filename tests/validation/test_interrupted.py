"""An interrupted validation, and one with other arguments into the same folder: stages are taken where they may be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import layertracer as lt
from layertracer.tracing import LinearLens

from tests.support.models.planted import planted_answer
from tests.support.tiny import tiny
from tests.validation.test_validate import planted_samples


def _rows(step: int) -> list[list[int]]:
    return [[1 + (5 * row + step * at) % 17 for at in range(16)] for row in range(3)]


@cache
def _lens(scale: float) -> LinearLens:
    """A lens of one name, by its scale another one."""
    n_layers, width = tiny("planted").anatomy.n_layers, tiny("planted").anatomy.d_model
    return LinearLens(
        weights=scale * torch.eye(width).expand(n_layers, width, width), biases=torch.zeros(n_layers, width)
    )


def _other_contrasts(samples: Sequence[lt.Sample]) -> list[lt.Sample]:
    """The same prompts with other contrasts."""
    changed = []
    for sample in samples:
        ids = sample.prompt_ids or ()
        other = (1 + (ids[0] + 2) % 17, *ids[1:])
        changed.append(replace(sample, contrast_ids=other, contrast_answer_id=planted_answer(other)))
    return changed


ASKED: dict[str, Any] = {
    "task": planted_samples(5),
    "text": _rows(1),
    "lenses": _lens(1.0),
    "fractions": (0.05,),
    "controls": ("random_directions",),
    "audit": 0.0,
}
QUICK: dict[str, Any] = {"quick": True, "lenses": ()}
CHANGES: dict[str, dict[str, Any]] = {
    "text": {"text": _rows(3)},
    "no text": {"text": False},
    "own text": {"text": None},
    "causal": {"causal": "noise"},
    "no causal": {"causal": False},
    "fractions": {"fractions": (0.1, 0.5)},
    "controls": {"controls": ("arbitrary_labels",)},
    "audit": {"audit": 0.5},
    "contrasts": {"task": _other_contrasts(planted_samples(5))},
}


class _AtTheEnd:
    """Progress that is interrupted when everything is measured."""

    def __call__(self, progress: Any) -> None:
        if progress.done >= progress.total:
            raise KeyboardInterrupt


def _validate(**asked: Any) -> lt.Evidence:
    return lt.validate(tiny("planted"), **ASKED | asked)


def _found(evidence: lt.Evidence) -> lt.Evidence:
    """Evidence without when it was found, and how long that took."""
    spec = {name: value for name, value in evidence.spec.items() if name != "stages"}
    causal = None if evidence.causal is None else replace(evidence.causal, provenance={})
    return replace(evidence, provenance={}, spec=spec, causal=causal)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a validation was interrupted when its stages were all there."""
    folder = tmp_path_factory.mktemp("interrupted") / "out"
    with pytest.raises(KeyboardInterrupt):
        _validate(out=folder, progress=_AtTheEnd())
    return folder


@pytest.fixture(scope="module")
def quickly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a short form."""
    folder = tmp_path_factory.mktemp("quickly") / "out"
    with pytest.raises(KeyboardInterrupt):
        _validate(**QUICK, out=folder, progress=_AtTheEnd())
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_another_argument_gives_its_own_numbers(change: str, quickly: Path, tmp_path: Path) -> None:
    """Law: what an interrupted call left changes nothing of what one with another argument finds."""
    folder = tmp_path / "out"
    shutil.copytree(quickly, folder)
    asked = QUICK | CHANGES[change]
    assert _found(_validate(**asked, out=folder)) == _found(_validate(**asked))


def _known(out: Path, **asked: Any) -> set[str]:
    plan = lt.plan_validation(tiny("planted"), **ASKED | asked, out=out)
    return {stage.name for stage in plan.stages if stage.is_known}


def test_what_does_not_depend_on_the_change_is_taken(interrupted: Path) -> None:
    """A change costs the stages that depend on it, and no other; the same call takes all."""
    every = _known(interrupted)
    assert every > {"traces", "readings", "doses", "importance", "causal", "text", "text_importance", "lens:linear"}
    assert every - _known(interrupted, text=_rows(3)) == {"text", "text_importance", "lens:linear"}
    assert every - _known(interrupted, fractions=(0.1,)) == {"doses"}
    assert every - _known(interrupted, causal="noise") == {"causal"}
    assert every - _known(interrupted, lenses=_lens(0.5)) == {"lens:linear"}
    assert every - _known(interrupted, lenses="linear") == {"lens:linear"}
    assert every - _known(interrupted, task=CHANGES["contrasts"]["task"]) == {"causal"}
    assert not _known(interrupted, audit=0.5)


def test_a_text_of_a_file_is_known_by_what_it_says(tmp_path: Path) -> None:
    """A file that was written over is another text; one of another name with the same words is the same to a lens."""
    model = lt.load_model("mini/attention")
    file, copy = tmp_path / "one.txt", tmp_path / "two.txt"
    words = lt.load_task("antonym", limit=8)
    file.write_text(" ".join(sample.prompt or "" for sample in words))
    copy.write_text(file.read_text())
    asked: dict[str, Any] = {"quick": True, "controls": (), "causal": False, "audit": 0.0, "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        lt.validate(model, words, text=file, progress=_AtTheEnd(), **asked)

    def known(text: Path) -> set[str]:
        plan = lt.plan_validation(model, words, text=text, **asked)
        return {stage.name for stage in plan.stages if stage.is_known}

    assert "text" in known(file)
    file.write_text(" ".join(sample.prompt or "" for sample in list(words)[::-1]))
    assert known(file) == known(copy) - {"text", "text_importance"}


def test_a_lens_is_known_by_its_own_numbers() -> None:
    """A lens made of another one's details has a fingerprint of its own."""
    other = replace(_lens(1.0), weights=_lens(0.5).weights)
    assert other.details["fingerprint"] == _lens(0.5).details["fingerprint"] != _lens(1.0).details["fingerprint"]
