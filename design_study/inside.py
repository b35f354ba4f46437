"""Placements inside the running model: substitutes in the place of attention, and nothing trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float64

import layertracer as lt
from layertracer.tracing import JudgedRow, make_substituter

from design_study.plan import N_TOKENS
from design_study.ranks import Placement
from design_study.students import find_checkpoint
from training import draw_batch


def load_inside(name: str) -> lt.TracedModel:
    """A trained miniature, as the tool traces it."""
    return lt.load_model(find_checkpoint(name), device="cpu")


def draw_rows(seed: int, n_rows: int, *, n_seen: int = 0, determined: bool = True) -> tuple[JudgedRow, ...]:
    """Documents of the corpus, read where a window changes something.

    Args:
        seed: Seed of the data.
        n_rows: How many documents; one in which nothing is to be read is left out.
        n_seen: Positions before this one are not read: a window that is as long changes nothing there.
        determined: Whether to read only where what precedes determines the next token.
    """
    batch = draw_batch(seed=seed, step=0, n_documents=n_rows, n_tokens=N_TOKENS + 1)
    rows = []
    for ids, weights in zip(batch.ids, batch.weights, strict=True):
        read = [at for at in range(n_seen, N_TOKENS) if weights[at] == 1.0 or not determined]
        if read:
            rows.append(JudgedRow(ids=tuple(map(int, ids[:-1])), read=tuple(read)))
    return tuple(rows)


def find_determined(seed: int, n_rows: int, *, n_seen: int) -> Bool[np.ndarray, " token"]:
    """Of all positions of `draw_rows(determined=False)`, row by row: whether the next token is determined there.

    Args:
        seed: Seed of the data.
        n_rows: How many documents.
        n_seen: Positions before this one are not read.
    """
    weights = draw_batch(seed=seed, step=0, n_documents=n_rows, n_tokens=N_TOKENS + 1).weights
    found: np.ndarray = weights[:, n_seen:].ravel() == 1.0
    return found


class Inside:
    """KL(full ‖ placed) of placements, mean over all positions that are read; each is measured once.

    Attributes:
        layers: The layers whose mixer can be substituted.
    """

    def __init__(
        self, model: lt.TracedModel, substitute: lt.Window | lt.NoMixer | lt.MeanMixer, rows: Sequence[JudgedRow]
    ) -> None:
        self._rows = tuple(rows)
        mean_rows = self._rows if isinstance(substitute, lt.MeanMixer) else None
        self._substituter = make_substituter(model, substitute, mean_rows=mean_rows)
        self._known: dict[Placement, np.ndarray] = {}
        self.layers: Placement = tuple(self._substituter.placeable)

    def __call__(self, placements: Sequence[Collection[int]]) -> Float64[np.ndarray, " placement"]:
        """KL in nats of each placement.

        Args:
            placements: Sets of kept layers.
        """
        means: np.ndarray = self.by_token(placements).mean(axis=1)
        return means

    def by_token(self, placements: Sequence[Collection[int]]) -> Float64[np.ndarray, "placement token"]:
        """KL in nats of each placement at each position that is read, row by row.

        Args:
            placements: Sets of kept layers.
        """
        asked = [tuple(sorted(kept)) for kept in placements]
        missing = [kept for kept in dict.fromkeys(asked) if kept not in self._known]
        if missing:
            measured = self._substituter.measure(self._rows, missing)
            kl = np.concatenate([row.kl_nats for row in measured], axis=1)
            self._known |= dict(zip(missing, kl, strict=True))
        return np.stack([self._known[kept] for kept in asked])
