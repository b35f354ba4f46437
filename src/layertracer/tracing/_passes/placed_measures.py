"""From the rows of placements to what is measured of them, a chunk of logits at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures
from layertracer.tracing._distributions.kl_divergence import DivergenceFrom
from layertracer.tracing._distributions.log_softmax import log_probs_of

_ENOUGH_ROWS, _ENOUGH_BYTES = 64, 24 * 2**20
"""As for other reductions: on a CPU larger chunks are slower, and smaller ones make the tail's product slower."""


@runtime_checkable
class PlacedLogits(Protocol):
    """Logits of the full model and of some placements, at the positions of a row that are read."""

    def full(self, read: slice) -> Tensor:
        """The full model's at some of the positions, [read, d_vocab]."""

    def placed(self, some: slice, read: slice) -> Tensor:
        """Those of some of the placements, [placement, read, d_vocab]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedReduction:
    """What the distributions of placed models say beside the full model's.

    Attributes:
        d_vocab: Number of logits at a position.
        chunk_bytes: What the logits of a chunk may take.
    """

    d_vocab: int
    chunk_bytes: int

    @property
    def _n_rows(self) -> int:
        """Rows of logits at a time."""
        row_bytes = 4 * self.d_vocab
        enough = max(_ENOUGH_ROWS, _ENOUGH_BYTES // row_bytes)
        # Beside a chunk's logits stand their log-probabilities, and the full model's.
        return max(1, min(enough, self.chunk_bytes // (3 * row_bytes)))

    def fill(
        self,
        found: RowMeasures,
        row: JudgedRow,
        *,
        numbers: Sequence[int],
        logits: PlacedLogits,
    ) -> None:
        """Fill in what a row says of some placements.

        Args:
            found: Where it is filled in.
            row: The row.
            numbers: Which placements.
            logits: The logits of the full model, and of these placements in their order.
        """
        for read in _slices(len(row.read), self._n_rows):
            log_full = log_probs_of(logits.full(read))
            divergence, following = DivergenceFrom(log_full), _following(row, read, device=log_full.device)
            found.full_nll_nats[read] = _nll(log_full, following).cpu().numpy()
            found.full_top_ids[read] = log_full.argmax(dim=-1).cpu().numpy()
            for some in _slices(len(numbers), max(1, self._n_rows // len(log_full))):
                log_placed, which = log_probs_of(logits.placed(some, read)), list(numbers[some])
                nats = divergence.to(log_placed)
                found.kl_nats[which, read] = nats.cpu().numpy()
                found.nll_nats[which, read] = _nll(log_placed, following.expand(nats.shape)).cpu().numpy()
                found.top_ids[which, read] = log_placed.argmax(dim=-1).cpu().numpy()


def _following(row: JudgedRow, read: slice, *, device: torch.device) -> Tensor:
    """The row's own next token at each position, −1 where there is none."""
    ids = [*row.ids, -1]
    return torch.tensor([ids[position + 1] for position in row.read[read]], device=device)


def _nll(log_probs: Tensor, following: Tensor) -> Tensor:
    """−log p of the tokens that follow, NaN where none does or it has no probability of its own."""
    is_there = (following >= 0) & (following < log_probs.shape[-1])
    taken = log_probs.gather(-1, following.where(is_there, 0)[..., None])[..., 0].double()
    return (-taken).where(is_there, torch.nan)


def _slices(n_items: int, size: int) -> Iterator[slice]:
    for start in range(0, n_items, size):
        yield slice(start, min(n_items, start + size))
