"""A trained miniature on disk, as Transformers loads it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from layertracer._errors import UsageError
from layertracer._files import whole_folder, write_whole
from layertracer.runs import package_version

from training.card import write_card
from training.evaluation import Score, evaluate
from training.families import FAMILIES, Miniature
from training.loop import Recipe, Trained
from training.questions import Questionnaire
from training.vocabulary import make_tokenizer

RECORD = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a checkpoint comes from.

    Attributes:
        command: The command line that made it.
        machine: Processor architecture and operating system.
        versions: Versions of Python and of the packages that matter.
    """

    command: str
    machine: str
    versions: dict[str, str]


def describe_here(command: str) -> Provenance:
    """This machine and these packages."""
    # Without the name of a build, such as "+cpu".
    packages = {name: str(package_version(name)).partition("+")[0] for name in ("torch", "transformers")}
    versions = {"python": platform.python_version(), **packages}
    return Provenance(command=command, machine=f"{platform.machine()}, {platform.system()}", versions=versions)


def save_checkpoint(
    trained: Trained,
    folder: Path,
    *,
    miniature: Miniature,
    recipe: Recipe,
    questionnaires: Sequence[Questionnaire],
    provenance: Provenance,
) -> dict[str, Any]:
    """Writes the folder of a trained miniature: weights in bfloat16, tokenizer, card and record.

    What is stated about the miniature is measured on the weights as they are stored.

    Args:
        trained: The miniature.
        folder: Where to; replaced if it is there and holds a miniature.
        miniature: Which one it is.
        recipe: How it was trained.
        questionnaires: What it is asked.
        provenance: Command, machine and versions.

    Returns:
        The record, as `training.json` has it.

    Raises:
        UsageError: If the folder holds something else.
    """
    if folder.exists() and not (folder / RECORD).is_file():
        raise UsageError(f"{folder} is there and holds no miniature. Name a folder that is not there yet.")
    with whole_folder(folder, put_in_place=_replace) as beside:
        module: Any = trained.module.to("cpu")
        module.to(torch.bfloat16).save_pretrained(beside)
        make_tokenizer().save_pretrained(beside)
        stored = _load(beside)
        record = _make_record(
            trained, evaluate(stored, questionnaires), miniature=miniature, recipe=recipe, provenance=provenance
        )
        record["n_parameters"] = sum(parameter.numel() for parameter in stored.parameters())
        _write_papers(beside, record)
    return record


def ask_again(folder: Path, questionnaires: Sequence[Questionnaire]) -> None:
    """Asks a miniature that is there, and writes its record and its card anew.

    Args:
        folder: Its folder.
        questionnaires: What to ask.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["scores"] = [asdict(score) for score in evaluate(_load(folder), questionnaires)]
    _write_papers(folder, record)


def _load(folder: Path) -> Any:
    """The stored weights, in float32 and evaluation mode."""
    from transformers import AutoModelForCausalLM

    module: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return module.eval()


def _replace(beside: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(beside, folder)


def _write_papers(folder: Path, record: dict[str, Any]) -> None:
    """The record and the card of a miniature."""
    write_whole(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    write_whole(folder / "README.md", write_card(record).encode())


def _make_record(
    trained: Trained, scores: Sequence[Score], *, miniature: Miniature, recipe: Recipe, provenance: Provenance
) -> dict[str, Any]:
    """Everything about a miniature that its weights do not say."""
    return {
        **asdict(miniature),
        "description": FAMILIES[miniature.family].description,
        "recipe": asdict(recipe),
        **asdict(provenance),
        "cpu_s": round(trained.cpu_s, 1),
        "losses": [{name: round(value, 4) for name, value in asdict(point).items()} for point in trained.losses],
        "scores": [asdict(score) for score in scores],
    }
