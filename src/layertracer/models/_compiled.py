"""Compiled layers (torch.compile) for LayerTracer's own passes; the model itself stays as it is."""

from __future__ import annotations

from dataclasses import replace

import torch

from layertracer.models._network import Network
from layertracer.models._weights.offload import is_placed


def compile_layers(network: Network) -> Network:
    """The network whose layers run compiled where they are run as they are; nothing is compiled before its first run.

    Sizes stay open: the rows of a pass become more from layer to layer, and each number of them would otherwise be
    compiled for itself.
    """
    compiled = {layer.index: torch.compile(layer.module.forward, dynamic=True) for layer in network.anatomy.layers}
    return replace(network, compiled=compiled)


def why_not_compilable(network: Network) -> str | None:
    """Why the layers of a network cannot be compiled; None where it can be tried."""
    if network.call.is_compiled:
        return "the model came compiled, and is run as it is written"
    if is_placed(network.module):
        return "accelerate loads or moves its weights while it runs"
    return None
