"""What a family must give by plain PyTorch hooks, called as its model is called: one prompt, one hook at a time.

Layers and branches come from the tables that were written by reading (`tests/architectures/read_by_hand`). Nothing
here imports LayerTracer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.models import registry
from tests.support.oracles.plain_hooks import (
    Masks,
    Numbers,
    branch_modules,
    editing,
    js_when_masked,
    log_probs_without,
    log_softmax,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read: token ids, and those of the decoder where a model has one of its own.

    Attributes:
        ids: Token ids of the prompt; the encoder's where there is one.
        decoder_ids: Token ids that the decoder has already read.
    """

    ids: tuple[int, ...]
    decoder_ids: tuple[int, ...] | None = None

    @property
    def traced(self) -> tuple[int, ...]:
        """The token ids that the traced layers read."""
        return self.ids if self.decoder_ids is None else self.decoder_ids


class PlainModel:
    """A model and its layers, run as it is.

    Args:
        name: Its family in the registry, which says how it is called.
        module: The model.
        layers: Path of the container of its layers.
        encoder_decoder: Whether it has an encoder that reads.
    """

    def __init__(self, name: str, module: nn.Module, *, layers: str, encoder_decoder: bool) -> None:
        self.name, self.module, self.encoder_decoder = name, module, encoder_decoder
        named = [(f"{layers}.{key}", child) for key, child in module.get_submodule(layers).named_children()]
        order = self._order_of([child for _, child in named])
        paths = {child: path for path, child in named}
        self.layers = order
        """The layers that run on text, in the order in which they do."""
        self.paths = tuple(paths[layer] for layer in order)

    def log_probs(self, reading: Reading) -> Numbers:
        """Log-probabilities of the next token, float64 [d_vocab]."""
        ids = torch.tensor([reading.ids])
        decoder_ids = None if reading.decoder_ids is None else torch.tensor([reading.decoder_ids])
        logits = registry.logits_of(
            self.name, self.module, ids, encoder_decoder=self.encoder_decoder, decoder_ids=decoder_ids
        )
        return log_softmax(logits[0, -1])

    def readouts(self, reading: Reading) -> Numbers:
        """Read from the embeddings and after every layer: all later layers are the identity, [1 + layer, d_vocab]."""
        firsts = range(len(self.layers) + 1)
        return np.stack([log_probs_without(self.layers[first:], lambda: self.log_probs(reading)) for first in firsts])

    def js_bits(
        self, reading: Reading, keep: Masks, *, fills: Sequence[Tensor] | None = None, last_only: bool = False
    ) -> Numbers:
        """JS divergence when one layer's output is masked, [draw, layer].

        Args:
            reading: The prompt.
            keep: What is not masked, [layer, draw, width].
            fills: What masked dimensions become, by layer, [width]; zero unless given.
            last_only: Whether the last position alone is masked.
        """
        last_of = len(reading.traced) if last_only else None
        return js_when_masked(lambda: self.log_probs(reading), self.layers, keep, fill=fills, last_of=last_of)

    def branch_js_bits(self, reading: Reading, keep: Masks, branch: str) -> Numbers:
        """The same when what a branch adds is masked; `branch` as in `ReadByHand`. NaN in layers without it."""
        having = [index for index, layer in enumerate(self.layers) if branch_modules(layer, branch)]
        return js_when_masked(lambda: self.log_probs(reading), self.layers, keep, branch=branch, only=having)

    def width(self, reading: Reading) -> int:
        """Size of the stream's last axis."""
        return int(self.leaving(reading)[0].shape[-1])

    def leaving(self, reading: Reading) -> list[Tensor]:
        """What leaves every layer."""
        seen: list[Tensor] = []

        def note(_: object, returned: Tensor) -> Tensor:
            seen.append(returned.clone())
            return returned

        with ExitStack() as stack:
            for layer in self.layers:
                stack.enter_context(editing(layer, note))
            self.log_probs(reading)
        return seen

    def _order_of(self, modules: Sequence[nn.Module]) -> list[nn.Module]:
        """Those of the modules that run, in their order; each may run once."""
        order: list[nn.Module] = []
        handles = [module.register_forward_hook(lambda module, *_: order.append(module)) for module in modules]
        self.log_probs(Reading(ids=(7, 8, 9), decoder_ids=(7, 8) if self.encoder_decoder else None))
        for handle in handles:
            handle.remove()
        if len(set(order)) != len(order):
            raise ValueError(f"layers of {self.name} run several times: this oracle is not for it")
        return order
