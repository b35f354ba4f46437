"""Jacobian lenses: the mean Jacobian of the last stream with respect to each layer's, by vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer._errors import AnatomyError, NonFiniteError, UsageError
from layertracer.models import Layer, Network, flatten, is_placed, recording_gradients, replacing_forward
from layertracer.tracing._batching.rows import from_rows_first, gather_rows, to_rows_first
from layertracer.tracing._lens_fitting.lens_bench import LensBench
from layertracer.tracing._readings import Progress

FIRST_POSITION = 16
"""Positions before this one are left out, as in the public description: attention sinks stand there."""
JACOBIAN_LEAST = FIRST_POSITION + 2
"""The fewest tokens of a passage that have a position left: the last one is left out, too."""

_MOST_DIRECTIONS, _POSITIONS_AT_ONCE = 64, 1024
"""Directions of the last stream that go backwards together, and copies of positions that this may take."""


def fit_jacobian(
    bench: LensBench, rows: Sequence[Sequence[int]], *, on_progress: Callable[[Progress], None] | None = None
) -> Float[Tensor, "layer width width"]:
    """J[l] = mean over prompts of the mean over positions p of Σ over p' ≥ p of ∂ h_last[p'] / ∂ h_l[p].

    h_l is what leaves layer l (row 0: what enters the first), h_last what leaves the last. Positions p and p' run from
    16 to the last but one. A row h is read as the tail's reading of J[l] h; there is no bias. One backward gives a row
    of every J[l] for each direction of h_last at once, exactly: no directions are drawn at random.

    Args:
        bench: The model.
        rows: Token ids of prompts, each of `JACOBIAN_LEAST` tokens or more.
        on_progress: Told how far it is.

    Returns:
        In float32; J[l][i, j] is the derivative of dimension i of the last stream by dimension j of layer l's.

    Raises:
        UsageError: If weights are offloaded, so that no backward pass can use them.
        NonFiniteError: If a derivative is not finite.
        AnatomyError: If no gradient reaches a layer.

    Source:
        The public package jlens (Anthropic, 2026), "fitting the Jacobian lens", whose formula this is; there for the
        layers alone, here for the embeddings as well.
    """
    network = bench.model.as_written
    if is_placed(network.module):
        raise UsageError(
            f"A jacobian lens cannot be fitted on {bench.model.name!r}: its weights are offloaded or spread by "
            "accelerate, which drops them before a backward pass. Load it on one device, or use kind='tuned'."
        )
    total = torch.zeros(bench.n_layers, bench.model.anatomy.d_model, bench.model.anatomy.d_model)
    for number, row in enumerate(rows):
        ids = torch.tensor([list(row)], device=network.device)
        total += prompt_jacobians(network, ids, first=FIRST_POSITION)
        if on_progress is not None:
            on_progress(Progress(number + 1, len(rows), "taking Jacobians"))
    if not bool(total.isfinite().all()):
        raise NonFiniteError(
            f"A derivative of the streams of {bench.model.name!r} is NaN or infinite. Load it with dtype='float32' (it "
            f"runs in {bench.model.dtype})."
        )
    return total / len(rows)


def prompt_jacobians(
    network: Network, ids: Int[Tensor, "1 position"], *, first: int
) -> Float[Tensor, "layer width width"]:
    """The Jacobians of one prompt, mean over positions from `first` to the last but one; see `fit_jacobian`."""
    length, width = ids.shape[1], network.anatomy.d_model
    n_at_once = max(1, min(width, _MOST_DIRECTIONS, _POSITIONS_AT_ONCE // length))
    read = range(first, length - 1)
    tape = _Tape(network=network, length=length)
    with tape.running(), torch.enable_grad():
        network.call(ids.expand(n_at_once, -1))
        last = gather_rows(tape.streams[-1], tape.last.wiring, read, length=length)
    sources = tape.streams[:-1]
    found = torch.empty(len(sources), width, width)
    starts = range(0, width, n_at_once)
    for start in starts:
        directions = torch.arange(start, min(width, start + n_at_once))
        cotangent = torch.zeros_like(last)
        cotangent[torch.arange(len(directions)), :, directions] = 1.0
        gradients = torch.autograd.grad(last, sources, cotangent, retain_graph=start != starts[-1], allow_unused=True)
        for layer, gradient in enumerate(gradients):
            if gradient is None:
                raise AnatomyError(
                    f"No gradient reaches {'the embeddings' if not layer else f'layer {layer - 1}'} of "
                    f"{network.name!r}: its own code cuts it off. Use kind='tuned' or 'linear'."
                )
            rows = gather_rows(gradient, tape.last.wiring, read, length=length)[: len(directions)]
            found[layer, directions] = rows.float().mean(dim=1).cpu()
    return found


@dataclass(slots=True, kw_only=True)
class _Tape:
    """The streams of one forward, [row, position, width] each, as autograd knows them.

    Attributes:
        network: The model.
        length: Tokens of the prompt.
        streams: What enters the first layer, and leaves each.
    """

    network: Network
    length: int
    streams: list[Tensor] = field(default_factory=list)

    @property
    def last(self) -> Layer:
        """The last layer."""
        return self.network.anatomy.layers[-1]

    @contextmanager
    def running(self) -> Iterator[None]:
        """What runs in the block is recorded from what enters the first layer on."""
        with ExitStack() as stack:
            stack.enter_context(recording_gradients(self.network))
            for layer in self.network.anatomy.layers:
                stack.enter_context(replacing_forward(layer.module, self._taped(layer)))
            yield

    def _taped(self, layer: Layer) -> Callable[..., Any]:
        forward, wiring = layer.module.forward, layer.wiring

        def taped(*args: Any, **kwargs: Any) -> Any:
            given = flatten((args, kwargs))
            if layer.index == 0:
                leaf = to_rows_first(given.values[wiring.stream_in], wiring).detach().requires_grad_()
                self.streams.append(leaf)
                args, kwargs = given.replaced(wiring.stream_in, from_rows_first(leaf, wiring).clone())
            output = flatten(forward(*args, **kwargs))
            rows = to_rows_first(output.values[wiring.stream_out], wiring)
            self.streams.append(rows)
            # A copy goes on: a layer may add to what it is given in place.
            return output.replaced(wiring.stream_out, from_rows_first(rows, wiring).clone())

        return taped
