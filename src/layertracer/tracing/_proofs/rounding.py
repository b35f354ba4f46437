"""How far a number may be off beside others: usual tolerances, and what a model's own rounding explains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from layertracer.models import Network, flatten, replacing_forward

_NATS_TOLERANCE, _ROUNDINGS = 1e-3, 8
RELATIVE_NATS = 1e-5
"""Log-probabilities far below zero are differences of large numbers."""
_N_JITTERS, _JITTERS_ALLOWED, _JITTERS_OF_16_BITS = 4, 16, 4
"""How many times a prompt's embeddings are rounded otherwise, and how many times the largest change counts as rounding:
a model rounds at hundreds of places, and this does so at one. In types of 16 bits less of that differs beside others:
they add up in float32, and round what comes out."""
MOST_ROUNDING = 20
"""How many times the usual tolerance rounding explains at most, whatever the model's numbers do."""
MOST_READOUT = 3
"""Likewise for a readout out of the whole prompt, whose tail works on more rows."""


def eps_of(network: Network) -> float:
    """One rounding of a model's numbers, relative."""
    return torch.finfo(network.dtype).eps if network.dtype.is_floating_point else 1e-2


def nats_tolerance(network: Network) -> float:
    """How far a log-probability may be off beside others where nothing needs an explanation."""
    return max(_NATS_TOLERANCE, _ROUNDINGS * eps_of(network))


def jitters_allowed(network: Network) -> int:
    """How many times the change by another rounding of the embeddings counts as rounding."""
    return _JITTERS_ALLOWED if eps_of(network) < 1e-4 else _JITTERS_OF_16_BITS


def rounding_moves(network: Network) -> Iterator[int]:
    """Turns in each of which what enters the first layer is rounded otherwise."""
    for seed in range(_N_JITTERS):
        with _rounded_otherwise(network, seed):
            yield seed


@contextmanager
def _rounded_otherwise(network: Network, seed: int) -> Iterator[None]:
    """What enters the first layer changed by about one rounding."""
    layer = network.anatomy.layers[0]
    forward, place = layer.module.forward, layer.wiring.stream_in
    generator = np.random.default_rng([seed, 3])

    def rounded(*args: Any, **kwargs: Any) -> Any:
        leaves = flatten((args, kwargs))
        stream = leaves.values[place]
        noise = generator.standard_normal(tuple(stream.shape), dtype=np.float32)
        # Worked out by NumPy: while the layer's additions to the stream are watched, one of ours would pass for one.
        factors = torch.from_numpy(1 + np.float32(torch.finfo(stream.dtype).eps) * noise).to(stream.device)
        args, kwargs = leaves.replaced(place, (stream.float() * factors).to(stream.dtype))
        return forward(*args, **kwargs)

    with replacing_forward(layer.module, rounded):
        yield
