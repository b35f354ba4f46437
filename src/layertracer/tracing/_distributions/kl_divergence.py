"""Kullback-Leibler divergence between next-token distributions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._distributions.blocks import blocks


def kl_divergence(
    log_p: Float[Tensor, "*batch d_vocab"], log_q: Float[Tensor, "*batch d_vocab"]
) -> Float[Tensor, "*batch"]:
    """Kullback-Leibler divergence KL(P ‖ Q) of two next-token distributions.

    KL(P ‖ Q) = Σ p (log p − log q), the terms in float32, added up in float64; terms of p = 0 are 0. At least 0: what
    rounding leaves below is taken for 0. 0 exactly where log_p is log_q.

    Args:
        log_p: Log-probabilities of P, normalised over `d_vocab`.
        log_q: Log-probabilities of Q, normalised over `d_vocab`.

    Returns:
        One divergence per leading index, in nats, float64; infinite where Q excludes what P does not, NaN where
        either is.

    Source:
        Kullback & Leibler (1951), "On information and sufficiency".
    """
    nats = torch.empty(log_p.shape[:-1], dtype=torch.float64, device=log_p.device)
    for block in blocks(log_p.shape[:-1], log_p.shape[-1], log_p.device):
        p = log_p[block].exp()
        terms = (log_p[block] - log_q[block]).mul_(p)
        # Where p is 0, its logarithm may be minus infinity, and so may that of q.
        nats[block] = terms.masked_fill_(p == 0, 0.0).sum(dim=-1, dtype=torch.float64)
    return nats.clamp_(min=0.0)
