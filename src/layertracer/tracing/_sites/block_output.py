"""The residual stream that leaves a layer, as a site."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from layertracer._types import SiteFacts
from layertracer._types.sites import SITES as FACTS
from layertracer.models import Network
from layertracer.tracing._sites.protocol import Join


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """What leaves a layer, all of it; every layer has it."""

    facts: SiteFacts = FACTS["block_output"]
    joins: Join = "exit"

    def layers(self, network: Network) -> tuple[int, ...]:
        """All layers."""
        return tuple(layer.index for layer in network.anatomy.layers)

    def width(self, network: Network) -> int:
        """That of the stream."""
        return network.anatomy.d_model

    def taken(self, leaving: Tensor) -> Tensor:
        """The stream itself."""
        return leaving

    def put(self, leaving: Tensor, values: Tensor) -> Tensor:
        """The values themselves."""
        del leaving
        return values
