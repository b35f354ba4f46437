"""Activation patching: values of one run copied, and put into another at one layer and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from layertracer.models import Wiring
from layertracer.tracing._batching.rows import gather_rows, stream_positions
from layertracer.tracing._observers.protocol import CleanCall
from layertracer.tracing._perturbers.protocol import LayerCall

Addition = tuple[int, int]
"""A layer, and which of its additions at the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DonorValues:
    """An observer that copies what stands at a site in every layer, from one position on.

    Attributes:
        site: Where it looks.
        first: The first position that is copied.
        length: How many tokens the prompts have.
        kept: The copies, [case, position, …, width] each.
    """

    site: str
    first: int
    length: int
    kept: dict[Addition, Tensor] = field(default_factory=dict)

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Copy the values."""
        layer, which = call.layer, 0
        while (layer.index, which) in self.kept:
            which += 1
        read = range(self.first, self.length)
        self.kept[layer.index, which] = gather_rows(leaving, layer.wiring, read, length=self.length)

    def at(self, position: int) -> Mapping[Addition, Tensor]:
        """The copies at one position, [case, …, width]."""
        return {addition: values[:, position - self.first] for addition, values in self.kept.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A perturber that puts values of another run in the place of those at some positions.

    Attributes:
        site: Where.
        values: For each of the positions, what is put there: [case, …, width] by layer and addition.
        length: How many tokens the prompts have.
        wiring: How the stream is laid out.
    """

    site: str
    values: Mapping[int, Mapping[Addition, Tensor]]
    length: int
    wiring: Wiring
    is_per_prompt: bool = True
    keeps_pairs: bool = False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`; where rows are read in spans, a position is patched in the one that it is in."""
        changed = values
        for position, donors in self.values.items():
            at = stream_positions(self.wiring, [position - call.first], length=self.length)
            if not 0 <= at[0] < values.shape[1]:
                continue
            if changed is values:
                changed = values.clone()
            donor = donors[call.layer, call.which].to(values.device, values.dtype)
            changed[:, at] = donor.reshape(len(donor), len(at), *values.shape[2:])
        return changed.expand(len(draws), *values.shape)


def window_of(layer: int, width: int, n_layers: int) -> range:
    """The layers that are patched together around one.

    Example:
        >>> window_of(5, 3, 12), window_of(5, 4, 12), window_of(0, 4, 12)
        (range(4, 7), range(3, 7), range(0, 2))
    """
    first = layer - width // 2
    return range(max(0, first), min(n_layers, first + width))
