"""Log-softmax: from logits to log-probabilities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._distributions.blocks import blocks

LOWEST_LOG_PROB = -45.0
"""Stands for the logarithm of anything smaller: 1e-20, of which even a million add nothing to a sum of probabilities.

It is finite; and what is computed from it stays clear of the smallest floats below 1e-38, with which many processors
multiply a hundred times more slowly.
"""


def log_probs_of(logits: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch d_vocab"]:
    """Log-probabilities in float32, whatever the precision of the logits.

    `torch.log_softmax` adds up a row in a few running sums, which at 262,144 logits is wrong by 1e-5; `sum` adds in
    pairs.
    """
    log_probs = torch.empty(logits.shape, device=logits.device)
    for block in blocks(logits.shape[:-1], logits.shape[-1], logits.device):
        shifted = _shift(logits[block])
        log_sum = shifted.clamp(min=LOWEST_LOG_PROB).exp_().sum(dim=-1, keepdim=True).log_()
        log_probs[block] = shifted.sub_(log_sum)
    return log_probs


def floored_log_probs_of(logits: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch d_vocab"]:
    """Log-probabilities in float32, those below `LOWEST_LOG_PROB` raised to about that, for `js_from_logits`."""
    log_probs = torch.empty(logits.shape, device=logits.device)
    for block in blocks(logits.shape[:-1], logits.shape[-1], logits.device):
        log_probs[block] = normalise(logits[block])[0]
    return log_probs


def normalise(logits: Float[Tensor, "*row d_vocab"]) -> tuple[Tensor, Tensor]:
    """`floored_log_probs_of` one block of rows, and a tensor of their shape that may be written over."""
    log_probs = _shift(logits).clamp_(min=LOWEST_LOG_PROB)
    spare = log_probs.exp()
    return log_probs.sub_(spare.sum(dim=-1, keepdim=True).log_()), spare


def _shift(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits - logits.amax(dim=-1, keepdim=True)
