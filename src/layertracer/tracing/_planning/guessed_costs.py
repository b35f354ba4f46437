"""Costs of spans, guessed from the shapes of the weights: for work so small that measuring would slow it down."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from layertracer.models import Network
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._planning.token_spans import Quantity, SpanCosts, TokenSpan

_STREAMS, _WIDEST = 5, 3
"""Tensors of the stream's width, and of the widest projection's, that are alive in a layer at its busiest moment."""
_MEMORY_COPIES = 4
"""How often a row's memory of a layer is there at the busiest moment: given to the row, with its own tokens added, and
its heads repeated for keys and values."""
_TOUCHED = 4
"""How often everything that is alive in a layer is read or written, counting all its operators."""
_N_OPERATORS = 40


_GUESSED = frozenset({"attention", "sliding_attention"})


def is_guessable(network: Network) -> bool:
    """Whether all layers are of kinds whose memory follows from the shapes of their weights.

    That of a recurrent mixer follows from how its kernel cuts a prompt and what it keeps of each piece; that of experts
    from how their tokens are handed out.
    """
    return all(layer.mixer in _GUESSED and layer.mlp == "dense" for layer in network.anatomy.layers)


def guess_costs(network: Network, span: TokenSpan, cached: CachedLadder | None) -> SpanCosts:
    """What a span costs, from the widths of its layers.

    Args:
        network: The model.
        span: The tokens.
        cached: How rows go on from what they remember; None where none do.
    """
    anatomy = network.anatomy
    itemsize = torch.empty((), dtype=network.dtype).element_size()
    own, length = span.n_own, span.n_before + span.n_own
    stream = own * anatomy.d_model * itemsize
    lines = np.zeros((len(Quantity), 2, anatomy.n_layers + 2))
    caches = np.zeros(anatomy.n_layers)
    for layer in anatomy.layers:
        phase = 1 + layer.index
        before, after = (
            0 if cached is None or not span.cached else cached.state.layer_bytes(layer.index, n_tokens)
            for n_tokens in (span.n_before, length)
        )
        caches[layer.index] = before if span.n_before else 0
        attention = 2 * max(1, anatomy.d_model // 64) * own * length * itemsize
        alive = _STREAMS * stream + _WIDEST * own * _widest(layer.module) * itemsize
        remembered = _MEMORY_COPIES * after if span.n_before else 0
        n_weights = sum(one.numel() for one in layer.module.parameters() if one.ndim == 2)
        lines[Quantity.PEAK, 1, phase] = alive + attention + remembered
        lines[Quantity.KEPT, 1, phase] = stream + max(after - caches[layer.index], 0)
        lines[Quantity.FLOPS, 1, phase] = 2 * n_weights * own + 4 * own * length * anatomy.d_model
        lines[Quantity.TRAFFIC, 1, phase] = _TOUCHED * (alive + remembered)
        lines[Quantity.OPERATORS, 0, phase] = _N_OPERATORS
    lines[[Quantity.PEAK, Quantity.KEPT], 1, 0] = stream
    if span.cached or span.through_tail:
        lines[Quantity.PEAK, 1, -1] = own * anatomy.d_vocab * itemsize
        lines[Quantity.FLOPS, 1, -1] = own * guess_tail_flops(network)
    return SpanCosts(lines=lines, stream_bytes=stream, memory_bytes=caches)


def guess_tail_flops(network: Network) -> float:
    """Floating-point operations of the tail for one position, if it is an unembedding."""
    return 2.0 * network.anatomy.d_model * network.anatomy.d_vocab


def _widest(module: nn.Module) -> int:
    return max((parameter.shape[0] for parameter in module.parameters() if parameter.ndim == 2), default=0)
