"""What all proofs try on a model, and how large an error rounding explains."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import torch

from layertracer._types import Mask, Site
from layertracer.models import Network
from layertracer.tracing._perturbers.protocol import Perturber, make_perturber
from layertracer.tracing._sites.protocol import SITES


def half_masked(network: Network, site: Site) -> Perturber:
    """A mask for probes: draw 0 keeps everything, draw 1 a random half."""
    anatomy = network.anatomy
    width = SITES[site].width(network)
    keep = np.ones((anatomy.n_layers, 2, width), dtype=bool)
    keep[:, 1] = np.random.default_rng(0).random((anatomy.n_layers, width)) < 0.5
    mask = Mask.explicit(keep, site=site)
    return make_perturber(mask, n_layers=anatomy.n_layers, width=width, device=network.device)


def one_of_each_kind(network: Network, among: Collection[int] | None = None) -> list[int]:
    """A layer of every kind of mixer and MLP, of those `among` which it is to be."""
    layers = [layer for layer in network.anatomy.layers if among is None or layer.index in among]
    return sorted({(layer.mixer, layer.mlp): layer.index for layer in layers}.values())


def tolerance_of(network: Network, unit: Literal["bits", "nats"], *, roundings: int = 1) -> float:
    """The largest error that rounding explains, for the precision of the model's numbers."""
    eps = torch.finfo(network.dtype).eps if network.dtype.is_floating_point else 1e-2
    return max(1e-3, 64 * eps) if unit == "nats" else max(1e-5, roundings * eps)
