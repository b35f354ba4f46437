"""Audit of a readout: some of its prompts run alone, and held against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Audit, Method
from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._distributions.reduction import log_probs_of
from layertracer.tracing._passes.plain import plain_readout
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._proofs.audit import (
    MOST_READOUT,
    MOST_ROUNDING,
    RELATIVE_NATS,
    Disagreement,
    jitters_allowed,
    nats_tolerance,
    rounding_moves,
    watched_alone,
)

_LIKELY_NATS = -20.0
"""Log-probabilities below are differences of large numbers; they are not compared."""


def choose_looks(prompts: Sequence[Prompt], share: float, *, seed: int) -> tuple[list[Prompt], int]:
    """Prompts that are read again, and how many of them the seed alone has drawn.

    The last one of every length and the first of all in any case; then as many as the share says.

    Args:
        prompts: All prompts.
        share: Share of them that the seed draws; 0 for no look at all.
        seed: What draws.
    """
    if not share:
        return [], 0
    buckets = bucket_prompts(prompts)
    lasts = [buckets[0][0], *(bucket[-1] for bucket in buckets)]
    n_drawn = round(share * len(prompts))
    drawn = np.random.default_rng([seed, len(prompts)]).permutation(len(prompts))[:n_drawn]
    chosen = {prompt.index: prompt for prompt in [*lasts, *(prompts[place] for place in drawn.tolist())]}
    return list(chosen.values()), n_drawn


def audit_readout(
    network: Network,
    prompts: Sequence[Prompt],
    read: Float[Tensor, "prompt lens_row d_vocab"],
    *,
    method: Method,
) -> Audit:
    """What comes of reading some prompts again, each alone.

    Args:
        network: The model.
        prompts: Those prompts.
        read: Log-probabilities of all prompts, from the embeddings and after each layer.
        method: How they were read.

    Raises:
        Disagreement: If one of them differs by more than rounding explains.
    """
    worst = 0.0
    for prompt in prompts:
        bound, ids = bind_batch(network, [prompt])
        alone = torch.stack(list(_lens_rows_alone(bound, ids, prompt, method)))
        differences = _differences(alone, read[prompt.index])
        worst, tolerance = max(worst, float(differences.max())), nats_tolerance(network)
        if method != "plain":
            worst = max(worst, _check_bypassing(bound, ids, prompt, read[prompt.index], tolerance))
        if bool((differences <= tolerance).all()):
            continue
        moves = [
            _differences(torch.stack(list(_lens_rows_alone(bound, ids, prompt, method))), alone)
            for _ in rounding_moves(bound)
        ]
        allowed = (
            torch.stack(moves)
            .amax(dim=0)
            .mul(jitters_allowed(network))
            .clamp(min=tolerance, max=MOST_ROUNDING * tolerance)
        )
        if not bool((differences <= allowed).all()):
            lens_row = int((differences > allowed).nonzero()[-1])
            where = "from the embeddings" if lens_row == 0 else f"after layer {lens_row - 1}"
            raise Disagreement(
                f"sample {prompt.index} read {where} had log-probabilities that differ by "
                f"{float(differences[lens_row]):.4g} nats when it was read again alone"
            )
    n_lens_rows, n_bypassed = 1 + network.anatomy.n_layers, int(method != "plain")
    return Audit(
        share=0.0,
        n_cells=(n_lens_rows + n_bypassed) * len(prompts),
        n_forwards=(1 + n_bypassed if n_bypassed else n_lens_rows) * len(prompts),
        worst_nats=worst if prompts else None,
    )


def _check_bypassing(
    network: Network, ids: Tensor, prompt: Prompt, read: Float[Tensor, "lens_row d_vocab"], tolerance: float
) -> float:
    """How far the first layer's row is from the whole model with all later layers bypassed, nats.

    Raises:
        Disagreement: If it is not the same.
    """
    bypassed = log_probs_of(plain_readout(network, ids, read=prompt.read, layer=0)[0, 0]).cpu()
    difference = float(_differences(bypassed[None], read[1:2]).max())
    if not difference <= MOST_READOUT * tolerance:
        raise Disagreement(
            f"sample {prompt.index} read after layer 0 had log-probabilities that differ by {difference:.4g} nats from "
            "those of the model with its later layers bypassed"
        )
    return difference


def _lens_rows_alone(network: Network, ids: Tensor, prompt: Prompt, method: Method) -> Iterator[Tensor]:
    """Log-probabilities [d_vocab] of one prompt, from the embeddings and after each layer; the last are the model's."""
    n_layers = network.anatomy.n_layers
    if method == "plain":
        for layer in range(-1, n_layers):
            yield log_probs_of(plain_readout(network, ids, read=prompt.read, layer=layer)[0, 0]).cpu()
        return
    logits, rows = watched_alone(network, ids, prompt.read)
    tail = Tail(network)
    for lens_row in range(n_layers):
        yield log_probs_of(tail(rows[:, 0, lens_row])[0]).cpu()
    yield log_probs_of(logits[0, 0]).cpu()


def _differences(one: Tensor, other: Tensor) -> Tensor:
    """Largest differences [lens row] of log-probabilities, at tokens that are not all but impossible."""
    likely = torch.maximum(one, other) > _LIKELY_NATS
    difference = torch.where(likely & (one != other), (one - other).abs() - RELATIVE_NATS * one.abs(), 0.0)
    return difference.clamp(min=0).amax(dim=-1)
