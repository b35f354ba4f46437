"""Rows of tokens that placements of substitutes are measured on, and what is measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import PromptTooLongError, UsageError
from layertracer._types import checked_whole
from layertracer._types.given import Ids, checked_ids
from layertracer.models import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """A text as token ids, and where it is looked at.

    Attributes:
        ids: Token ids, from the text's beginning.
        read: Positions whose next-token distribution is looked at, from 0, rising.

    Raises:
        UsageError: If there is no token or no position, or the positions do not rise within the text.
    """

    ids: Ids
    read: Ids

    def __post_init__(self) -> None:
        """Refuse what cannot be read."""
        object.__setattr__(self, "ids", checked_ids("ids", self.ids))
        hint = "Give positions of the text from 0, e.g. read=range(20, len(ids))."
        read = tuple(checked_whole("Each of read", one, hint=hint) for one in self.read)
        object.__setattr__(self, "read", read)
        if not self.ids or not read:
            raise UsageError(f"A row has {len(self.ids)} tokens and {len(read)} positions to read. Give both. {hint}")
        if list(read) != sorted(set(read)) or not 0 <= read[0] <= read[-1] < len(self.ids):
            raise UsageError(
                f"read must rise from 0 to {len(self.ids) - 1} at most in a row of {len(self.ids)} tokens, got "
                f"{_shortened(read)}. {hint}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMeasures:
    """What one row says of each placement, position by position.

    Attributes:
        kl_nats: KL(full ‖ placed) of the next-token distributions, nats, [placement, read]; 0 exactly where both are
            the same.
        nll_nats: −log p of the row's own next token, nats, [placement, read]; NaN at the row's last token.
        full_nll_nats: The full model's, [read].
        top_ids: The most probable next token, [placement, read].
        full_top_ids: The full model's, [read].
    """

    kl_nats: NDArray[np.float64]
    nll_nats: NDArray[np.float64]
    full_nll_nats: NDArray[np.float64]
    top_ids: NDArray[np.int64]
    full_top_ids: NDArray[np.int64]

    @classmethod
    def empty(cls, n_placements: int, n_read: int) -> RowMeasures:
        """Room for what is measured of a row, NaN until it is."""
        return cls(
            kl_nats=np.full((n_placements, n_read), np.nan),
            nll_nats=np.full((n_placements, n_read), np.nan),
            full_nll_nats=np.full(n_read, np.nan),
            top_ids=np.full((n_placements, n_read), -1, dtype=np.int64),
            full_top_ids=np.full(n_read, -1, dtype=np.int64),
        )


def check_rows(rows: Sequence[JudgedRow], network: Network) -> None:
    """Refuse rows that the model cannot read, all of them at once.

    Raises:
        UsageError: If there is none, one is no row, or a token is unknown to the model.
        PromptTooLongError: If one is longer than the model's context.
    """
    if not rows:
        raise UsageError("There is no row to measure placements on. Give at least one JudgedRow.")
    for number, row in enumerate(rows):
        if not isinstance(row, JudgedRow):
            raise UsageError(f"Row {number} is a {type(row).__name__}. Give JudgedRow(ids=…, read=…).")
    longest = network.max_length
    too_long = [number for number, row in enumerate(rows) if longest is not None and len(row.ids) > longest]
    if too_long:
        raise PromptTooLongError(
            f"{len(too_long)} of {len(rows)} rows are longer than the context of {network.name!r}: up to "
            f"{max(len(rows[number].ids) for number in too_long)} tokens, at most {longest} fit (rows "
            f"{_shortened(too_long)}). Cut them."
        )
    n_tokens = network.anatomy.n_input_tokens
    for number, row in enumerate(rows):
        unknown = [token for token in row.ids if not 0 <= token < n_tokens]
        if unknown:
            raise UsageError(
                f"Row {number} has token id {unknown[0]}, but {network.name!r} reads ids from 0 to {n_tokens - 1}. "
                "Use the model's own tokenizer."
            )


def _shortened(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown}, …" if len(numbers) > 5 else shown
