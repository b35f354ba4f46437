"""Kullback-Leibler divergence between next-token distributions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._distributions.blocks import blocks


class DivergenceFrom:
    """Kullback-Leibler divergence KL(P ‖ Q) of one P from several Q, next-token distributions.

    KL(P ‖ Q) = Σ p (log p − log q), the terms in float32, added up in float64; terms of p = 0 are 0. At least 0: what
    rounding leaves below is taken for 0. 0 exactly where log p is log q.

    Args:
        log_p: Log-probabilities of P, normalised over `d_vocab`.

    Source:
        Kullback & Leibler (1951), "On information and sufficiency".
    """

    def __init__(self, log_p: Float[Tensor, "*row d_vocab"]) -> None:
        self._log_p, self._p = log_p, log_p.exp()
        self._never = log_p.isneginf()
        self._has_never = bool(self._never.any())

    def to(self, log_q: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch"]:
        """The divergences, in nats, float64.

        Args:
            log_q: Log-probabilities of several Q, of the rows of P and with further axes in front.

        Returns:
            One divergence per leading index; infinite where Q excludes what P does not, NaN where either is.
        """
        shape, n_leading = log_q.shape[:-1], log_q.ndim - self._log_p.ndim
        nats = torch.empty(shape, dtype=torch.float64, device=log_q.device)
        for block in blocks(shape, log_q.shape[-1], log_q.device):
            own = block[n_leading:]
            terms = (self._log_p[own] - log_q[block]).mul_(self._p[own])
            if self._has_never:
                terms = terms.masked_fill(self._never[own], 0.0)
            nats[block] = terms.sum(dim=-1, dtype=torch.float64)
        return nats.clamp_(min=0.0)
