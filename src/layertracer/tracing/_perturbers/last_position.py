"""A perturbation at the last token of the prompt alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layertracer.tracing._batching.rows import evenly_spaced
from layertracer.tracing._perturbers.protocol import LayerCall, Perturber


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPosition:
    """Another perturber, at one token of the prompt only.

    Attributes:
        perturber: The other one.
        positions: Where the token stands in the stream, see `stream_positions`, counted from the prompt's first; at
            equal distances.
    """

    perturber: Perturber
    positions: Sequence[int]

    @property
    def site(self) -> str:
        """Where inside the layer."""
        return self.perturber.site

    @property
    def is_per_prompt(self) -> bool:
        """As the other one."""
        return self.perturber.is_per_prompt

    @property
    def keeps_pairs(self) -> bool:
        """As the other one."""
        return self.perturber.keeps_pairs

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        perturbed, first = self.perturber(values, call=call, draws=draws), call.first
        here = torch.zeros(values.shape[1], dtype=torch.bool, device=values.device)
        inside = [position - first for position in self.positions if 0 <= position - first < len(here)]
        if inside:
            here[evenly_spaced(inside)] = True
        return torch.where(here.reshape(1, 1, -1, *[1] * (values.ndim - 2)), perturbed, values)
