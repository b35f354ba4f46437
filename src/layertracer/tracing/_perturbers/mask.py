"""Ablation of dimensions: replaced by zero, by their mean, or by what they are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from layertracer._types import Mask
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._perturbers.protocol import Bench, Fills, LayerCall, generator_of, take_draws


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPerturber:
    """`Mask` on tensors."""

    mask: Mask
    keep: OnDevices
    fills: Fills | None = None
    by_prompt: bool = False
    _picks: dict[int, OnDevices] = field(default_factory=dict, repr=False)

    @property
    def site(self) -> str:
        """Where inside the layer."""
        return self.mask.site

    @property
    def is_per_prompt(self) -> bool:
        """Whether every prompt has masks of its own."""
        return self.by_prompt

    @property
    def keeps_pairs(self) -> bool:
        """No."""
        return False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        layer, first = call.layer, call.first
        if self.by_prompt:
            keep = self._keep_of_prompts(call.prompts or (0,) * len(values), values, layer=layer, draws=draws)
        else:
            keep = take_draws(self.keep.on(values.device)[layer], draws)
            keep = keep.reshape(len(draws), *[1] * (values.ndim - 1), keep.shape[-1])
        return torch.where(keep, values, self._fill(values, layer=layer, draws=draws, first=first))

    def _keep_of_prompts(self, prompts: Sequence[int], values: Tensor, *, layer: int, draws: Sequence[int]) -> Tensor:
        """What stays in each prompt, [draw, prompt, 1, …, width]; a probe's rows are taken for the first prompt."""
        width = values.shape[-1]
        by_prompt = {one: self.mask.keep_of_prompt(one, layer=layer, width=width)[list(draws)] for one in set(prompts)}
        keep = torch.from_numpy(np.stack([by_prompt[one] for one in prompts], axis=1)).to(values.device)
        return keep.reshape(*keep.shape[:2], *[1] * (values.ndim - 2), width)

    def _fill(self, values: Tensor, *, layer: int, draws: Sequence[int], first: int) -> Tensor:
        if self.mask.fill == "zero":
            return values.new_zeros(())
        assert self.fills is not None  # collected before the first pass
        if self.mask.fill == "mean":
            return self.fills.mean.on(values.device)[layer].to(values.dtype)
        bank = self.fills.bank.on(values.device)[layer]
        length = values.shape[1]
        picks = self._picked(first + length, n_entries=len(bank)).on(values.device)[layer, :, first:]
        drawn = bank.index_select(0, take_draws(picks, draws).flatten()).to(values.dtype)
        return drawn.reshape(len(draws), 1, length, *[1] * (values.ndim - 3), drawn.shape[-1])

    def _picked(self, length: int, *, n_entries: int) -> OnDevices:
        """Which entries of the bank fill the positions, [layer, draw, position]; drawn once for a length."""
        if length not in self._picks:
            n_layers, n_draws, _ = self.keep.shape
            picks = [
                generator_of(self.mask.seed, layer, draw, 1).integers(n_entries, size=length)
                for layer in range(n_layers)
                for draw in range(n_draws)
            ]
            self._picks[length] = OnDevices(torch.from_numpy(np.stack(picks)).unflatten(0, (n_layers, n_draws)))
        return self._picks[length]


def make_mask(mask: Mask, bench: Bench) -> MaskPerturber:
    """A mask made ready for a model."""
    keep = torch.from_numpy(mask.keep_array(n_layers=bench.n_layers, width=bench.width).copy()).to(bench.device)
    return MaskPerturber(mask=mask, keep=OnDevices(keep), fills=bench.fills, by_prompt=bench.by_prompt)
