"""Recurrent modules of several layers, taken apart into their layers.

`torch.nn.LSTM(num_layers=3)` is one module whose layers cannot be reached. What is traced is a model
that shares every parameter with the user's and in which such a module runs one layer at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError
from layertracer.models._weights.offload import is_placed


def unroll_recurrent(module: nn.Module) -> nn.Module:
    """A model in which recurrent modules of several layers run layer by layer; the same one where there is none.

    Law: it returns what `module` returns; no parameter is copied, and `module` stays as it is.

    Raises:
        AnatomyError: If accelerate placed the model: the hooks on its modules do not go along.
    """
    if not any(_has_layers(part) for part in module.modules()):
        return module
    if is_placed(module):
        raise AnatomyError(
            f"{type(module).__name__} holds a recurrent module of several layers, which is taken apart to be traced; "
            "that cannot be done where accelerate placed the model. Load it on one device, without offload."
        )
    return _unroll(module)


def _has_layers(module: nn.Module) -> bool:
    return isinstance(module, nn.RNNBase) and module.num_layers > 1 and not module.bidirectional


def _unroll(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.RNNBase) and _has_layers(module):
        return UnrolledRecurrent(module)
    children = {name: child if child is None else _unroll(child) for name, child in module._modules.items()}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin.__dict__["_modules"] = children
    return twin


class UnrolledRecurrent(nn.Module):
    """A recurrent module of several layers as a list of modules of one layer each, with the same parameters.

    Args:
        whole: An LSTM, GRU or RNN in one direction.
    """

    def __init__(self, whole: nn.RNNBase) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(whole, index) for index in range(whole.num_layers))
        self.train(whole.training)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - PyTorch's own name
        """What the module of several layers returns."""
        states = []
        for index, layer in enumerate(self.layers):
            own = None if hx is None else _state_of(hx, index)
            input, state = layer(input) if own is None else layer(input, own)  # noqa: A001 - as above
            states.append(state)
        if isinstance(states[0], tuple):
            return input, tuple(_stack_states(parts) for parts in zip(*states, strict=True))
        return input, _stack_states(states)


def _stack_states(states: Sequence[Tensor]) -> Tensor:
    """Final states [layer, row, width]; of rows that joined the batch on the way, earlier layers know nothing."""
    n_rows = min(state.shape[1] for state in states)
    return torch.cat([state[:, :n_rows] for state in states])


def _state_of(hx: Any, layer: int) -> Any:
    if isinstance(hx, tuple):
        return tuple(part.narrow(0, layer, 1) for part in hx)
    return hx.narrow(0, layer, 1)


def _layer(whole: nn.RNNBase, index: int) -> nn.RNNBase:
    """One layer of a recurrent module, made of the very same parameters."""
    options: dict[str, Any] = {"nonlinearity": whole.nonlinearity} if isinstance(whole, nn.RNN) else {}
    if isinstance(whole, nn.LSTM):
        options["proj_size"] = whole.proj_size
    width = whole.input_size if index == 0 else (whole.proj_size or whole.hidden_size)
    kind: Any = type(whole)
    layer: nn.RNNBase = kind(
        width, whole.hidden_size, bias=whole.bias, batch_first=whole.batch_first, device="meta", **options
    )
    for name, _ in list(layer.named_parameters()):
        setattr(layer, name, getattr(whole, name.replace("_l0", f"_l{index}")))
    return layer
