"""From rows at the tail's entrance to the numbers that are kept, in chunks.

Nothing of the shape rows × vocabulary is ever kept whole: a chunk of rows becomes logits, the logits
become a few numbers a row, and the next chunk follows. Everything is done in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer.tracing._divergence import js_divergence

_TENSORS_OF_CHUNK_SIZE = 10
"""How many tensors of the size of a chunk's logits are alive at the busiest moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LensStatistics:
    """What is kept of a readout; every tensor begins with the same axes.

    Attributes:
        log_prob: Log-probability of the target, nats.
        rank: Rank of the target, 1 for the top token.
        entropy_bits: Entropy of the distribution.
        top_ids: The most probable tokens, […, k].
        top_log_prob: Their log-probabilities.
    """

    log_prob: Tensor
    rank: Tensor
    entropy_bits: Tensor
    top_ids: Tensor
    top_log_prob: Tensor

    @classmethod
    def stacked(cls, parts: Sequence[LensStatistics], *, dim: int) -> LensStatistics:
        """Several statistics along a new axis."""
        return cls(**{name: torch.stack([getattr(part, name) for part in parts], dim=dim) for name in cls.__slots__})

    @classmethod
    def joined(cls, parts: Sequence[LensStatistics], shape: Sequence[int]) -> LensStatistics:
        """Statistics of chunks of rows, whose rows together have that shape."""
        whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.__slots__}
        return cls(**{name: tensor.unflatten(0, tuple(shape)) for name, tensor in whole.items()})


def log_probs_of(logits: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch d_vocab"]:
    """Log-probabilities in float32, whatever the precision of the logits."""
    return torch.log_softmax(logits.float(), dim=-1)


def measure_lens(
    log_probs: Float[Tensor, "*batch d_vocab"], targets: Int[Tensor, "*batch"], *, n_top: int
) -> LensStatistics:
    """Log-probability and rank of the targets, entropy, and the most probable tokens."""
    own = log_probs.gather(-1, targets[..., None])
    top = log_probs.topk(min(n_top, log_probs.shape[-1]), dim=-1)
    nats = -(log_probs.exp() * log_probs.clamp(min=-1e4)).sum(dim=-1, dtype=torch.float64)
    return LensStatistics(
        log_prob=own[..., 0],
        rank=1 + (log_probs > own).sum(dim=-1),
        entropy_bits=(nats / math.log(2)).float(),
        top_ids=top.indices,
        top_log_prob=top.values,
    )


class Reduction:
    """Reductions of one model's rows within a memory budget.

    Args:
        tail: The model's tail: logits [row, d_vocab] of rows [row, …, width].
        d_vocab: Number of logits.
        budget_bytes: Memory that one chunk may take.
    """

    def __init__(self, tail: Callable[[Tensor], Tensor], *, d_vocab: int, budget_bytes: int) -> None:
        self._tail, self._d_vocab = tail, d_vocab
        self.rows_per_chunk = max(1, budget_bytes // (4 * d_vocab * _TENSORS_OF_CHUNK_SIZE))

    def peak_bytes(self, n_rows: int) -> int:
        """What is live at the busiest moment where that many rows become numbers."""
        return min(n_rows, self.rows_per_chunk) * 4 * self._d_vocab * _TENSORS_OF_CHUNK_SIZE

    def log_probs(self, rows: Float[Tensor, "row *width"]) -> Float[Tensor, "row d_vocab"]:
        """Log-probabilities of the next token; for few rows, since it keeps them whole."""
        return log_probs_of(self._tail(rows))

    def lens(self, rows: Tensor, targets: Tensor, *, n_top: int) -> LensStatistics:
        """Statistics of rows [prompt, read, rung, …, width] for targets [prompt, read]."""
        shape = rows.shape[: targets.ndim + 1]
        flat = rows.flatten(0, len(shape) - 1)
        wanted = targets.reshape(*targets.shape, *[1] * (len(shape) - targets.ndim)).expand(shape).flatten()
        parts = [
            measure_lens(self.log_probs(flat[chunk]), wanted[chunk], n_top=n_top) for chunk in self._chunks(len(flat))
        ]
        return LensStatistics.joined(parts, shape)

    def js_bits(
        self, clean: Float[Tensor, "prompt *width"], perturbed: Float[Tensor, "variant prompt *width"]
    ) -> Float[Tensor, "variant prompt"]:
        """JS divergence between each perturbed row and the clean row of its prompt, in bits."""
        n_variants, n_prompts = perturbed.shape[:2]
        result = torch.empty(n_variants, n_prompts, device=perturbed.device)
        for prompts in self._chunks(n_prompts):
            reference = self.log_probs(clean[prompts])
            for variants in self._chunks(n_variants, per_item=len(reference)):
                rows = perturbed[variants, prompts]
                log_probs = self.log_probs(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
                result[variants, prompts] = js_divergence(log_probs, reference)
        return result

    def _chunks(self, n_items: int, *, per_item: int = 1) -> Iterator[slice]:
        size = max(1, self.rows_per_chunk // per_item)
        for start in range(0, n_items, size):
            yield slice(start, min(start + size, n_items))
