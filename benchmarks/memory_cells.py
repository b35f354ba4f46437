"""The cells of the memory grid: a model, a task, a budget."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MINIATURES = ("mini/attention", "mini/hybrid", "mini/gated-deltanet", "mini/mamba2")
BUDGETS = ("80MB", "200MB", "500MB", "1GB", "2GB")
LENGTHS = {"3": (3, 3), "6": (6, 6), "40": (40, 40), "3-40": (3, 40)}
"""Shortest and longest prompt of each kind of task, in tokens."""
OPTIONS = ("usual", "block_output", "state", "mean", "shared", "all")
"""The usual site (the mixer's output, or the block's), other sites, masks filled with means, prompts that share all but
three tokens, and answers of three tokens followed whole."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One measurement.

    Attributes:
        model: What is loaded.
        n_prompts: Prompts.
        lengths: One of `LENGTHS`.
        option: One of `OPTIONS`.
        budget: Memory, as `trace` takes it.
        draws: Draws of the mask.
    """

    model: str
    n_prompts: int
    lengths: str
    option: str
    budget: str
    draws: int = 5

    @property
    def name(self) -> str:
        """What it is called in the results."""
        return f"{self.task}, {self.budget}"

    @property
    def task(self) -> str:
        """The same without its budget."""
        what = f"{self.model}, {self.n_prompts} × {self.lengths}, {self.option}"
        return what if self.draws == Cell.__dataclass_fields__["draws"].default else f"{what}, {self.draws} draws"

    def token_ids(self, d_vocab: int) -> list[tuple[int, ...]]:
        """Its prompts."""
        shortest, longest = LENGTHS[self.lengths]
        generator = np.random.default_rng([self.n_prompts, shortest, longest])
        common = generator.integers(3, d_vocab, longest).tolist()
        rows = []
        for _ in range(self.n_prompts):
            length = int(generator.integers(shortest, longest + 1))
            own = generator.integers(3, d_vocab, length).tolist()
            rows.append(tuple(common[: length - 3] + own[-3:] if self.option == "shared" else own))
        return rows


def grid(*, is_quick: bool) -> list[Cell]:
    """All cells, those of one task together, the largest budget first: the others are compared with it."""
    return list(_quick() if is_quick else _full())


def _full() -> Iterator[Cell]:
    for model in MINIATURES:
        for n_prompts, lengths in itertools.product((1, 8, 50, 500), LENGTHS):
            yield from _of_task(model, n_prompts, lengths, "usual")
        for n_prompts, option in itertools.product((8, 50), OPTIONS[1:]):
            yield from _of_task(model, n_prompts, "40" if option == "shared" else "3-40", option)
        yield from _of_task(model, 5000, "3-40", "usual", draws=1)
    for n_prompts, lengths in (*itertools.product((1, 8), LENGTHS), (50, "6")):
        yield from _of_task("smollm2", n_prompts, lengths, "usual", draws=1)
    for option in OPTIONS[1:]:
        yield from _of_task("smollm2", 8, "40" if option == "shared" else "6", option, draws=1)
    yield Cell(model="smollm2", n_prompts=500, lengths="3", option="usual", budget="200MB", draws=1)
    yield Cell(model="smollm2", n_prompts=5000, lengths="3", option="usual", budget="200MB", draws=1)


def _quick() -> Iterator[Cell]:
    for model in MINIATURES:
        for n_prompts, lengths in ((1, "3"), (8, "40"), (50, "6"), (50, "3-40")):
            for budget in ("1GB", "200MB", "80MB"):
                yield Cell(model=model, n_prompts=n_prompts, lengths=lengths, option="usual", budget=budget)
        for option in OPTIONS[1:]:
            lengths = "40" if option == "shared" else "6"
            yield Cell(model=model, n_prompts=50, lengths=lengths, option=option, budget="200MB")
    for n_prompts, lengths in ((1, "3"), (8, "6")):
        for budget in ("1GB", "200MB", "80MB"):
            yield Cell(model="smollm2", n_prompts=n_prompts, lengths=lengths, option="usual", budget=budget, draws=1)


def _of_task(model: str, n_prompts: int, lengths: str, option: str, *, draws: int = 5) -> Iterator[Cell]:
    for budget in reversed(BUDGETS):
        yield Cell(model=model, n_prompts=n_prompts, lengths=lengths, option=option, budget=budget, draws=draws)
