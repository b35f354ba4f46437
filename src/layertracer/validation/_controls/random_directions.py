"""Random perturbations of equal norm: a Gaussian direction, as long as what a mask takes away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layertracer._types import SITES, Mask, Positions, Site
from layertracer.tracing import Bench, LayerCall, Progress, register_perturber, trace_model
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.traces import options_of

_PURPOSE = 11
"""Tells these draws from others of the same seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomDirection:
    """A random direction added at a site, position by position as long as what a mask would take away there.

    Attributes:
        mask: The mask.
    """

    mask: Mask
    kind: ClassVar[str] = "random_direction"

    @property
    def site(self) -> Site:
        """Where inside the layer."""
        return self.mask.site

    @property
    def n_draws(self) -> int:
        """As many as of the mask."""
        return self.mask.n_draws

    @property
    def positions(self) -> Positions:
        """All of them."""
        return "all"

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        spec = self.mask.to_dict()
        return spec | {"kind": self.kind, "mask": spec}


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomDirectionPerturber:
    """`RandomDirection` on tensors."""

    site: str
    seed: int
    keep: NDArray[np.bool_]
    is_per_prompt: bool = False
    keeps_pairs: bool = False
    _drawn: dict[tuple[int, int, tuple[int, ...]], Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        masked = torch.from_numpy(~self.keep[call.layer][list(draws)]).to(values.device)
        masked = masked.reshape(len(draws), *[1] * (values.ndim - 1), values.shape[-1])
        removed = torch.linalg.vector_norm(torch.where(masked, values.float(), 0.0), dim=-1, keepdim=True)
        shape = (call.first + values.shape[1], *values.shape[2:])
        unit = torch.stack([self._unit(call.layer, draw, shape)[call.first :] for draw in draws]).to(values.device)
        moved: Tensor = values.float() + removed * unit[:, None]
        return moved.to(values.dtype)

    def _unit(self, layer: int, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Directions of length 1, one for each position; those of early ones do not depend on how many there are."""
        key = (layer, draw, shape)
        if key not in self._drawn:
            generator = np.random.default_rng([self.seed, layer, draw, _PURPOSE])
            drawn = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
            self._drawn[key] = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
        return self._drawn[key]


def make_random_direction(direction: RandomDirection, bench: Bench) -> RandomDirectionPerturber:
    """A random direction made ready for a model."""
    keep = direction.mask.keep_array(n_layers=bench.n_layers, width=bench.width)
    return RandomDirectionPerturber(site=direction.site, seed=direction.mask.seed, keep=keep)


def measure_random_directions(setting: Setting, sites: Sequence[Site], tell: Callable[[Progress], None]) -> Found:
    """JS of random directions of equal norm, at the sites of the trace, on its first prompts.

    Returns:
        Arrays `js_bits.SITE` [prompt, draw, layer].
    """
    sites = [site for site in sites if SITES[site].has_dimensions]
    if not sites:
        return not_measured("The model has no site at which dimensions of the stream stand.")
    directions = [RandomDirection(mask=Mask(site=str(site), seed=setting.options.seed)) for site in sites]
    with register_perturber(RandomDirection.kind, make_random_direction):
        record = trace_model(setting.model, setting.few, options_of(setting, directions), on_progress=tell)
    arrays = {f"js_bits.{site}": effect.js_bits for site, effect in zip(sites, record.effects.values(), strict=True)}
    return Found(facts={"notes": list(record.warnings)}, arrays=arrays)
