"""Distances between next-token distributions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LOWEST_LOG_PROB = -1e4
"""Stands for log 0: its exponential is 0 in every floating type, and it is finite."""


def js_divergence(
    log_p: Float[Tensor, "*batch d_vocab"], log_q: Float[Tensor, "*#batch d_vocab"]
) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence between two next-token distributions.

    JSD(P, Q) = ½ KL(P ‖ M) + ½ KL(Q ‖ M), M = ½ (P + Q). Symmetric, within [0, 1], finite where
    supports do not overlap, exactly 0 where log_p equals log_q.

    Each token adds m · g(t) with t = ½ (log p − log q) and g(t) = t tanh t − log cosh t ≥ 0, so that
    no term is negative and near-equal inputs lose no digits to cancellation.

    Args:
        log_p: Log-probabilities of P, normalised over `d_vocab`.
        log_q: Log-probabilities of Q, normalised over `d_vocab`.

    Returns:
        One divergence per leading index, in bits, within [0, 1].

    Example:
        >>> p, q = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log()
        >>> js_divergence(p, q).item()
        1.0

    Source:
        Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    log_p, log_q = log_p.clamp(min=_LOWEST_LOG_PROB), log_q.clamp(min=_LOWEST_LOG_PROB)
    mixture = (log_p.exp() + log_q.exp()).mul_(0.5)
    half_gap = (log_p - log_q).abs_().mul_(0.5)
    bits = mixture.mul_(_excess(half_gap)).sum(dim=-1, dtype=torch.float64).div_(math.log(2))
    return bits.clamp_(max=1.0).to(log_p.dtype)


def _excess(t: Tensor) -> Tensor:
    """g(t) = t tanh t − log cosh t for t ≥ 0, without cancellation.

    From 0.3 on: log 2 − log(1 + u) − 2tu / (1 + u) with u = exp(−2t). Below, where that cancels, its
    Taylor series up to t¹⁰, which is then right to 1e-7 of its value.
    """
    u = (t * -2).exp_()
    far = math.log(2) - torch.log1p(u) - t.mul(2).mul_(u).div_(u + 1)
    square = t * t
    near = square * (0.5 - square * (0.25 - square * (1 / 9 - square * (17 / 360 - square * (62 / 3150)))))
    return torch.where(t < 0.3, near, far)
