"""Statistics that are kept of a readout: probabilities, entropy, top tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer.tracing._distributions.blocks import blocks
from layertracer.tracing._distributions.log_softmax import LOWEST_LOG_PROB
from layertracer.tracing._distributions.top_k import find_largest, group_maxima


@dataclass(frozen=True, slots=True, kw_only=True)
class LensStatistics:
    """What is kept of a readout; every tensor begins with the same axes.

    Attributes:
        log_prob: Log-probability of the target, nats; of any of several, the logarithm of their sum.
        rank: Rank of the target, 1 for the top token, the best of several; of equal logits that with the lower id is
            first.
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

    def followed_by(self, other: LensStatistics, *, dim: int) -> LensStatistics:
        """These and others behind them along an axis."""
        both = {name: torch.cat([getattr(self, name), getattr(other, name)], dim=dim) for name in self.__slots__}
        return LensStatistics(**both)

    def last(self, *, dim: int) -> LensStatistics:
        """The last of them along an axis, which stays."""
        return LensStatistics(**{name: getattr(self, name).narrow(dim, -1, 1) for name in self.__slots__})


def measure_lens(
    logits: Float[Tensor, "*batch d_vocab"],
    targets: Int[Tensor, "*batch"],
    *,
    n_top: int,
    others: Int[Tensor, "*batch other"] | None = None,
) -> LensStatistics:
    """Log-probability and rank of the targets, entropy, and the most probable tokens, in float32.

    Laws: a target has rank 1 exactly where it is the first of the most probable tokens.

    A row with NaN or +∞ has NaN for its log-probabilities and entropy; its rank and tokens mean nothing.

    Args:
        logits: Logits in any precision; log-probabilities are logits too.
        targets: A token for each row.
        n_top: How many of the most probable tokens; fewer where the vocabulary is smaller.
        others: Further tokens of a row, each as good as its target and none twice; −1 where there is none.
    """
    shape, d_vocab, device = targets.shape, logits.shape[-1], logits.device
    own = logits.gather(-1, targets[..., None]).float()
    best, first = own, targets[..., None]
    if others is not None:
        own, best, first = _gather_several(logits, targets, others)
    log_sum, entropy_bits = torch.empty((2, *shape), device=device)
    rank = torch.empty(shape, dtype=torch.long, device=device)
    parts = []
    for block in blocks(shape, d_vocab, device):
        row = logits[block].float()
        maxima = group_maxima(row)
        log_sum[block], entropy_bits[block], rank[block] = _measure_block(row, best[block], first[block], maxima)
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


def _gather_several(logits: Tensor, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the tokens that count in a row, [row, 1]: log Σ exp(logit), the largest logit, and the first that has it."""
    tokens = torch.cat([targets[..., None], others], dim=-1)
    found = logits.gather(-1, tokens.clamp(min=0)).float().masked_fill(tokens < 0, -torch.inf)
    best = found.amax(dim=-1, keepdim=True)
    is_best = (found == best) & (tokens >= 0)
    first = tokens.masked_fill(~is_best, logits.shape[-1]).amin(dim=-1, keepdim=True)
    return found.logsumexp(dim=-1, keepdim=True), best, first


def _measure_block(row: Tensor, own: Tensor, target: Tensor, maxima: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a block of rows: logarithm of the sum of exp(logit − largest), entropy in bits, rank of `own` at `target`."""
    shifted = (row - maxima.amax(dim=-1, keepdim=True)).clamp_(min=LOWEST_LOG_PROB)
    weights = shifted.exp()
    weight = weights.sum(dim=-1)
    log_sum = weight.log()
    # Neither term is negative: nothing cancels.
    nats = log_sum - shifted.mul_(weights).sum(dim=-1) / weight
    # Ones and zeros as floats, since booleans are counted one at a time; exact for fewer than 2²⁴ of them.
    rank = 1 + torch.gt(row, own, out=weights).sum(dim=-1).long()
    return log_sum, nats / math.log(2), rank + _count_ties(torch.eq(row, own, out=weights), target)


def _count_ties(is_equal: Tensor, target: Tensor) -> Tensor | int:
    """How many of equal logits, marked by ones, have a lower id than the target.

    They are common in bfloat16, and rank above it, as `find_largest` and `argmax` choose. On a CPU it costs less to see
    first whether there are any; elsewhere that would wait for the device.
    """
    if is_equal.device.type == "cpu" and not bool((is_equal.sum(dim=-1) > 1).any()):
        return 0
    return is_equal.mul_(torch.arange(is_equal.shape[-1], device=is_equal.device) < target).sum(dim=-1).long()
