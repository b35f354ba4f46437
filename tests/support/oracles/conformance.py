"""What a family must give, obtained by plain PyTorch hooks: one prompt, one hook, one forward at a time, in float64.

Layers and branches come from the tables that were written by reading (`reading.py`). Nothing here
imports LayerTracer, and nothing is shared with how LayerTracer finds or runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.support.models import registry

Numbers = NDArray[np.float64]
Masks = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read: token ids, and those of the decoder where a model has one of its own.

    Attributes:
        ids: Token ids of the prompt; the encoder's where there is one.
        decoder_ids: Token ids that the decoder has already read.
    """

    ids: tuple[int, ...]
    decoder_ids: tuple[int, ...] | None = None


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
        last = logits[0, -1].to(torch.float64).numpy()
        shifted = last - last.max()
        return np.asarray(shifted - np.log(np.exp(shifted).sum()))

    def readouts(self, reading: Reading) -> Numbers:
        """Read from the embeddings and after every layer: all later layers are the identity, [1 + layer, d_vocab]."""
        return np.stack([self._with_identities(first, reading) for first in range(len(self.layers) + 1)])

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
        clean = self.log_probs(reading)
        result = np.zeros((keep.shape[1], len(self.layers)))
        for index, layer in enumerate(self.layers):
            fill = torch.zeros(()) if fills is None else fills[index]
            for draw in range(keep.shape[1]):
                mask = torch.from_numpy(keep[index, draw].copy())

                def masked(_: Tensor, returned: Tensor, mask: Tensor = mask, fill: Tensor = fill) -> Tensor:
                    here = torch.where(mask, returned, fill.to(returned.dtype))
                    return last_replaced(returned, here, len(_traced(reading))) if last_only else here

                with editing_stream(layer, masked):
                    result[draw, index] = js_bits(clean, self.log_probs(reading))
        return result

    def branch_js_bits(self, reading: Reading, keep: Masks, branch: str) -> Numbers:
        """The same when what a branch adds is masked; `branch` as in `reading.ReadByHand`."""
        return self._masked_js(reading, keep, [branch_modules(layer, branch) for layer in self.layers])

    def width(self, reading: Reading) -> int:
        """Size of the stream's last axis."""
        return int(self.streams(reading)[0][1].shape[-1])

    def streams(self, reading: Reading) -> list[tuple[Tensor, Tensor]]:
        """What enters and what leaves every layer."""
        seen: list[tuple[Tensor, Tensor]] = []

        def note(received: Tensor, returned: Tensor) -> Tensor:
            seen.append((received, returned.clone()))
            return returned

        with ExitStack() as stack:
            for layer in self.layers:
                stack.enter_context(editing_stream(layer, note))
            self.log_probs(reading)
        return seen

    def _with_identities(self, first: int, reading: Reading) -> Numbers:
        with ExitStack() as stack:
            for layer in self.layers[first:]:
                stack.enter_context(editing_stream(layer, lambda received, _: received))
            return self.log_probs(reading)

    def _masked_js(self, reading: Reading, keep: Masks, targets: Sequence[Sequence[nn.Module]]) -> Numbers:
        clean = self.log_probs(reading)
        result = np.zeros((keep.shape[1], len(targets)))
        for layer, modules in enumerate(targets):
            for draw in range(keep.shape[1]):
                mask = torch.from_numpy(keep[layer, draw].copy())
                with ExitStack() as stack:
                    for module in modules:
                        stack.enter_context(editing_output(module, lambda _, returned, mask=mask: returned * mask))
                    result[draw, layer] = js_bits(clean, self.log_probs(reading))
        return result

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


def js_bits(log_p: Numbers, log_q: Numbers) -> float:
    """Jensen-Shannon divergence in bits, straight from its definition, in float64."""
    p, q = np.exp(log_p), np.exp(log_q)
    mixture = (p + q) / 2
    return sum(0.5 * float((part[part > 0] * np.log2(part[part > 0] / mixture[part > 0])).sum()) for part in (p, q))


def _traced(reading: Reading) -> tuple[int, ...]:
    """The token ids that the traced layers read."""
    return reading.ids if reading.decoder_ids is None else reading.decoder_ids


def position_axis(stream: Tensor, length: int) -> int | None:
    """The axis of the positions in a stream [row, position, width], or [position, row, width]; None in any other."""
    axes = [axis for axis, size in enumerate(stream.shape[:-1]) if size == length]
    return axes[0] if stream.ndim == 3 and len(axes) == 1 else None


def last_replaced(stream: Tensor, other: Tensor, length: int) -> Tensor:
    """A stream whose last position is another's."""
    axis = position_axis(stream, length)
    assert axis is not None
    replaced = stream.clone()
    replaced.select(axis, -1).copy_(other.select(axis, -1))
    return replaced


# ---------------------------------------------------------------- hooks


@contextmanager
def editing_stream(layer: nn.Module, edit: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """A layer whose stream becomes `edit(received, returned)`; what else it returns stays.

    In every family the stream is the first positional argument, or the keyword `hidden_states`, and it is
    the output or its first member.
    """
    received: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        received[:] = [(args[0] if args else kwargs["hidden_states"]).clone()]  # layers may add to it in place

    def after(_: nn.Module, _args: object, output: Any) -> Any:
        return _with_first(output, edit(received[0], _first(output)))

    handles = [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def editing_output(module: nn.Module, edit: Callable[[None, Tensor], Tensor]) -> Iterator[None]:
    """A module whose (first) output becomes `edit(None, returned)`."""
    handle = module.register_forward_hook(lambda _m, _args, output: _with_first(output, edit(None, _first(output))))
    try:
        yield
    finally:
        handle.remove()


def _first(output: Any) -> Tensor:
    first = output if isinstance(output, Tensor) else output[0]
    assert isinstance(first, Tensor)
    return first


def _with_first(output: Any, tensor: Tensor) -> Any:
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, list):
        return [tensor, *output[1:]]
    assert type(output) is tuple, type(output)
    return (tensor, *output[1:])


def branch_modules(layer: nn.Module, branch: str) -> list[nn.Module]:
    """The modules that a branch of the tables names: of `a|b` the last that is there, of `a+b` all that are."""
    present = dict(layer.named_modules())
    if "|" in branch:
        return [present[name] for name in branch.split("|") if name in present][-1:]
    return [present[name] for name in branch.split("+") if name in present]
