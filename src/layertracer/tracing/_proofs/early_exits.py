"""Early exits: whether a model decides between its layers by what the stream holds.

A ladder's rows go through the layers together, so that such a decision would be made for all of them at once. It shows
itself as a number that Python asks a tensor for while no layer runs: after the first one has begun, before the last one
has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer.models import Layer, Network, replacing_forward

_ASKED = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)


class _Asked(TorchDispatchMode):
    """Counts the numbers that Python asks for while no layer runs.

    Args:
        n_layers: How many layers there are.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._n_layers, self._n_begun, self._n_ended = n_layers, 0, 0
        self.found = False

    def __torch_dispatch__(
        self, func: Any, types: tuple[type, ...], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note the call, and make it."""
        del types
        is_between = self._n_begun == self._n_ended and 0 < self._n_ended < self._n_layers
        if is_between and func in _ASKED and _is_floating(args):
            self.found = True
        return func(*args, **(kwargs or {}))

    def around(self, layer: Layer) -> Callable[..., Any]:
        """A layer that says when it begins and ends."""
        forward = layer.module.forward

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            self._n_begun += 1
            output = forward(*args, **kwargs)
            self._n_ended += 1
            return output

        return stand_in


def _is_floating(args: tuple[Any, ...]) -> bool:
    """Whether the number is made of activations, or is a truth value that is."""
    return any(isinstance(one, Tensor) and (one.is_floating_point() or one.dtype == torch.bool) for one in args)


def decides_between_layers(network: Network, ids: Tensor) -> bool:
    """Whether Python asks for a number between two layers of a model.

    Args:
        network: The model.
        ids: Token ids [prompt, position] to run it on.
    """
    asked = _Asked(network.anatomy.n_layers)
    with ExitStack() as stack:
        for layer in network.anatomy.layers:
            stack.enter_context(replacing_forward(layer.module, asked.around(layer)))
        stack.enter_context(asked)
        network.call(ids)
    return asked.found
