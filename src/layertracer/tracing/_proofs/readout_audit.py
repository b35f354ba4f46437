"""Audit of a readout: some of its prompts run alone, and held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Audit, Method
from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._lenses.protocol import Lens, translated
from layertracer.tracing._passes.plain import plain_readout
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._proofs.alone import Disagreement, watched_alone
from layertracer.tracing._proofs.rounding import (
    MOST_READOUT,
    MOST_ROUNDING,
    RELATIVE_NATS,
    jitters_allowed,
    nats_tolerance,
    rounding_moves,
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
    read: Sequence[Float[Tensor, "prompt row d_vocab"]],
    *,
    readers: Sequence[Lens | None],
    method: Method,
) -> Audit:
    """What comes of reading some prompts again, each alone.

    Args:
        network: The model.
        prompts: Those prompts.
        read: Log-probabilities of all prompts, from the embeddings and after each layer, one tensor for each lens.
        readers: The lenses; None for the logit lens.
        method: How they were read.

    Raises:
        Disagreement: If one of them differs by more than rounding explains.
    """
    worst = 0.0
    for prompt in prompts:
        bound, ids = bind_batch(network, [prompt])
        for lens, own in zip(readers, read, strict=True):
            alone = _Alone(network=bound, ids=ids, prompt=prompt, lens=lens, method=method)
            worst = max(worst, alone.compare(own[prompt.index]))
    n_lens_rows, n_bypassed = 1 + network.anatomy.n_layers, int(method != "plain")
    n_readouts = len(prompts) * len(readers)
    return Audit(
        share=0.0,
        n_cells=(n_lens_rows + n_bypassed) * n_readouts,
        n_forwards=(1 + n_bypassed if n_bypassed else n_lens_rows) * n_readouts,
        worst_nats=worst if prompts else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alone:
    """One prompt read alone by one lens; None for the logit lens."""

    network: Network
    ids: Tensor
    prompt: Prompt
    lens: Lens | None
    method: Method

    def compare(self, read: Float[Tensor, "row d_vocab"]) -> float:
        """How far it is from what was read of it beside others, nats.

        Raises:
            Disagreement: If it differs by more than rounding explains.
        """
        alone = self._read()
        differences, tolerance = _differences(alone, read), nats_tolerance(self.network)
        worst = float(differences.max())
        if self.method != "plain":
            worst = max(worst, self._check_bypassing(read, tolerance))
        if bool((differences <= tolerance).all()):
            return worst
        moves = [_differences(self._read(), alone) for _ in rounding_moves(self.network)]
        allowed = (
            torch.stack(moves)
            .amax(dim=0)
            .mul(jitters_allowed(self.network))
            .clamp(min=tolerance, max=MOST_ROUNDING * tolerance)
        )
        if not bool((differences <= allowed).all()):
            lens_row = int((differences > allowed).nonzero()[-1])
            where = "from the embeddings" if lens_row == 0 else f"after layer {lens_row - 1}"
            raise Disagreement(
                f"sample {self.prompt.index} read {where}{self._by} had log-probabilities that differ by "
                f"{float(differences[lens_row]):.4g} nats when it was read again alone"
            )
        return worst

    @property
    def _by(self) -> str:
        return "" if self.lens is None else f" by the lens {self.lens.name!r}"

    def _check_bypassing(self, read: Float[Tensor, "row d_vocab"], tolerance: float) -> float:
        """How far the first layer's row is from the whole model with all later layers bypassed, nats.

        Raises:
            Disagreement: If it is not the same.
        """
        difference = float(_differences(self._plain(0)[None], read[1:2]).max())
        if not difference <= MOST_READOUT * tolerance:
            raise Disagreement(
                f"sample {self.prompt.index} read after layer 0{self._by} had log-probabilities that differ by "
                f"{difference:.4g} nats from those of the model with its later layers bypassed"
            )
        return difference

    def _plain(self, layer: int) -> Tensor:
        """Log-probabilities [d_vocab] out of the whole model with all layers after one bypassed."""
        logits = plain_readout(self.network, self.ids, read=self.prompt.read, layer=layer, lens=self.lens)
        return log_probs_of(logits[0, 0]).cpu()

    def _read(self) -> Float[Tensor, "row d_vocab"]:
        """Log-probabilities from the embeddings and after each layer; the last are the model's."""
        n_layers = self.network.anatomy.n_layers
        if self.method == "plain":
            return torch.stack([self._plain(layer) for layer in range(-1, n_layers)])
        logits, rows = watched_alone(self.network, self.ids, self.prompt.read)
        tail, found = Tail(self.network), []
        for layer in range(-1, n_layers - 1):
            row = rows[:, 0, 1 + layer]
            if self.lens is not None:
                row = translated(self.lens, row, layer=layer, n_layers=n_layers)
            found.append(log_probs_of(tail(row)[0]).cpu())
        return torch.stack([*found, log_probs_of(logits[0, 0]).cpu()])


def _differences(one: Tensor, other: Tensor) -> Tensor:
    """Largest differences [lens row] of log-probabilities, at tokens that are not all but impossible."""
    likely = torch.maximum(one, other) > _LIKELY_NATS
    difference = torch.where(likely & (one != other), (one - other).abs() - RELATIVE_NATS * one.abs(), 0.0)
    return difference.clamp(min=0).amax(dim=-1)
