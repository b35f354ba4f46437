"""Perturbations carried out on tensors.

Rows come in one order of axes here: [draw, prompt, position, …, width]. Nothing random depends on a
prompt or on how prompts are batched: each layer and draw has a generator of its own, and what is
drawn for a position does not depend on the length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import Mask, Noise, Perturbation, Site, Skip


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
        mean: Mean of each dimension.
        bank: Values at some positions, to resample from.
    """

    mean: Float[Tensor, "layer width"]
    bank: Float[Tensor, "layer entry width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPerturber:
    """`Mask` on tensors."""

    mask: Mask
    keep: Tensor
    fills: Fills | None = None

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.mask.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        del entering
        keep = self.keep[layer, list(draws)]
        keep = keep.reshape(len(draws), *[1] * (values.ndim - 1), keep.shape[-1])
        return torch.where(keep, values, self._fill(values, layer=layer, draws=draws, first=first))

    def _fill(self, values: Tensor, *, layer: int, draws: Sequence[int], first: int) -> Tensor:
        if self.mask.fill == "zero":
            return values.new_zeros(())
        assert self.fills is not None  # collected before the first pass
        if self.mask.fill == "mean":
            return self.fills.mean[layer].to(values)
        bank = self.fills.bank[layer]
        length = values.shape[1]
        picks = [
            _generator(self.mask.seed, layer, draw, 1).integers(len(bank), size=first + length)[first:]
            for draw in draws
        ]
        drawn = bank[torch.from_numpy(np.stack(picks)).to(bank.device)].to(values)
        return drawn.reshape(len(draws), 1, length, *[1] * (values.ndim - 3), drawn.shape[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePerturber:
    """`Noise` on tensors."""

    noise: Noise

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.noise.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        stream = values if self.site == "block_output" else entering
        rms = stream.float().square().mean(dim=-1, keepdim=True).sqrt()
        shape = (first + values.shape[1], *values.shape[2:])
        drawn = [
            _generator(self.noise.seed, layer, draw, 2).standard_normal(shape, dtype=np.float32)[first:]
            for draw in draws
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(values.device)[:, None]
        return (values.float() + self.noise.scale * rms * noise).to(values.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipPerturber:
    """`Skip` on tensors."""

    @property
    def site(self) -> Site:
        """Always the whole block."""
        return "block_output"

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        del values, layer, first
        return entering.expand(len(draws), *entering.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPosition:
    """Another perturber, at one token of the prompt only.

    Attributes:
        perturber: The other one.
        positions: Where the token stands in the stream, see `stream_positions`, counted from the prompt's first.
    """

    perturber: Perturber
    positions: tuple[int, ...]

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.perturber.site

    def __call__(self, values: Tensor, *, entering: Tensor, layer: int, draws: Sequence[int], first: int = 0) -> Tensor:
        """See `Perturber`."""
        perturbed = self.perturber(values, entering=entering, layer=layer, draws=draws, first=first)
        here = torch.zeros(values.shape[1], dtype=torch.bool, device=values.device)
        here[[position - first for position in self.positions if 0 <= position - first < len(here)]] = True
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
        return MaskPerturber(mask=perturbation, keep=keep, fills=fills)
    if isinstance(perturbation, Noise):
        return NoisePerturber(noise=perturbation)
    if isinstance(perturbation, Skip):
        return SkipPerturber()
    raise UsageError(
        f"perturbation must be a Mask, Noise or Skip, got {type(perturbation).__name__}. For masks of your own use "
        "Mask.explicit(keep)."
    )


def _generator(seed: int, layer: int, draw: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, layer, draw, purpose])
