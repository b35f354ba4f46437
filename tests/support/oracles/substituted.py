"""What a model says with substitutes in its mixers' place, obtained the slow and obvious way.

One row and one placement at a time, PyTorch's own hooks, arithmetic on distributions in float64. Nothing here imports
LayerTracer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Change = Callable[[nn.Module, list[int]], ExitStack]
"""Puts a substitute into the layers of these indices of a module, for as long as what it returns is open."""


class Said(NamedTuple):
    """What one row says of a placement, at every position: KL(full ‖ placed), −log p of what follows, the top token."""

    kl_nats: NDArray[np.float64]
    nll_nats: NDArray[np.float64]
    top_ids: NDArray[np.int64]


@torch.no_grad()
def log_probs(module: nn.Module, ids: Sequence[int]) -> Tensor:
    """Log-probabilities of the next token at every position of a row, float64."""
    tokens = torch.tensor([list(ids)])
    output = module(tokens, use_cache=False) if hasattr(module, "generate") else module(tokens)
    if isinstance(output, dict):
        output = output["logits"]
    elif isinstance(output, tuple):
        output = output[0]
    logits: Tensor = output[0]
    return logits.double().log_softmax(-1)


def said_between(full: Tensor, placed: Tensor, ids: Sequence[int]) -> Said:
    """What log-probabilities [position, d_vocab] of the full and of the placed model say."""
    kl = (full.exp() * (full - placed)).sum(-1)
    following = torch.tensor([*ids[1:], 0])
    nll = -placed.gather(-1, following[:, None])[:, 0]
    nll[-1] = torch.nan
    return Said(kl.numpy(), nll.numpy(), placed.argmax(-1).numpy())


def said_with(module: nn.Module, ids: Sequence[int], layers: Collection[int], change: Change) -> Said:
    """What a row says with a substitute in some layers."""
    full = log_probs(module, ids)
    with change(module, sorted(layers)):
        return said_between(full, log_probs(module, ids), ids)


def window_mask(length: int, size: int, sinks: int = 0) -> Tensor:
    """Which keys each query sees, [query, key], entry by entry."""
    seen = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(query + 1):
            seen[query, key] = query - key < size or key < sinks
    return seen


def masking(layers_at: str, size: int, sinks: int = 0) -> Change:
    """Windows through the mask that Transformers hands to each layer, in models whose layers are at that path.

    What a layer does not see by its own mask it does not see with it either.
    """

    def change(module: nn.Module, layers: list[int]) -> ExitStack:
        stack = ExitStack()

        def mask(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            given = inspect.signature(layer.forward).bind(*args, **kwargs)
            seen = window_mask(given.arguments["hidden_states"].shape[1], size, sinks)[None, None]
            own = given.arguments.get("attention_mask")
            if own is not None and own.dtype != torch.bool:
                given.arguments["attention_mask"] = own.masked_fill(~seen, torch.finfo(own.dtype).min)
            else:
                given.arguments["attention_mask"] = seen if own is None else own & seen
            return given.args, given.kwargs

        for index in layers:
            layer: Any = module.get_submodule(layers_at)[index]  # type: ignore[index]
            stack.callback(layer.register_forward_pre_hook(mask, with_kwargs=True).remove)
        return stack

    return change


def replacing_output(path: str, values: Callable[[int, Tensor], Tensor]) -> Change:
    """What the modules at a path (with "{}" for the layer) return, replaced by something else."""

    def change(module: nn.Module, layers: list[int]) -> ExitStack:
        stack = ExitStack()
        for index in layers:

            def replace(_: nn.Module, args: Any, output: Any, index: int = index) -> Any:
                del args
                first = output[0] if isinstance(output, tuple) else output
                made = values(index, first)
                return (made, *output[1:]) if isinstance(output, tuple) else made

            stack.callback(module.get_submodule(path.format(index)).register_forward_hook(replace).remove)
        return stack

    return change
