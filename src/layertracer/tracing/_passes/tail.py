"""Unembedding, the final norm before it, and all else that the model does after its last layer: its own tail.

The tail is not looked for by name. The model's own `forward` runs with its layers bypassed, and what
should have left the last layer is put in its place. Final norm, unembedding, softcap, scaling and
slicing are thereby right by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.models import Layer, Network, flatten, replacing_forward
from layertracer.tracing._batching.memory_budget import chunk_bytes
from layertracer.tracing._batching.rows import as_prompts, gather_rows, to_rows_first
from layertracer.tracing._distributions.reduction import Reduction


@contextmanager
def bypassing(layers: Sequence[Layer], *, replacement: Tensor | None = None) -> Iterator[None]:
    """The `layers` hand their stream on unchanged; with a `replacement`, the last of them returns that instead."""
    with ExitStack() as stack:
        for layer in layers:
            last = layer is layers[-1]
            stack.enter_context(replacing_forward(layer.module, _bypass(layer, replacement if last else None)))
        yield


def _bypass(layer: Layer, replacement: Tensor | None) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        stream = flatten((args, kwargs)).values[layer.wiring.stream_in]
        return layer.output_like(stream if replacement is None else replacement)

    return forward


class Tail:
    """A model's tail as a function of the stream.

    Args:
        network: The model.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._token = network.anatomy.plain_tokens[:1].to(network.device)
        # The encoder reads something, once: where every layer is bypassed, what it says reaches nothing.
        self._call = network.call.reading_once(self._token[None])

    def __call__(self, rows: Float[Tensor, "row *width"]) -> Float[Tensor, "row d_vocab"]:
        """Logits of single positions of the stream.

        Each row is given to the model as a prompt of one token, whose stream it replaces.

        Args:
            rows: What leaves the last layer, one position a row.
        """
        anatomy = self._network.anatomy
        stream = as_prompts(rows, anatomy.layers[-1].wiring)
        with bypassing(anatomy.layers, replacement=stream):
            return self._call.logits(self._token.expand(len(rows), 1))[:, 0]

    def zero_row(self) -> Float[Tensor, "1 *width"]:
        """A position of the stream in the form in which it leaves the last layer, all zeros."""
        anatomy, left = self._network.anatomy, []
        last = anatomy.layers[-1]
        with bypassing(anatomy.layers):
            forward = last.module.forward

            def observed(*args: Any, **kwargs: Any) -> Any:
                output = forward(*args, **kwargs)
                left.append(flatten(output).values[last.wiring.stream_out])
                return output

            with replacing_forward(last.module, observed):
                self._call.logits(self._token.expand(1, 1))
        rows = gather_rows(to_rows_first(left[-1], last.wiring), last.wiring, [0], length=1)
        return torch.zeros_like(rows[:, 0])


def make_reduction(network: Network, budget_bytes: int, *, shortage: int = 1) -> Reduction:
    """How rows become numbers, a chunk at a time.

    Args:
        network: The model.
        budget_bytes: Memory that the trace may take.
        shortage: How many times smaller a chunk is to be, after memory ran out.
    """
    chunk = chunk_bytes(budget_bytes) // shortage
    return Reduction(Tail(network), d_vocab=network.anatomy.d_vocab, budget_bytes=chunk)
