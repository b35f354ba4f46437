"""How weights are changed: Muon for the matrices inside the layers, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

_SMALLEST_SIDE = 8
"""Matrices with fewer rows or columns are few vectors, and go to AdamW."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Rates of learning over the steps: up, level, then down to 0 in a straight line.

    Attributes:
        n_steps: Number of steps.
        n_warmup: Steps of the rise.
        decay_share: Share of the steps in which the rate falls.
        matrix_rate: Level for Muon.
        rate: Level for AdamW.
    """

    n_steps: int
    n_warmup: int = 50
    decay_share: float = 0.4
    matrix_rate: float = 0.02
    rate: float = 0.01

    def factor(self, step: int) -> float:
        """Share of the level at a step, in (0, 1]."""
        rise = min(1.0, (step + 1) / self.n_warmup)
        fall = (self.n_steps - step) / max(1.0, self.decay_share * self.n_steps)
        return min(rise, fall, 1.0)


def make_optimisers(module: nn.Module, schedule: Schedule) -> list[Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, vectors, convolutions and experts.

    Source:
        Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks".
    """
    matrices = [parameter for name, parameter in module.named_parameters() if _is_hidden_matrix(name, parameter)]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in module.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=schedule.matrix_rate, weight_decay=0.02, momentum=0.95),
        torch.optim.AdamW(others, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def set_rates(optimisers: Sequence[Optimizer], schedule: Schedule, step: int) -> None:
    """Gives both optimisers their rate for a step."""
    for optimiser, level in zip(optimisers, (schedule.matrix_rate, schedule.rate), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = level * schedule.factor(step)


def _is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and "embed" not in name and min(parameter.shape) > _SMALLEST_SIDE
