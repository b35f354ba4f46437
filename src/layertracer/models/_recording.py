"""Forwards that autograd records, where everything else runs without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from layertracer.models._calling.hooks import replacing_forward
from layertracer.models._network import Network


@contextmanager
def recording_gradients(network: Network) -> Iterator[None]:
    """The model's own forward is recorded by autograd whenever it runs in the block.

    Its parameters stay as they are, whether they require gradients or not: only what is asked of autograd gets one.
    """
    module = network.call.module
    forward = module.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad():
            return forward(*args, **kwargs)

    with replacing_forward(module, recorded):
        yield
