"""Jensen-Shannon (JS) divergence of next-token distributions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._distributions.blocks import Index, blocks, spans
from layertracer.tracing._distributions.log_softmax import LOWEST_LOG_PROB, normalise

SeeBlock = Callable[[Index, Tensor], None]
"""Given where a block of rows is, and its `floored_log_probs_of`, which it must not keep or change."""


def js_divergence(
    log_p: Float[Tensor, "*batch d_vocab"], log_q: Float[Tensor, "*#batch d_vocab"]
) -> Float[Tensor, "*batch"]:
    """Jensen-Shannon divergence between two next-token distributions.

    JSD(P, Q) = ½ KL(P ‖ M) + ½ KL(Q ‖ M), M = ½ (P + Q). Symmetric, within [0, 1], finite where
    supports do not overlap, exactly 0 where log_p equals log_q. NaN where an input is NaN.

    Each token adds ½ max(p, q) · f(d), d = |log p − log q|, with f(d) = (1 + u) log(2 / (1 + u)) − u d and
    u = exp(−d). Its terms cancel where d is small; there the Taylor series of f takes over, so that no
    token's share is negative and near-equal inputs keep their digits: in float32 f is right to 1e-5 of
    its value everywhere, to 4e-7 of it below d = 0.1, and to 3e-7 in absolute terms.

    Args:
        log_p: Log-probabilities of P, normalised over `d_vocab`.
        log_q: Log-probabilities of Q, normalised over `d_vocab`.

    Returns:
        One divergence per leading index, in bits, within [0, 1]; float32, float64 for inputs in float64.

    Example:
        >>> p, q = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log()
        >>> js_divergence(p, q).item()
        1.0

    Source:
        Lin (1991), "Divergence measures based on the Shannon entropy".
    """
    dtype = torch.promote_types(torch.promote_types(log_p.dtype, log_q.dtype), torch.float32)
    log_p, log_q = torch.broadcast_tensors(log_p, log_q)
    shape, d_vocab = log_p.shape[:-1], log_p.shape[-1]
    nats = torch.zeros(shape, dtype=torch.float64, device=log_p.device)
    for block in blocks(shape, d_vocab, log_p.device):
        p, q = (log_probs[block].to(dtype).clamp(min=LOWEST_LOG_PROB) for log_probs in (log_p, log_q))
        nats[block] -= _minus_shares(p, q, spare=torch.empty_like(p))
    return _bits(nats).to(dtype)


def js_from_logits(
    logits: Float[Tensor, "*batch d_vocab"],
    log_reference: Float[Tensor, "*#batch d_vocab"],
    *,
    beside: SeeBlock | None = None,
) -> Float[Tensor, "*batch"]:
    """JS divergence in bits between the distributions of logits and a reference, in float32.

    Exactly 0 for the logits that the reference was made of.

    Args:
        logits: Logits, in any precision.
        log_reference: The reference's `floored_log_probs_of`.
        beside: Sees each block before the divergence writes over it; None where nothing else is measured.
    """
    shape, d_vocab = logits.shape[:-1], logits.shape[-1]
    log_reference = log_reference.expand(logits.shape)
    nats = torch.zeros(shape, dtype=torch.float64, device=logits.device)
    for block in blocks(shape, d_vocab, logits.device):
        log_probs, spare = normalise(logits[block])
        if beside is not None:
            beside(block, log_probs)
        nats[block] -= _minus_shares(log_probs, log_reference[block], spare=spare)
    return _bits(nats).float()


def _bits(nats: Tensor) -> Tensor:
    return nats.mul_(0.5 / math.log(2)).clamp_(0, 1)


def _minus_shares(log_p: Tensor, log_q: Tensor, *, spare: Tensor) -> Tensor:
    """Sums of −max(p, q) · f(d) for a block of rows. Writes over `log_p` and `spare`; there is no log 0."""
    larger = torch.maximum(log_p, log_q, out=spare)
    minus_gap = torch.minimum(log_p, log_q, out=log_p).sub_(larger)
    larger.exp_()
    parts = [
        _minus_excess(minus_gap[..., span]).mul_(larger[..., span]).sum(dim=-1)
        for span in spans(log_p.shape[-1], log_p.device)
    ]
    return sum(parts[1:], start=parts[0])


def _minus_excess(minus_gap: Tensor) -> Tensor:
    """−f(d) of −d, which is written over.

    The larger of two candidates. The series d²/4 · (1 − d²/8 + d⁴/72) · (1 + u) / 2 is above f by what it leaves out,
    and beyond d = 0.4 or so by more than f's rounding; the formula is taken with u a rounding error too small in its
    logarithm, which puts it above f where d is small. Whichever is nearer to f is thereby chosen without a comparison.
    """
    u, square = minus_gap.exp(), minus_gap * minus_gap
    half_sum = torch.rsub(u, 0.5, alpha=torch.finfo(u.dtype).eps - 0.5)
    formula = half_sum.log()
    formula.addcmul_(u, minus_gap.sub_(formula), value=-1)
    series = torch.mul(square, -1 / 288, out=minus_gap).add_(1 / 32).mul_(square).sub_(1 / 4)
    return torch.maximum(formula, series.mul_(square).mul_(half_sum), out=formula)
