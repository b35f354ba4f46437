"""KL divergence of what the tail reads from the final output, and its gradient with respect to the tail's input."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer.models import is_quantised, recording_gradients
from layertracer.tracing._lens_fitting.lens_bench import LensBench


def kl_and_gradient(
    bench: LensBench, rows: Float[Tensor, "row width"], log_p: Float[Tensor, "row d_vocab"]
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row width"]]:
    """KL(p ‖ tail(x)) of rows x, nats, and its gradient with respect to x, through the model's own code.

    No parameter gets a gradient, whether it requires one or not. Logits become log-probabilities in float32, or in the
    model's type where that is finer.

    Args:
        bench: The model.
        rows: What is put in the place of what leaves the last layer.
        log_p: The final output.
    """
    values, gradients = [], []
    with recording_gradients(bench.model.network):
        for part in bench.parts(len(rows)):
            value, gradient = _of_part(bench, rows[part], log_p[part])
            values.append(value)
            gradients.append(gradient)
    return torch.cat(values), torch.cat(gradients)


def _of_part(bench: LensBench, rows: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_()
        logits = bench.tail(leaf)
        log_q = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        # Where p excludes a token, so that 0 · −∞ would be NaN, nothing is added.
        terms = (log_p.exp() * (log_p - log_q)).masked_fill(log_p.isneginf(), 0.0)
        kl = terms.sum(dim=-1)
        # Of the sum, not of the mean, whose gradients would vanish in types of a small range.
        (gradient,) = torch.autograd.grad(kl.sum(), leaf)
    return kl.detach(), gradient


def refuse_without_gradient(bench: LensBench, *, kind: str) -> None:
    """Raise where no gradient comes through the model's tail; before anything is fitted.

    Raises:
        UsageError: If that is so; the message says why, where that is known.
    """
    anatomy = bench.model.anatomy
    row = bench.tail.zero_row() + 1
    log_p = torch.zeros(1, anatomy.d_vocab, device=bench.model.device).log_softmax(dim=-1)
    try:
        _, gradient = kl_and_gradient(bench, row, log_p)
        why = "" if bool(gradient.isfinite().all()) else "it is not finite"
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
    if why:
        outer = is_quantised(bench.model.module)
        because = "its weights are quantised, and their code gives none" if outer else why
        raise UsageError(
            f"A {kind} lens cannot be fitted on {bench.model.name!r}: no gradient comes back through what it does "
            f"after its last layer ({because}). Use kind='linear', or load the model in a floating type."
        )
