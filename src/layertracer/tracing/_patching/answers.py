"""What is read of a run: the log-probability of a prompt's answer, and of its contrast answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._patching.prompts import CausalPrompt

_COPIES = 3
"""Tensors of a chunk's logits that are alive beside one another, in float32."""
_ENOUGH_ROWS = 64
"""As for other reductions: larger chunks are slower on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReader:
    """From what leaves the last layer to the log-probabilities of answers.

    Attributes:
        tail: The model's tail.
        d_vocab: Number of logits at a position.
        chunk_bytes: What the logits of a chunk may take.
    """

    tail: Tail
    d_vocab: int
    chunk_bytes: int

    def of_rows(self, rows: Tensor, prompts: Sequence[CausalPrompt]) -> Float64[np.ndarray, "variant prompt 2"]:
        """Log-probabilities of answers and contrast answers, nats; NaN where there is no contrast answer.

        Args:
            rows: What leaves the last layer at the last position, [variant, prompt, …, width].
            prompts: The prompts.
        """
        flat, n_prompts = rows.flatten(0, 1), rows.shape[1]
        size = max(1, min(_ENOUGH_ROWS, self.chunk_bytes // (_COPIES * 4 * self.d_vocab)))
        found = np.empty((len(flat), 2))
        for start in range(0, len(flat), size):
            chunk = flat[start : start + size]
            own = [prompts[number % n_prompts] for number in range(start, start + len(chunk))]
            found[start : start + len(chunk)] = answers_of(self.tail(chunk), own)
        return found.reshape(-1, n_prompts, 2)


def answers_of(logits: Tensor, prompts: Sequence[CausalPrompt]) -> Float64[np.ndarray, "prompt 2"]:
    """Log-probabilities of each prompt's answer and contrast answer, nats, of its logits [prompt, d_vocab].

    Log-probabilities in float32, as everywhere; those of several tokens added up in float64.
    """
    log_probs = log_probs_of(logits)
    said = [_log_sum(log_probs, [list(dict.fromkeys(one.answers)) for one in prompts])]
    said.append(_log_sum(log_probs, [list(dict.fromkeys(one.contrast_answers)) for one in prompts]))
    return np.stack(said, axis=-1)


def _log_sum(log_probs: Tensor, tokens: Sequence[Sequence[int]]) -> Float64[np.ndarray, " prompt"]:
    """Log Σ p over each row's tokens, NaN where it has none."""
    longest = max(1, *map(len, tokens)) if tokens else 1
    which = torch.tensor([[*own, *[-1] * (longest - len(own))] for own in tokens], device=log_probs.device)
    is_there = which >= 0
    taken = log_probs.gather(-1, which.where(is_there, 0)).double().where(is_there, -torch.inf)
    summed = torch.logsumexp(taken, dim=-1).where(is_there.any(dim=-1), torch.nan)
    # A probability of NaN stays one, whatever is added to it.
    return np.asarray(summed.cpu().numpy(), dtype=np.float64)
