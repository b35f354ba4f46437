"""Which models are studied: the miniatures, each beside its untrained twin, and SmolLM2."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import layertracer as lt
from layertracer.tracing import TracedModel

from training import Miniature, build_untrained, locate_miniatures, make_tokenizer

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "miniatures"
EMBEDDED_CHECKPOINTS = ROOT / "src" / "layertracer" / "models" / "miniatures"
RESULTS = ROOT / "study" / "results" / "findings.parquet"
LONGER = ROOT / "study" / "results" / "mamba2-longer.json"
"""Record of the Mamba2 miniature that was trained for longer than all others, and is not one of them."""
SMOLLM2 = "smollm2"
TWIN = " (untrained)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model of the study.

    Attributes:
        label: Its name in tables.
        miniature: Which miniature it is; None for SmolLM2.
        is_trained: Whether it was trained.
        weights: What tells its weights from others: a checksum, or a name where they cannot change.
        load: Loads it.
    """

    label: str
    miniature: Miniature | None
    is_trained: bool
    weights: str
    load: Callable[[], TracedModel]


def list_subjects() -> tuple[Subject, ...]:
    """Every miniature that is there with its twin, then SmolLM2."""
    made = {one: folder for one, folder in find_checkpoints().items() if (folder / "config.json").is_file()}
    miniatures = [subject for one, folder in made.items() for subject in (_trained(one, folder), _twin(one))]
    return (
        *miniatures,
        Subject(label=SMOLLM2, miniature=None, is_trained=True, weights=SMOLLM2, load=lambda: lt.load_model(SMOLLM2)),
    )


def find_checkpoints() -> dict[Miniature, Path]:
    """The folder of each miniature, whether it is there or not."""
    return locate_miniatures((), folder=CHECKPOINTS, embedded_folder=EMBEDDED_CHECKPOINTS)


def _trained(miniature: Miniature, folder: Path) -> Subject:
    return Subject(
        label=miniature.name,
        miniature=miniature,
        is_trained=True,
        weights=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        load=lambda: lt.load_model(folder, device="cpu"),
    )


def _twin(miniature: Miniature) -> Subject:
    """The model that the training of a miniature began with."""

    def load() -> TracedModel:
        module = build_untrained(miniature).eval()
        return lt.wrap_model(module, tokenizer=make_tokenizer(), name=miniature.name + TWIN)

    return Subject(label=miniature.name + TWIN, miniature=miniature, is_trained=False, weights=TWIN, load=load)
