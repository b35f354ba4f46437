"""Probes of the self-check: what all proofs try on a model."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

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
