"""From names to checkpoints: train, ask, save, one miniature after another."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from layertracer._errors import UnknownNameError
from layertracer.miniatures._checkpoint import RECORD, describe_here, save_checkpoint
from layertracer.miniatures._families import EMBEDDED, Miniature, list_miniatures
from layertracer.miniatures._questions import write_questionnaires
from layertracer.miniatures._training import Recipe, train

logger = logging.getLogger("layertracer")

FULL = Recipe()
FAST = Recipe(n_steps=6, n_documents=8, n_tokens=32)
"""Shows that everything works; the models know nothing."""


def find_miniature(name: str) -> Miniature:
    """The miniature of this name.

    Raises:
        UnknownNameError: If there is none; the message names near matches.
    """
    by_name = {miniature.name: miniature for miniature in list_miniatures()}
    if name not in by_name:
        raise UnknownNameError.among("miniature", name, by_name)
    return by_name[name]


def make_miniatures(
    names: Sequence[str],
    *,
    folder: Path,
    embedded_folder: Path | None = None,
    state_folder: Path | None = None,
    recipe: Recipe = FULL,
    command: str = "layertracer.miniatures",
) -> tuple[Path, ...]:
    """Trains miniatures that are not there yet and writes their folders.

    A miniature that was trained with the same recipe is left as it is, so that a run that was stopped goes on.

    Args:
        names: Which ones; all without any.
        folder: Where their folders go.
        embedded_folder: Where those of `EMBEDDED` go; `folder` if None.
        state_folder: Where unfinished trainings are kept; nowhere if None.
        recipe: How to train.
        command: Command line for the cards.

    Returns:
        The folders, in the order of the names.

    Raises:
        UnknownNameError: If there is no miniature of a name.
        UsageError: If a folder is there and holds something else.
    """
    chosen = tuple(find_miniature(name) for name in names) or list_miniatures()
    folders = []
    for miniature in chosen:
        parent = embedded_folder if embedded_folder is not None and miniature.name in EMBEDDED else folder
        target = parent / miniature.name
        folders.append(target)
        if _is_made(target, recipe):
            logger.info("%s is there already.", target)
            continue
        state = None if state_folder is None else state_folder / f"{miniature.name}.pt"
        _make_one(miniature, target, state_file=state, recipe=recipe, command=command)
    return tuple(folders)


def _make_one(miniature: Miniature, folder: Path, *, state_file: Path | None, recipe: Recipe, command: str) -> None:
    trained = train(miniature, recipe, state_file=state_file)
    save_checkpoint(
        trained,
        folder,
        miniature=miniature,
        recipe=recipe,
        questionnaires=write_questionnaires(n=100 if recipe == FULL else 4),
        provenance=describe_here(f"{command} {miniature.name}"),
    )
    if state_file is not None:
        state_file.unlink(missing_ok=True)


def _is_made(folder: Path, recipe: Recipe) -> bool:
    """Whether a miniature of this recipe is there."""
    record = folder / RECORD
    if not record.is_file():
        return False
    made: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))["recipe"]
    return made == asdict(recipe)
