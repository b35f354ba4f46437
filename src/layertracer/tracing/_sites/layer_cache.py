"""What a layer remembers of a prompt, in the model's own cache, as a site: "state"."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._types import SiteFacts
from layertracer._types.sites import SITES as FACTS
from layertracer.models import Network, StateMap
from layertracer.tracing._sites.protocol import Join


@dataclass(frozen=True, slots=True)
class LayerCacheSite:
    """Keys and values, convolution windows, recurrent states; perturbed by a pass of its own, see `StatePass`."""

    facts: SiteFacts = FACTS["state"]
    joins: Join = "cache"

    def layers(self, network: Network) -> tuple[int, ...]:
        """The layers that keep a memory of their own."""
        without = set(StateMap(network).layers_without)
        return tuple(index for index in range(network.anatomy.n_layers) if index not in without)

    def width(self, network: Network) -> int:
        """That of the stream; a slot of the memory has one of its own."""
        return network.anatomy.d_model
