"""Ablation, noise and skips: perturbations carried out on tensors.

Rows come in one order of axes here: [draw, prompt, position, …, width]. Nothing random depends on a
prompt or on how prompts are batched: each layer and draw has a generator of its own, and what is
drawn for a position does not depend on the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import Mask, Noise, Perturbation, Site, Skip
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._batching.rows import evenly_spaced

_KEPT_NOISE_BYTES = 128 * 2**20
"""How much noise is kept; drawing it anew for every batch took longer than adding it."""


@runtime_checkable
class Perturber(Protocol):
    """A perturbation made ready for one model."""

    @property
    def site(self) -> Site:
        """Where inside the layer."""

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """Perturbed values at the site.

        Args:
            values: What is at the site, [prompt, position, …, width].
            entering: The stream that enters the layer, of the same shape.
            layer: Index of the layer.
            draws: Which draws.
            first: Position in the prompt of the first of `values`.

        Returns:
            [draw, prompt, position, …, width].
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Fills:
    """What masked dimensions become, from unperturbed runs over all prompts and positions of a trace.

    Attributes:
        mean: Mean of each dimension, [layer, width].
        bank: Values at some positions, to resample from, [layer, entry, width].
    """

    mean: OnDevices
    bank: OnDevices

    @classmethod
    def of(cls, mean: Float[Tensor, "layer width"], bank: Float[Tensor, "layer entry width"]) -> Fills:
        """Fills out of statistics."""
        return cls(mean=OnDevices(mean), bank=OnDevices(bank))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPerturber:
    """`Mask` on tensors."""

    mask: Mask
    keep: OnDevices
    fills: Fills | None = None
    _picks: dict[int, OnDevices] = field(default_factory=dict, repr=False)

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.mask.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        del entering
        keep = take_draws(self.keep.on(values.device)[layer], draws)
        keep = keep.reshape(len(draws), *[1] * (values.ndim - 1), keep.shape[-1])
        return torch.where(keep, values, self._fill(values, layer=layer, draws=draws, first=first))

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
                _generator(self.mask.seed, layer, draw, 1).integers(n_entries, size=length)
                for layer in range(n_layers)
                for draw in range(n_draws)
            ]
            self._picks[length] = OnDevices(torch.from_numpy(np.stack(picks)).unflatten(0, (n_layers, n_draws)))
        return self._picks[length]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePerturber:
    """`Noise` on tensors."""

    noise: Noise
    _drawn: dict[tuple[int, int, tuple[int, ...]], OnDevices] = field(default_factory=dict, repr=False)

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.noise.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        stream = values if self.site == "block_output" else entering.to(values.device)
        rms = stream.float().square().mean(dim=-1, keepdim=True).sqrt()
        shape = (first + values.shape[1], *values.shape[2:])
        drawn = torch.stack([self._draw(layer, draw, shape).on(values.device)[first:] for draw in draws])
        return (values.float() + self.noise.scale * rms * drawn[:, None]).to(values.dtype)

    def _draw(self, layer: int, draw: int, shape: tuple[int, ...]) -> OnDevices:
        """Standard normal numbers, kept for further prompts of the same length as long as all of them are few."""
        known = self._drawn.get((layer, draw, shape))
        if known is not None:
            return known
        drawn = _generator(self.noise.seed, layer, draw, 2).standard_normal(shape, dtype=np.float32)
        noise = OnDevices(torch.from_numpy(drawn))
        if (1 + len(self._drawn)) * drawn.nbytes <= _KEPT_NOISE_BYTES:
            self._drawn[layer, draw, shape] = noise
        return noise


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipPerturber:
    """`Skip` on tensors."""

    @property
    def site(self) -> Site:
        """Always the whole block."""
        return "block_output"

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        del layer, first
        return entering.to(values.device).expand(len(draws), *entering.shape)


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
    def site(self) -> Site:
        """Where inside the layer."""
        return self.perturber.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        perturbed = self.perturber(values, entering=entering, layer=layer, draws=draws, first=first)
        here = torch.zeros(values.shape[1], dtype=torch.bool, device=values.device)
        inside = [position - first for position in self.positions if 0 <= position - first < len(here)]
        if inside:
            here[evenly_spaced(inside)] = True
        return torch.where(here.reshape(1, 1, -1, *[1] * (values.ndim - 2)), perturbed, values)


def make_perturber(
    perturbation: Perturbation, *, n_layers: int, width: int, device: torch.device, fills: Fills | None = None
) -> Perturber:
    """A specification made ready for a model of `n_layers` layers and that width.

    Raises:
        UsageError: If an explicit mask has another shape, or the perturbation is of an unknown kind.
    """
    if isinstance(perturbation, Mask):
        keep = torch.from_numpy(perturbation.keep_array(n_layers=n_layers, width=width).copy()).to(device)
        return MaskPerturber(mask=perturbation, keep=OnDevices(keep), fills=fills)
    if isinstance(perturbation, Noise):
        return NoisePerturber(noise=perturbation)
    if isinstance(perturbation, Skip):
        return SkipPerturber()
    raise UsageError(
        f"perturbation must be a Mask, Noise or Skip, got {type(perturbation).__name__}. For masks of your own use "
        "Mask.explicit(keep)."
    )


def take_draws(values: Tensor, draws: Sequence[int]) -> Tensor:
    """The entries of some draws, [draw, …]: a view, since a list of indices would have to go to the device first."""
    return values[draws[0] : draws[-1] + 1] if list(draws) == [*range(draws[0], draws[-1] + 1)] else values[list(draws)]


def _generator(seed: int, layer: int, draw: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, layer, draw, purpose])
