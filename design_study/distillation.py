"""The second stage: the whole student learns the parent's next-token distributions."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from design_study.plan import TRAINING_SEED, Recipe
from training import draw_batch
from training.kernels import computing_in_one_chunk, flushing_denormals
from training.optimise import Schedule, make_optimisers, set_rates

Documents: TypeAlias = "tuple[Tensor, Tensor, np.ndarray]"
"""Ids with the last token to be foretold at their end; the parent's log-probabilities; which targets are determined."""

_N_WARMUP = 10
# Half and a third of what the miniatures were trained with from scratch. Chosen on two placements of the first parent,
# 0+4 and 3+6, before any other was trained: a lower rate is better for the first of them, a higher for the second.
MATRIX_RATE = 0.01
RATE = 0.003
_LARGEST_GRADIENT = 1.0


class Parent:
    """A parent's answers, kept: every placement is trained and judged on the same documents.

    Attributes:
        module: The attention miniature.
    """

    def __init__(self, module: Any, recipe: Recipe) -> None:
        self.module = module
        self._recipe = recipe
        self._states = cache(self._run)

    def documents(self, seed: int, step: int, n_documents: int) -> Documents:
        """Documents with the parent's answers.

        Args:
            seed: Seed of the data.
            step: Step of the training.
            n_documents: Number of documents.
        """
        ids, states, determined = self._states(seed, step, n_documents)
        return ids, self.module.lm_head(states).log_softmax(-1), determined

    def _run(self, seed: int, step: int, n_documents: int) -> tuple[Tensor, Tensor, np.ndarray]:
        """What enters the unembedding is kept, which is a twentieth of the logits."""
        batch = draw_batch(seed=seed, step=step, n_documents=n_documents, n_tokens=self._recipe.n_tokens + 1)
        ids = torch.from_numpy(batch.ids)
        with torch.no_grad():
            states = self.module.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        return ids, states, batch.weights == 1.0


def distil(student: Any, parent: Parent, seed: int, recipe: Recipe, *, schedule: Schedule | None = None) -> float:
    """Trains a student on KL(parent ‖ student) over all tokens.

    Args:
        student: The module, which is changed.
        parent: Its parent.
        seed: Seed of the documents.
        recipe: Steps and documents.
        schedule: Rates of learning; the study's if None.

    Returns:
        CPU seconds.
    """
    schedule = schedule or Schedule(n_steps=recipe.n_steps, n_warmup=_N_WARMUP, matrix_rate=MATRIX_RATE, rate=RATE)
    optimisers = make_optimisers(student, schedule)
    began = time.process_time()
    with computing_in_one_chunk(), flushing_denormals():
        for step in range(recipe.n_steps):
            set_rates(optimisers, schedule, step)
            ids, log_p, _ = parent.documents(TRAINING_SEED + seed, step, recipe.n_documents)
            logits = student(input_ids=ids[:, :-1], use_cache=False).logits
            # The cross-entropy to the parent: KL(parent ‖ student) but for what no weight changes.
            functional.cross_entropy(logits.flatten(0, 1), log_p.exp().flatten(0, 1)).backward()
            nn.utils.clip_grad_norm_(student.parameters(), _LARGEST_GRADIENT)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
    return time.process_time() - began
