"""Layer measures that are means over positions: one number of what enters and what leaves, for each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Site
from layertracer._types.measures import MeasureInfo
from layertracer.tracing._distributions.blocks import blocks
from layertracer.tracing._observers.protocol import CleanCall

OfPositions = Callable[[Tensor, Tensor], Tensor]
"""Of what enters and what leaves, [*position, width], a number of each position."""


@dataclass(slots=True, kw_only=True)
class PositionMeans:
    """The mean of a number over all positions of each prompt, each token counted once.

    The tokens are those that are fed: the prompt and, where several tokens of an answer are followed, all of them but
    the last. Where the stream holds several vectors for a token, beside each other, they count as one long vector.

    Attributes:
        info: What the number is.
        of: Computes it, in float32, of what it must not write over.
        site: What counts as leaving the layer.
    """

    info: MeasureInfo
    of: OfPositions
    site: Site = "block_output"
    _sums: dict[int, tuple[Tensor, int]] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """What the number is called."""
        return self.info.name

    def fresh(self) -> PositionMeans:
        """The same number, of which nothing was seen yet."""
        return PositionMeans(info=self.info, of=self.of, site=self.site)

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Add up the number over some positions."""
        first = call.layer.wiring.n_leading
        rows = [stream[:, first:].flatten(2) for stream in (call.entering.to(leaving.device), leaving)]
        n_prompts, n_positions, width = rows[0].shape
        numbers = torch.empty(n_prompts, n_positions, device=leaving.device)
        for block in blocks((n_prompts, n_positions), width, leaving.device):
            numbers[block] = self.of(*(stream[block].float() for stream in rows))
        self._take(call.layer.index, numbers.sum(dim=1), n_positions)

    def add(self, other: PositionMeans, *, times: int = 1) -> None:
        """Take in the positions that another one saw, of one prompt, which all prompts here begin with."""
        del times
        for layer, (total, n_positions) in other._sums.items():
            self._take(layer, total, n_positions)

    def _take(self, layer: int, total: Float[Tensor, " prompt"], n_positions: int) -> None:
        if layer in self._sums:
            before, n_before = self._sums[layer]
            total, n_positions = before + total.to(before.device), n_before + n_positions
        self._sums[layer] = total, n_positions

    def per_prompt(self) -> dict[int, Tensor]:
        """The means of each layer that was seen."""
        return {layer: total / n_positions for layer, (total, n_positions) in self._sums.items()}


class Turn(NamedTuple):
    """How two vectors lie to one another: of both at length 1, the lengths of their difference and of their sum.

    Out of these, what is near 0 keeps its digits: 1 − cos is rounded away where two vectors are all but parallel. Where
    one of them is 0 they are alike, as for vectors at a right angle.
    """

    apart: Float[Tensor, "*position"]
    together: Float[Tensor, "*position"]

    @classmethod
    def of(cls, one: Float[Tensor, "*position width"], other: Float[Tensor, "*position width"]) -> Turn:
        """Of each position's two vectors."""
        one, other = _unit(one), _unit(other)
        return cls(*(torch.linalg.vector_norm(between, dim=-1) for between in (one - other, other.add_(one))))


def _unit(vectors: Tensor) -> Tensor:
    """Vectors at length 1, copies; those of length 0 as they are, NaN for those too long to be measured."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    length = length.masked_fill(length == 0, 1.0).masked_fill(length.isinf(), torch.nan)
    return vectors / length
