"""Plain method: one hooked forward per layer and draw, and one per lens row.

Slow and simple. The self-check holds the ladder against it, and models whose ladder does not pass
are traced with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from layertracer.models import Layer, Network, Role, flatten, replacing_forward
from layertracer.tracing._batching.rows import evenly_spaced, from_rows_first, to_rows_first
from layertracer.tracing._perturbers.perturbers import Perturber
from layertracer.tracing._sites.branch_output import refuse_unseen, role_at, watching


def plain_logits(network: Network, ids: Tensor, *, read: Sequence[int]) -> Tensor:
    """The model's own logits at the positions that are read, [prompt, read, d_vocab]."""
    return network.call.logits(ids)[:, evenly_spaced(read)]


def plain_readout(network: Network, ids: Tensor, *, read: Sequence[int], layer: int) -> Tensor:
    """Logits [prompt, read, d_vocab] where all layers after `layer` hand the stream on; -1: all of them."""
    with ExitStack() as stack:
        for later in network.anatomy.layers[layer + 1 :]:
            stack.enter_context(replacing_forward(later.module, _handing_on(later)))
        return plain_logits(network, ids, read=read)


def _handing_on(layer: Layer) -> Callable[..., Any]:
    """The layer runs and returns the stream that it was given.

    It runs, because what else it returns, or keeps for the tail to find, is to be of this prompt: what was returned in
    a probe at load is another's.
    """
    forward, wiring = layer.module.forward, layer.wiring

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        entering = flatten((args, kwargs)).values[wiring.stream_in].clone()  # a layer may add to it in place
        return flatten(forward(*args, **kwargs)).replaced(wiring.stream_out, entering)

    return hand_on


def plain_perturbed(
    network: Network, ids: Tensor, *, read: Sequence[int], perturber: Perturber, layer: int, draw: int
) -> Tensor:
    """Logits [prompt, read, d_vocab] with one layer perturbed by one draw."""
    with perturbing(network.anatomy.layers[layer], perturber, draw=draw):
        return plain_logits(network, ids, read=read)


@contextmanager
def perturbing(layer: Layer, perturber: Perturber, *, draw: int) -> Iterator[None]:
    """One layer perturbed in every row of the batch for the length of the block."""
    forward = layer.module.forward
    wiring = layer.wiring

    def perturb(values: Tensor, entering: Tensor) -> Tensor:
        rows = perturber(to_rows_first(values, wiring), entering=entering, layer=layer.index, draws=[draw])
        return from_rows_first(rows[0], wiring)

    def perturbed(*args: Any, **kwargs: Any) -> Any:
        stream = flatten((args, kwargs)).values[wiring.stream_in]
        entering = to_rows_first(stream, wiring).clone()
        if perturber.site == "block_output":
            leaves = flatten(forward(*args, **kwargs))
            return leaves.replaced(wiring.stream_out, perturb(leaves.values[wiring.stream_out], entering))
        wanted = role_at(perturber.site)
        edits = []

        def edit(added: Tensor, role: Role) -> Tensor | None:
            if role != wanted:
                return None
            edits.append(role)
            return perturb(added, entering)

        with watching(layer, stream, edit):
            output = forward(*args, **kwargs)
        refuse_unseen(layer, wanted, seen=bool(edits))
        return output

    with replacing_forward(layer.module, perturbed):
        yield
