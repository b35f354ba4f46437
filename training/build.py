"""A miniature before training: its module with weights drawn from a seed of its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.families import FAMILIES, Miniature

_STD = 0.02
_STEP_SIZES = (0.001, 0.1)
_RATES = (1.0, 16.0)


def build_untrained(miniature: Miniature) -> nn.Module:
    """The module with its initial weights, in float32: what training begins with.

    Law: equal miniatures give equal weights; PyTorch's global generator is left as it was.

    Args:
        miniature: Which one.
    """
    from transformers import AutoModelForCausalLM

    config = FAMILIES[miniature.family].configure(miniature.size)
    with torch.random.fork_rng(devices=[]):  # Transformers draws weights of its own, which are replaced
        auto: Any = AutoModelForCausalLM
        module: nn.Module = auto.from_config(config, dtype=torch.float32)
    draw_weights(module, torch.Generator().manual_seed(miniature.seed))
    return module


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Gives a module or a part of one its initial weights.

    Args:
        module: What to initialise; vectors that are not named below stay as they are.
        generator: Where the weights come from.
    """
    for name, parameter in module.named_parameters():
        _initialise(name, parameter, generator)


def _initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Normal matrices; convolutions as PyTorch draws them; step sizes and rates of decay spread as their papers say."""
    kind = name.rsplit(".", 2)[-2:]
    if kind[-1] == "dt_bias":
        low, high = (math.log(bound) for bound in _STEP_SIZES)
        steps = torch.linspace(low, high, parameter.numel()).exp()
        parameter.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
    elif kind[-1] == "A_log":
        parameter.copy_(torch.linspace(*_RATES, parameter.numel()).log())
    elif kind == ["conv1d", "weight"]:
        bound = parameter.shape[-1] ** -0.5
        parameter.uniform_(-bound, bound, generator=generator)
    elif parameter.ndim > 1:
        parameter.normal_(0.0, _STD, generator=generator)
