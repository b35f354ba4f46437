"""The number that every contender but LayerTracer computes with these lines."""

from __future__ import annotations

import math

import torch


def log_probs_of(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of next tokens, [prompt, d_vocab], from logits of the last position."""
    return torch.log_softmax(logits.float(), dim=-1)


def js_bits(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in bits, [prompt], of log-probabilities [prompt, d_vocab] (Lin 1991).

    In float32, since a careful user would not pay for more: at a vocabulary of 49,152 that is right within 1e-5 bits.
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    nats = (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(dim=-1) / 2
    return nats / math.log(2)
