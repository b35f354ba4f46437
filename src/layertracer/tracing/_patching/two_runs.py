"""The two runs of causal tracing: the clean prompt, and the corrupted one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from layertracer.tracing._patching.entrance import Entrance
from layertracer.tracing._patching.prompts import CausalOptions, CausalPrompt

_NOISE = 7
"""What the generators of noise are for, apart from all others."""


class Case(NamedTuple):
    """One prompt with one corruption of it.

    Attributes:
        number: Which of the prompts given.
        prompt: The prompt.
        draw: Which draw of noise.
    """

    number: int
    prompt: CausalPrompt
    draw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of some cases.

    Attributes:
        ids: Token ids [case, position].
        noise: What is added to the embeddings, [case, position, …, width]; None for nothing.
        entrance: Where it is added.
    """

    ids: Tensor
    noise: Tensor | None
    entrance: Entrance

    def entering(self) -> AbstractContextManager[None]:
        """The run's own embeddings enter the model in the block."""
        return self.entrance.adding(self.ids, self.noise)


class TwoRuns(NamedTuple):
    """The run into which values are put, and the run that they are taken from."""

    base: Run
    donor: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """How prompts are corrupted.

    Attributes:
        entrance: Where noise is added.
        options: What is asked.
        noise_std: Standard deviation of the noise; None where prompts are swapped.
    """

    entrance: Entrance
    options: CausalOptions
    noise_std: float | None

    def clean(self, cases: Sequence[Case]) -> Run:
        """The clean run of cases of one length."""
        return self._run([case.prompt.ids for case in cases])

    def corrupted(self, cases: Sequence[Case]) -> Run:
        """Their corrupted run."""
        if self.noise_std is None:
            return self._run([case.prompt.corrupted_ids or () for case in cases])
        run = self._run([case.prompt.ids for case in cases])
        width = self.entrance.values(run.ids[:1]).shape[2:]
        noise = torch.zeros(*run.ids.shape, *width)
        for row, case in enumerate(cases):
            noise[row, slice(*case.prompt.span)] = torch.from_numpy(self._drawn(case, tuple(width)))
        return Run(ids=run.ids, noise=noise.to(run.ids.device), entrance=self.entrance)

    def two_runs(self, cases: Sequence[Case]) -> TwoRuns:
        """Both, by which is put into which."""
        clean, corrupted = self.clean(cases), self.corrupted(cases)
        return TwoRuns(corrupted, clean) if self.options.direction == "denoise" else TwoRuns(clean, corrupted)

    def _drawn(self, case: Case, width: tuple[int, ...]) -> np.ndarray:
        """A case's noise: of its prompt's index and draw alone, drawn on the CPU, so that devices agree."""
        assert self.noise_std is not None  # else there is no noise
        generator = np.random.default_rng([self.options.seed, case.prompt.index, case.draw, _NOISE])
        first, end = case.prompt.span
        drawn: np.ndarray = self.noise_std * generator.standard_normal((end - first, *width))
        return drawn.astype(np.float32)

    def _run(self, rows: Sequence[Sequence[int]]) -> Run:
        ids = torch.tensor([list(row) for row in rows], device=self.entrance.network.device)
        return Run(ids=ids, noise=None, entrance=self.entrance)


def embedding_std(entrance: Entrance, prompts: Sequence[CausalPrompt]) -> float:
    """Standard deviation of all entries of the embeddings of all prompts' spans (Meng et al. 2022)."""
    sums = np.zeros(3)
    for row in _span_embeddings(entrance, prompts):
        sums += row.size, row.sum(), np.square(row).sum()
    n, total, squares = sums
    return float(np.sqrt(max(0.0, squares - total * total / n) / max(1.0, n - 1)))


def _span_embeddings(entrance: Entrance, prompts: Sequence[CausalPrompt]) -> Iterator[np.ndarray]:
    for prompt in prompts:
        ids = torch.tensor([list(prompt.ids)], device=entrance.network.device)
        yield entrance.values(ids)[0, slice(*prompt.span)].double().cpu().numpy()
