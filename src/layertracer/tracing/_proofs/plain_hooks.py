"""Hooks of PyTorch alone, the oracle of the self-check.

Every layer runs as the model calls it, and only the stream that it returns is exchanged. Nothing here is shared with
the ladder, the tail or the plain method but the place of the stream in a layer's call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from layertracer.models import Layer, Network, flatten, hooking
from layertracer.tracing._batching.rows import evenly_spaced, from_rows_first, to_rows_first
from layertracer.tracing._perturbers.protocol import LayerCall, Perturber

_ROWS = 16
"""Readouts in one batch: a layer's weights are read once for all of them, and their logits stay small."""


def hooked_readouts(network: Network, ids: Tensor, *, read: Sequence[int], layers: Sequence[int]) -> Tensor:
    """Logits [layer, read, d_vocab] of one prompt read after some layers: all later ones hand their stream on.

    Several readouts are rows of one batch, each with later layers of its own.

    Args:
        network: The model; its encoder, if any, reads one row.
        ids: Token ids [1, position].
        read: Positions that are read.
        layers: Which ones; -1 are the embeddings.
    """
    parts = []
    for first in range(0, len(layers), _ROWS):
        here = layers[first : first + _ROWS]
        with ExitStack() as stack:
            for layer in network.anatomy.layers:
                rows = torch.tensor([last < layer.index for last in here])
                stack.enter_context(_exchanging(layer, _handed_on(rows)))
            parts.append(network.call.logits(ids.expand(len(here), -1))[:, evenly_spaced(read)])
    return torch.cat(parts)


def hooked_perturbed(
    network: Network, ids: Tensor, *, read: Sequence[int], perturber: Perturber, layer: int, draw: int
) -> Tensor:
    """Logits [prompt, read, d_vocab] with what leaves one layer perturbed by one draw."""

    def perturbed(entering: Tensor, leaving: Tensor) -> Tensor:
        return perturber(leaving, call=LayerCall(layer=layer, entering=entering, base=leaving), draws=[draw])[0]

    with _exchanging(network.anatomy.layers[layer], perturbed):
        return network.call.logits(ids)[:, evenly_spaced(read)]


def _handed_on(rows: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Some rows [row] leave as they entered."""

    def exchange(entering: Tensor, leaving: Tensor) -> Tensor:
        chosen = rows.to(leaving.device).view(-1, *[1] * (leaving.ndim - 1))
        return torch.where(chosen, entering.to(leaving.device), leaving)

    return exchange


@contextmanager
def _exchanging(layer: Layer, exchange: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """A layer's stream, [row, position, …, width], as `exchange` makes it from what entered and what left."""
    entering: list[Tensor] = []
    wiring = layer.wiring

    def before(_: Any, args: Any, kwargs: Any) -> None:
        stream = flatten((args, kwargs)).values[wiring.stream_in]
        entering[:] = [to_rows_first(stream, wiring).clone()]  # a layer may add to it in place

    def after(_: Any, __: Any, ___: Any, output: Any) -> Any:
        leaves = flatten(output)
        stream = exchange(entering.pop(), to_rows_first(leaves.values[wiring.stream_out], wiring))
        return leaves.replaced(wiring.stream_out, from_rows_first(stream, wiring))

    with hooking([layer.module], before=before, after=after):
        yield
