"""What is kept of a readout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer.tracing._blocks import blocks
from layertracer.tracing._softmax import LOWEST_LOG_PROB
from layertracer.tracing._top import find_largest, group_maxima


@dataclass(frozen=True, slots=True, kw_only=True)
class LensStatistics:
    """What is kept of a readout; every tensor begins with the same axes.

    Attributes:
        log_prob: Log-probability of the target, nats.
        rank: Rank of the target, 1 for the top token.
        entropy_bits: Entropy of the distribution.
        top_ids: The most probable tokens, […, k]; of equally probable ones that with the lower id.
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


def measure_lens(
    logits: Float[Tensor, "*batch d_vocab"], targets: Int[Tensor, "*batch"], *, n_top: int
) -> LensStatistics:
    """Log-probability and rank of the targets, entropy, and the most probable tokens, in float32.

    A row with NaN or +∞ has NaN for its log-probabilities and entropy; its rank and tokens mean nothing.

    Args:
        logits: Logits in any precision; log-probabilities are logits too.
        targets: A token for each row.
        n_top: How many of the most probable tokens; fewer where the vocabulary is smaller.
    """
    shape, d_vocab, device = targets.shape, logits.shape[-1], logits.device
    own = logits.gather(-1, targets[..., None]).float()
    log_sum, entropy_bits = torch.empty((2, *shape), device=device)
    rank = torch.empty(shape, dtype=torch.long, device=device)
    parts = []
    for block in blocks(shape, d_vocab, device):
        row = logits[block].float()
        maxima = group_maxima(row)
        log_sum[block], entropy_bits[block], rank[block] = _measure_block(row, own[block], maxima)
        parts.append(maxima.flatten(0, -2) if maxima.ndim > 1 else maxima[None])
    maxima = torch.cat(parts).unflatten(0, shape) if shape else parts[0][0]
    top_ids, top = find_largest(logits, maxima, k=min(n_top, d_vocab))
    largest, log_sum = maxima.amax(dim=-1, keepdim=True), log_sum[..., None]
    return LensStatistics(
        log_prob=(own - largest - log_sum)[..., 0],
        rank=rank,
        entropy_bits=entropy_bits,
        top_ids=top_ids,
        top_log_prob=top.float() - largest - log_sum,
    )


def _measure_block(row: Tensor, own: Tensor, maxima: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a block of rows: logarithm of the sum of exp(logit − largest), entropy in bits, rank of `own`."""
    shifted = (row - maxima.amax(dim=-1, keepdim=True)).clamp_(min=LOWEST_LOG_PROB)
    weights = shifted.exp()
    weight = weights.sum(dim=-1)
    log_sum = weight.log()
    # Neither term is negative: nothing cancels.
    nats = log_sum - shifted.mul_(weights).sum(dim=-1) / weight
    # Ones and zeros as floats, since booleans are counted one at a time; exact for fewer than 2²⁴ of them.
    rank = 1 + torch.gt(row, own, out=weights).sum(dim=-1)
    return log_sum, nats / math.log(2), rank
