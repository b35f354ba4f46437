"""A layer bypassed: what enters it leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from layertracer._types import Skip
from layertracer.tracing._perturbers.protocol import Bench, LayerCall


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipPerturber:
    """`Skip` on tensors."""

    @property
    def site(self) -> str:
        """Always the whole block."""
        return "block_output"

    @property
    def is_per_prompt(self) -> bool:
        """No: the same is done to every prompt."""
        return False

    @property
    def keeps_pairs(self) -> bool:
        """No."""
        return False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        entering = call.entering
        return entering.to(values.device).expand(len(draws), *entering.shape)


def make_skip(skip: Skip, bench: Bench) -> SkipPerturber:
    """A skip made ready for a model; its positions are seen to by `LastPosition`."""
    del skip, bench
    return SkipPerturber()
