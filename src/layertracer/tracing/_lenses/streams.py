"""The residual streams of whole texts: what lenses are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer._types import Site
from layertracer.models import Network, in_evaluation_mode, without_gradients
from layertracer.tracing._batching.rows import gather_rows
from layertracer.tracing._observers.protocol import CleanCall, observing


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRows:
    """An observer that copies what enters the first layer and leaves every layer.

    Attributes:
        network: The model; on whose device the copies lie.
        read: The positions, at equal distances.
        length: How many tokens the prompts have.
        rows: By layer, [prompt, read, …, width]; −1 is what enters the first.
    """

    network: Network
    read: Sequence[int]
    length: int
    rows: dict[int, Tensor] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        """What leaves a layer."""
        return "block_output"

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Copy the rows."""
        if call.layer.index == 0:
            self.rows[-1] = self._copied(call, call.entering)
        self.rows[call.layer.index] = self._copied(call, leaving)

    def _copied(self, call: CleanCall, rows: Tensor) -> Tensor:
        return gather_rows(rows, call.layer.wiring, self.read, length=self.length).to(self.network.device)

    def stacked(self, *, dim: int) -> Tensor:
        """All of them along an axis, the embeddings first."""
        return torch.stack([self.rows[layer] for layer in range(-1, self.network.anatomy.n_layers)], dim=dim)


@without_gradients()
def gather_streams(network: Network, ids: Int[Tensor, "prompt position"]) -> Float[Tensor, "row token width"]:
    """What enters the first layer and leaves every layer at all positions of some texts, one text behind the other.

    Args:
        network: The model, of one vector a token; its encoder, if any, reads what belongs to the texts.
        ids: Token ids of texts of one length.
    """
    length = ids.shape[1]
    seen = StreamRows(network=network, read=range(length), length=length)
    with in_evaluation_mode(network.call.module), observing(network, [seen]):
        network.call(ids.to(network.device))
    return seen.stacked(dim=0).flatten(1, 2)
