"""Reduction of rows at the tail's entrance to the numbers that are kept, in chunks.

Nothing of the shape rows × vocabulary is ever kept whole: a chunk of rows becomes logits, the logits
become a few numbers a row, and the next chunk follows. Everything is done in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer.tracing._distributions.blocks import Index, block_size
from layertracer.tracing._distributions.js_divergence import js_from_logits
from layertracer.tracing._distributions.log_softmax import floored_log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics, measure_lens
from layertracer.tracing._distributions.row_measures import (
    ROW_MEASURES,
    FollowedRows,
    PerturbedRows,
    measured,
)

_ENOUGH_ROWS = 64
_ENOUGH_BYTES = 24 * 2**20
"""On a CPU no more logits than this are made at a time, or that many rows if they are more: the product of matrices
gains nothing from further ones, and tensors beyond 32 MiB are taken from the system and given back each time."""

_TENSORS_OF_CHUNK_SIZE = 3
"""How many tensors of the size of a chunk's logits are alive at the busiest moment: the logits, what the tail makes of
them where it caps or scales them, and the clean rows, which are half as many."""

_TENSORS_OF_BLOCK_SIZE = 7
"""How many of the size of a block."""

_LEAST_ROW_BYTES = 4096
"""What the search for the most probable tokens takes for a row of a small vocabulary."""


class Reduction:
    """Reductions of one model's rows within a memory budget.

    Args:
        tail: The model's tail: logits [row, d_vocab] of rows [row, …, width].
        d_vocab: Number of logits.
        budget_bytes: Memory for a chunk of logits and all that is made of them; one row is the least.
    """

    def __init__(self, tail: Callable[[Tensor], Tensor], *, d_vocab: int, budget_bytes: int) -> None:
        self._tail, self._d_vocab = tail, d_vocab
        self._row_bytes = max(4 * d_vocab, _LEAST_ROW_BYTES)
        self._budget_bytes = budget_bytes

    def rows_per_chunk(self, device: torch.device) -> int:
        """How many rows become logits at a time."""
        row, budget = self._row_bytes, self._budget_bytes
        fitting = budget // (row * (_TENSORS_OF_CHUNK_SIZE + _TENSORS_OF_BLOCK_SIZE))
        if device.type == "cpu":
            beside_a_block = budget - _TENSORS_OF_BLOCK_SIZE * max(4 * block_size(device), row)
            fitting = max(fitting, beside_a_block // (row * _TENSORS_OF_CHUNK_SIZE))
            fitting = min(fitting, max(_ENOUGH_ROWS, _ENOUGH_BYTES // row))
        return max(1, fitting)

    def peak_bytes(self, n_rows: int, device: torch.device) -> int:
        """What is live at the busiest moment where that many rows become numbers."""
        logits = min(n_rows, self.rows_per_chunk(device)) * 4 * self._d_vocab
        block = logits if device.type != "cpu" else min(logits, max(4 * block_size(device), 4 * self._d_vocab))
        return _TENSORS_OF_CHUNK_SIZE * logits + _TENSORS_OF_BLOCK_SIZE * block

    def lens(self, rows: Tensor, targets: Tensor, *, n_top: int, others: Tensor | None = None) -> LensStatistics:
        """Statistics of rows [prompt, read, lens row, …, width] for targets [prompt, read].

        With `others` [prompt, read, other] those tokens count too; −1 where there is none.
        """
        shape = rows.shape[: targets.ndim + 1]
        flat = rows.flatten(0, len(shape) - 1)
        wanted = targets.reshape(*targets.shape, *[1] * (len(shape) - targets.ndim)).expand(shape).flatten()
        more = None if others is None else others.unsqueeze(-2).expand(*shape, -1).flatten(0, -2)
        parts = [
            measure_lens(
                self._tail(flat[chunk]), wanted[chunk], n_top=n_top, others=None if more is None else more[chunk]
            )
            for chunk in _chunks(len(flat), self.rows_per_chunk(rows.device))
        ]
        return LensStatistics.joined(parts, shape)

    def js_bits(
        self, clean: Float[Tensor, "prompt *width"], perturbed: Float[Tensor, "variant prompt *width"]
    ) -> Float[Tensor, "variant prompt"]:
        """JS divergence between each perturbed row and the clean row of its prompt, in bits."""
        return self.perturbed(clean, perturbed)["js_bits"]

    def perturbed(
        self,
        clean: Float[Tensor, "prompt *width"],
        perturbed: Float[Tensor, "variant prompt *width"],
        followed: FollowedRows | None = None,
    ) -> dict[str, Float[Tensor, "variant prompt"]]:
        """What is measured of each perturbed row beside the clean row of its prompt, by the measures' names.

        Args:
            clean: The clean rows.
            perturbed: The perturbed ones.
            followed: The tokens that are followed in each prompt; None for the JS divergence alone.
        """
        n_rows, n_variants = self.rows_per_chunk(perturbed.device), len(perturbed)
        names = ["js_bits"] if followed is None else list(ROW_MEASURES)
        values = {name: torch.empty(n_variants, len(clean), device=perturbed.device) for name in names}
        rows_of = perturbed.transpose(0, 1)
        # Variants of one prompt lie together, so that their clean row is at hand for all of them.
        for several in _chunks(len(clean), n_rows // 2):
            log_clean = floored_log_probs_of(self._tail(clean[several]))
            for prompts in _chunks(len(log_clean), n_rows // max(1, n_variants)):
                here = slice(several.start + prompts.start, several.start + prompts.stop)
                for variants in _chunks(n_variants, n_rows):
                    rows = rows_of[here, variants]
                    logits = self._tail(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
                    found = {name: of.T[here, variants] for name, of in values.items()}
                    tokens = None if followed is None else followed.tokens[here]
                    _measure_chunk(found, logits, log_clean[prompts, None], tokens)
        return values


def _measure_chunk(
    found: Mapping[str, Float[Tensor, "prompt variant"]],
    logits: Float[Tensor, "prompt variant d_vocab"],
    log_clean: Float[Tensor, "prompt 1 d_vocab"],
    tokens: Int[Tensor, "prompt token"] | None,
) -> None:
    """Fill in what is measured of some perturbed rows."""
    further = [name for name in found if name != "js_bits"]

    def measure(block: Index, log_probs: Tensor) -> None:
        assert tokens is not None  # without them there is nothing further
        rows = PerturbedRows(
            log_probs=log_probs,
            log_clean=log_clean.expand(logits.shape)[block],
            tokens=tokens[:, None].expand(*logits.shape[:2], -1)[block],
            logits=logits[block],
        )
        for name in further:
            found[name][block] = measured(name, rows)

    found["js_bits"].copy_(js_from_logits(logits, log_clean, beside=measure if further else None))


def _chunks(n_items: int, size: int) -> Iterator[slice]:
    """Slices of about equal length: `size` at most, and 1 at least."""
    n_chunks = math.ceil(n_items / max(1, size))
    for i in range(n_chunks):
        yield slice(i * n_items // n_chunks, (i + 1) * n_items // n_chunks)
