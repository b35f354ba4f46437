"""Derivatives of a log-probability with respect to how strongly branches add, by autograd on a plain model.

Each branch's module (as read by hand) has its output multiplied by a number that requires a gradient, and the model is
run as it is: d log P / d number at 1 is ⟨∂ log P / ∂ what is added, what is added⟩. Nothing here imports LayerTracer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.support.oracles.plain_hooks import Edit, branch_modules, editing


def branch_products(
    module: nn.Module, layers: str, branch: str | None, ids: Sequence[int], target: int
) -> NDArray[np.float64]:
    """⟨∂ log P(target) / ∂ a, a⟩ for what each layer's branch adds; without one, for all that a layer changes."""
    stack_of_layers = list(module.get_submodule(layers))
    factors = torch.ones(len(stack_of_layers), dtype=torch.float64, requires_grad=True)
    with ExitStack() as stack:
        for index, block in enumerate(stack_of_layers):
            for part in branch_modules(block, branch):
                stack.enter_context(editing(part, _scaled(factors, index, is_update=branch is None)))
        with torch.enable_grad():
            output = module(torch.tensor([list(ids)]), **({"use_cache": False} if hasattr(module, "generate") else {}))
            logits = output[0] if isinstance(output, tuple) else output.logits if hasattr(output, "logits") else output
            log_prob = logits[0, -1].log_softmax(-1)[target]
            (found,) = torch.autograd.grad(log_prob, factors)
    has_branch = [bool(branch_modules(block, branch)) for block in stack_of_layers]
    return np.where(has_branch, found.numpy(), np.nan)


def _scaled(factors: Tensor, index: int, *, is_update: bool) -> Edit:
    def edit(received: Tensor, output: Tensor) -> Tensor:
        factor = factors[index].to(output.dtype)
        return received + factor * (output - received) if is_update else factor * output

    return edit
