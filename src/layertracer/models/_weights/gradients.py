"""Gradients and evaluation mode: the one place that decides about them.

Everything runs without them: every public function, and every call of a network. Not in inference mode, whose tensors
autograd refuses for ever: a module may keep what it made (rotary tables, masks), and be trained afterwards. Nor in the
inference mode of a caller. A method that needs gradients opens them for what it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def without_gradients() -> Iterator[None]:
    """Nothing is recorded for autograd within the block, and what is made in it are ordinary tensors."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@contextmanager
def in_evaluation_mode(module: nn.Module) -> Iterator[None]:
    """The whole module in evaluation mode for the length of the block: it may be trained in between."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
