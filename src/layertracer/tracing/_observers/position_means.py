"""Layer measures that are means over positions: one number of what enters and what leaves, for each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import MeasureInfo
from layertracer.tracing._distributions.blocks import blocks
from layertracer.tracing._failures import telling_whose
from layertracer.tracing._observers.protocol import CleanCall

_LEAST_LENGTHS = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, kw_only=True)
class Positions:
    """What enters and what leaves a layer, token by token.

    Where the stream holds several vectors for a token, beside each other, they count as one long vector.

    Attributes:
        entering: What enters, in the model's type.
        leaving: What leaves.
    """

    entering: Float[Tensor, "prompt position width"]
    leaving: Float[Tensor, "prompt position width"]

    @classmethod
    def of(cls, call: CleanCall, leaving: Tensor) -> Positions:
        """Those of a layer's call, without what stands before the first token."""
        first = call.layer.wiring.n_leading
        entering, leaving = (rows[:, first:].flatten(2) for rows in (call.entering.to(leaving.device), leaving))
        return cls(entering=entering, leaving=leaving)

    @cached_property
    def cos(self) -> Float[Tensor, "prompt position"]:
        """Cosine of the angle between both, in float64, where 1 − cos keeps seven digits of a turn of 1e-4.

        0 where one of the two is 0.
        """
        n_prompts, n_positions, width = self.leaving.shape
        cos = torch.empty(n_prompts, n_positions, dtype=torch.float64, device=self.leaving.device)
        for block in blocks((n_prompts, n_positions), width, cos.device):
            one, other = self.entering[block].double(), self.leaving[block].double()
            lengths = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
            cos[block] = one.mul_(other).sum(dim=-1) / lengths.clamp_(min=_LEAST_LENGTHS)
        return cos.clamp_(-1, 1)


@dataclass(slots=True, kw_only=True)
class PositionMeans:
    """The mean of a number over all positions of each prompt, each token counted once.

    The tokens are those that are fed: the prompt and, where several tokens of an answer are followed, all of them but
    the last.

    Attributes:
        info: What the number is.
        of: Computes it for each position, [prompt, position]; nothing that it is given may be written over.
        site: What counts as leaving the layer.
    """

    info: MeasureInfo
    of: Callable[[Positions], Tensor]
    site: str = "block_output"
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
        # A layer leaves once in a call: what leaves it is measured together. Branches may add several times.
        shared = call.shared if self.site == "block_output" else {}
        positions = shared.get(Positions) or shared.setdefault(Positions, Positions.of(call, leaving))
        with telling_whose(f"The layer measure {self.name!r}", f"at layer {call.layer.index}", code=self.of):
            numbers = self.of(positions)
        self._take(call.layer.index, numbers.sum(dim=1), numbers.shape[1])

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
