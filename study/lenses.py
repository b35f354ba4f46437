"""A second lens: what leaves a layer is first translated, by least squares, into what leaves the last one.

Fitted for each miniature on documents that no training saw, with the lens of the library (`LinearLens`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

import layertracer as lt
from layertracer._files import write_whole
from layertracer.api import Trace
from layertracer.runs import PromptRecord
from layertracer.tracing import LinearLens, TracedModel, gather_streams

from training import FULL, draw_batch

_SEED = 1000
"""Seed of the documents; those of trainings are 0, 1 and 2."""
_N_BATCHES = 4
N_POSITIONS = _N_BATCHES * FULL.n_documents * FULL.n_tokens
"""So many positions a lens is fitted on."""


def fit_linear_lens(model: TracedModel) -> LinearLens:
    """Fits a miniature's lens on documents of its corpus."""
    batches = (
        draw_batch(seed=_SEED, step=step, n_documents=FULL.n_documents, n_tokens=FULL.n_tokens)
        for step in range(_N_BATCHES)
    )
    streams = [gather_streams(model.network, torch.from_numpy(batch.ids)) for batch in batches]
    return LinearLens.fitted(torch.cat(streams, dim=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetReading:
    """What a lens says of the targets.

    Attributes:
        log_prob: After the embeddings and after every layer, nats.
        rank: 1 where the target is the top token.
    """

    log_prob: Float[np.ndarray, "prompt stream"]
    rank: Int[np.ndarray, "prompt stream"]

    def save(self, path: Path) -> None:
        """Writes the arrays."""
        write_whole(path, lambda file: np.savez(file, log_prob=self.log_prob, rank=self.rank))

    @classmethod
    def load(cls, path: Path) -> TargetReading:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(log_prob=arrays["log_prob"], rank=arrays["rank"])

    def put_into(self, trace: Trace) -> Trace:
        """The trace as another lens reads the target; what it knows of other tokens is still the logit lens'."""
        return dataclasses.replace(
            trace,
            target_log_prob=self.log_prob[:, 1:],
            embedding_log_prob=self.log_prob[:, 0],
            target_rank=self.rank[:, 1:],
        )


def read_targets(lens: LinearLens, model: TracedModel, prompts: Sequence[PromptRecord]) -> TargetReading:
    """The targets of a trace's prompts, one token each, through a lens."""
    targets = torch.tensor([prompt.target_ids for prompt in prompts])[:, :, None]
    readout = lt.read_layers(model, [lt.Sample(prompt_ids=prompt.prompt_ids) for prompt in prompts], lens=lens)
    read = readout.lenses[lens.name]
    log_probs = torch.cat([read.embedding_log_probs[:, None], read.log_probs], dim=1)
    own = log_probs.gather(-1, targets.expand(-1, log_probs.shape[1], 1))
    ranks = 1 + (log_probs > own).sum(dim=-1)
    return TargetReading(log_prob=own[..., 0].numpy(), rank=ranks.int().numpy())
