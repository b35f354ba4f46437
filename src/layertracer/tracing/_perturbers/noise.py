"""Gaussian noise, relative to the root mean square of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layertracer._types import Noise
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._perturbers.protocol import Bench, LayerCall, generator_of
from layertracer.tracing._sites.protocol import SITES

_OF_PROMPT = 6
"""Purpose of the generator of a prompt's own noise."""

_KEPT_NOISE_BYTES = 128 * 2**20
"""How much noise is kept; drawing it anew for every batch took longer than adding it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePerturber:
    """`Noise` on tensors."""

    noise: Noise
    by_prompt: bool = False
    _drawn: dict[tuple[int, int, tuple[int, ...]], OnDevices] = field(default_factory=dict, repr=False)

    @property
    def site(self) -> str:
        """Where inside the layer."""
        return self.noise.site

    @property
    def is_per_prompt(self) -> bool:
        """Whether every prompt has noise of its own."""
        return self.by_prompt

    @property
    def keeps_pairs(self) -> bool:
        """No."""
        return False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        layer, first = call.layer, call.first
        stream = values if SITES[self.site].joins == "exit" else call.entering.to(values.device)
        rms = stream.float().square().mean(dim=-1, keepdim=True).sqrt()
        shape = (first + values.shape[1], *values.shape[2:])
        if self.by_prompt:
            prompts = call.prompts or (0,) * len(values)  # a probe's rows are taken for the first prompt
            own = np.stack([[self._draw_of(one, layer, draw, shape)[first:] for one in prompts] for draw in draws])
            return (values.float() + self.noise.scale * rms * torch.from_numpy(own).to(values.device)).to(values.dtype)
        drawn = torch.stack([self._draw(layer, draw, shape).on(values.device)[first:] for draw in draws])
        return (values.float() + self.noise.scale * rms * drawn[:, None]).to(values.dtype)

    def _draw_of(self, prompt: int, layer: int, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal numbers of one prompt."""
        generator = np.random.default_rng([self.noise.seed, layer, draw, prompt, _OF_PROMPT])
        return generator.standard_normal(shape, dtype=np.float32)

    def _draw(self, layer: int, draw: int, shape: tuple[int, ...]) -> OnDevices:
        """Standard normal numbers, kept for further prompts of the same length as long as all of them are few."""
        known = self._drawn.get((layer, draw, shape))
        if known is not None:
            return known
        drawn = generator_of(self.noise.seed, layer, draw, 2).standard_normal(shape, dtype=np.float32)
        noise = OnDevices(torch.from_numpy(drawn))
        if (1 + len(self._drawn)) * drawn.nbytes <= _KEPT_NOISE_BYTES:
            self._drawn[layer, draw, shape] = noise
        return noise


def make_noise(noise: Noise, bench: Bench) -> NoisePerturber:
    """Noise made ready for a model."""
    return NoisePerturber(noise=noise, by_prompt=bench.by_prompt)
