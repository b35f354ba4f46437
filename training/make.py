"""From names to checkpoints: train, ask, save, one miniature after another."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from layertracer._errors import UnknownNameError

from training.checkpoint import RECORD, ask_again, describe_here, save_checkpoint
from training.families import EMBEDDED, Miniature, list_miniatures
from training.loop import Recipe, train
from training.questions import write_questionnaires

logger = logging.getLogger("layertracer")

_N_QUESTIONS = 100

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


def make_miniatures(  # noqa: PLR0913 - what users call takes its settings by name
    names: Sequence[str],
    *,
    folder: Path,
    embedded_folder: Path | None = None,
    state_folder: Path | None = None,
    recipe: Recipe = FULL,
    device: str = "cpu",
    compiles: bool = False,
    command: str = "training",
) -> tuple[Path, ...]:
    """Trains miniatures that are not there yet and writes their folders.

    A miniature that was trained with the same recipe is left as it is, so that a run that was stopped goes on.

    Args:
        names: Which ones; all without any.
        folder: Where their folders go.
        embedded_folder: Where those of `EMBEDDED` go; `folder` if None.
        state_folder: Where unfinished trainings are kept; nowhere if None.
        recipe: How to train.
        device: Where to train, e.g. "cpu" or "cuda".
        compiles: Whether torch compiles each model first.
        command: Command line for the cards.

    Returns:
        The folders, in the order of the names.

    Raises:
        UnknownNameError: If there is no miniature of a name.
        UsageError: If a folder is there and holds something else.
    """
    folders = locate_miniatures(names, folder=folder, embedded_folder=embedded_folder)
    for miniature, target in folders.items():
        if _is_made(target, recipe):
            logger.info("%s is there already.", target)
            continue
        state = None if state_folder is None else state_folder / f"{miniature.name}.pt"
        trained = train(miniature, recipe, state_file=state, device=device, compiles=compiles)
        save_checkpoint(
            trained,
            target,
            miniature=miniature,
            recipe=recipe,
            questionnaires=write_questionnaires(n=4 if recipe.n_steps <= FAST.n_steps else _N_QUESTIONS),
            provenance=describe_here(f"{command} {miniature.name}"),
        )
        if state is not None:
            state.unlink(missing_ok=True)
    return tuple(folders.values())


def ask_miniatures(
    names: Sequence[str], *, folder: Path, embedded_folder: Path | None = None, n: int = _N_QUESTIONS
) -> tuple[Path, ...]:
    """Asks the miniatures that are there again, and writes their records and cards anew.

    Args:
        names: Which ones; all that are there without any.
        folder: Where their folders are.
        embedded_folder: Where those of `EMBEDDED` are; `folder` if None.
        n: Questions of a kind.

    Returns:
        The folders of those that were asked.
    """
    folders = locate_miniatures(names, folder=folder, embedded_folder=embedded_folder).values()
    made = tuple(target for target in folders if (target / RECORD).is_file())
    questionnaires = write_questionnaires(n=n)
    for target in made:
        logger.info("Asking %s.", target)
        ask_again(target, questionnaires)
    return made


def locate_miniatures(
    names: Sequence[str], *, folder: Path, embedded_folder: Path | None = None
) -> dict[Miniature, Path]:
    """Where each miniature's folder is or will be.

    Args:
        names: Which ones; all without any.
        folder: Where their folders are.
        embedded_folder: Where those of `EMBEDDED` are; `folder` if None.
    """
    chosen = tuple(find_miniature(name) for name in names) or list_miniatures()
    inside = folder if embedded_folder is None else embedded_folder
    return {one: (inside if one.name in EMBEDDED else folder) / one.name for one in chosen}


def _is_made(folder: Path, recipe: Recipe) -> bool:
    """Whether a miniature of this recipe is there."""
    record = folder / RECORD
    if not record.is_file():
        return False
    made: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))["recipe"]
    return made == asdict(recipe)
