"""What is trained and measured: recipes, rows and lists of jobs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from training.families import N_LAYERS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "design_study" / "results"
STATE = ROOT / "build" / "design-study"
"""Where finished placements are kept as they come, and aligned mixers."""

PARENTS = ("attention", "attention-seed1", "attention-seed2")
OTHER_SIZES = ("attention-s", "attention-l")
"""Other sizes, which are windowed and not trained."""

# Seeds of documents. The miniatures themselves were trained on those of seeds 0, 1 and 2.
TRAINING_SEED = 1_000_000
ALIGNMENT_SEED = 2_000_000
HELD_OUT_SEED = 3_000_000
SEARCH_SEED = 4_000_000

N_TOKENS = 48
FURTHER_SEEDS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The budget of every student, the same for all placements.

    Attributes:
        n_alignment_steps: Steps in which fresh mixers learn what the parent's mixers add.
        n_steps: Steps of distillation.
        n_documents: Documents in a step.
        n_tokens: Tokens in a document.
        n_held_out: Documents of the held-out judgement.
        n_questions: Recall questions of each kind.
    """

    n_alignment_steps: int = 200
    n_steps: int = 150
    n_documents: int = 24
    n_tokens: int = N_TOKENS
    n_held_out: int = 256
    n_questions: int = 300


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Job:
    """One student to be trained.

    Attributes:
        parent: Name of the attention miniature.
        seed: Seed of fresh mixers and of the documents.
        kept: Layers that stay attention.
    """

    parent: str
    seed: int
    kept: tuple[int, ...]


def all_placements(n_kept: int) -> tuple[tuple[int, ...], ...]:
    """All placements of a size, in order."""
    return tuple(combinations(range(N_LAYERS), n_kept))


def show_placement(kept: Iterable[int]) -> str:
    """A placement in a word: its layers with plus signs.

    Example:
        >>> show_placement((0, 4))
        '0+4'
    """
    return "+".join(str(layer) for layer in kept)


def read_placement(text: str) -> tuple[int, ...]:
    """The placement that `show_placement` wrote."""
    return tuple(int(layer) for layer in text.split("+"))


def every_placement(parent: str, n_kept: int, *, seed: int = 0) -> tuple[Job, ...]:
    """All placements of a size, in an order that is random: what is there at a stop is a fair sample."""
    placements = list(all_placements(n_kept))
    random.Random(f"order of {parent}, {n_kept}, seed {seed}").shuffle(placements)
    return tuple(Job(parent=parent, seed=seed, kept=kept) for kept in placements)


def list_jobs(repeated: Sequence[tuple[int, ...]] = ()) -> Iterator[Job]:
    """Everything that is trained, the most telling first: a study that is stopped has the best part of it.

    Args:
        repeated: Placements of the first parent that are trained from further seeds.
    """
    first, second, third = PARENTS
    yield from every_placement(first, 2)
    yield from every_placement(second, 2)
    yield from (Job(parent=first, seed=seed, kept=kept) for kept in repeated for seed in FURTHER_SEEDS)
    yield from every_placement(third, 2)
    yield from every_placement(first, 3)
