"""Ablation of a layer's KV cache or recurrent state, slot by slot.

A slot is one position of one tensor of the memory (a key, a value, a latent), or the whole of a
tensor without positions (a convolution window, a recurrent state). What is drawn for a slot depends
on the seed, the layer, the draw, the tensor and the position, never on the prompt, the batch or the
length. Positions are counted from the last token back, so that a window that slides and a cache that
grows agree on them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import Mask, Noise, Perturbation, Registration, kind_of
from layertracer.models import StateMap, StatePiece
from layertracer.tracing._failures import telling_whose
from layertracer.tracing._perturbers.checked import checked_state_perturber

_MASKS, _NOISE = 3, 4
"""Purposes of generators; 1 and 2 are those of the other sites."""


@runtime_checkable
class StatePerturber(Protocol):
    """A perturbation of memories made ready for one model."""

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        """Perturbed values of one tensor of a layer's memory.

        Args:
            values: What the layer remembers, [prompt, slot, entry]; the last slot is the latest position.
            piece: Which tensor.
            layer: Index of the layer.
            draw: Which draw.

        Returns:
            [prompt, slot, entry].
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMask:
    """`Mask` on memories."""

    mask: Mask

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        """See `StatePerturber`."""
        masked = torch.from_numpy(self.masked(values.shape[1], piece=piece, layer=layer, draw=draw))
        return values.masked_fill(masked.to(values.device), 0)

    def masked(self, n_slots: int, *, piece: StatePiece, layer: int, draw: int) -> NDArray[np.bool_]:
        """Which entries are masked, [slot, entry]."""
        size = piece.slot_size
        if self.mask.keep is not None:
            return np.broadcast_to(~self.mask.keep[layer, draw], (n_slots, size)).copy()
        number, span = self.mask.masked_stretch(draw, size)
        permutations = _permutations((self.mask.seed, layer, _number_of(piece), number, _MASKS), n_slots, size)
        masked = np.zeros((n_slots, size), dtype=bool)
        np.put_along_axis(masked, permutations[:, span], values=True, axis=1)
        return masked[::-1].copy()  # counted from the last position back


@dataclass(frozen=True, slots=True, kw_only=True)
class StateNoise:
    """`Noise` on memories, relative to the root mean square of each slot."""

    noise: Noise

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        """See `StatePerturber`."""
        generator = np.random.default_rng([self.noise.seed, layer, _number_of(piece), draw, _NOISE])
        drawn = generator.standard_normal(tuple(values.shape[1:]), dtype=np.float32)[::-1].copy()
        rms = values.float().square().mean(dim=-1, keepdim=True).sqrt()
        noise = self.noise.scale * rms * torch.from_numpy(drawn).to(values.device)
        return (values + noise).to(values.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDraws:
    """Several perturbations of memories, whose draws are counted over all perturbations of a trace.

    Attributes:
        by_draw: What carries a draw out, and which of its own draws that is.
    """

    by_draw: Mapping[int, tuple[StatePerturber, int]]

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        """See `StatePerturber`."""
        perturber, own = self.by_draw[draw]
        return perturber(values, piece=piece, layer=layer, draw=own)


MakeStatePerturber = Callable[[Any, StateMap, int], StatePerturber]
"""Makes a perturber of a specification, a model's memories, and the number of its layers."""

STATE_PERTURBERS: dict[str, MakeStatePerturber] = {}
"""How perturbations of memories are carried out, by their kinds."""


def register_state_perturber(kind: str, make: MakeStatePerturber) -> Registration[MakeStatePerturber]:
    """Make known how a kind of perturbation is done to memories; undone by the registration, or at its block's end.

    Raises:
        UsageError: If that is known already.
    """
    return Registration(STATE_PERTURBERS, kind, make)


def make_state_perturber(perturbation: Perturbation, state: StateMap, *, n_layers: int) -> StatePerturber:
    """A specification made ready for the memories of one model.

    Raises:
        UsageError: If an explicit mask does not fit every slot, a mask masks nothing in some layer, or the perturbation
            is of a kind that nothing is known of for memories.
    """
    kind = kind_of(perturbation)
    make = STATE_PERTURBERS.get(kind)
    if make is None:
        raise UsageError(
            f"A {kind!r} cannot be done to what a layer remembers. Use another site than "
            f"{str(perturbation.site)!r}, or one of {', '.join(sorted(STATE_PERTURBERS))}."
        )
    with telling_whose(f"The perturbation {kind!r}", "when it was made ready for the model's memories", code=make):
        made = make(perturbation, state, n_layers)
    return checked_state_perturber(made, kind)


def _make_noise(noise: Noise, state: StateMap, n_layers: int) -> StateNoise:
    del state, n_layers  # drawn in the shape of what it is added to
    return StateNoise(noise=noise)


def _make_mask(mask: Mask, state: StateMap, n_layers: int) -> StateMask:
    for layer in range(n_layers):
        if mask.keep is None:
            _refuse_empty(mask, layer, state.pieces(layer))
        else:
            _refuse_misfit(mask.keep.shape, mask, layer, state.pieces(layer), n_layers=n_layers)
    return StateMask(mask=mask)


register_state_perturber("noise", _make_noise)
register_state_perturber("mask", _make_mask)


def _refuse_empty(mask: Mask, layer: int, pieces: Sequence[StatePiece]) -> None:
    largest = max((piece.slot_size for piece in pieces), default=0)
    if pieces and round(mask.fraction * largest) < 1:
        raise UsageError(
            f"fraction={mask.fraction} of the {largest} entries of a slot of layer {layer}'s state masks none. Use at "
            f"least {1 / largest:.2g}."
        )


def _refuse_misfit(
    shape: Sequence[int], mask: Mask, layer: int, pieces: Sequence[StatePiece], *, n_layers: int
) -> None:
    widths = sorted({piece.slot_size for piece in pieces})
    if (shape[0], shape[1]) == (n_layers, mask.draws) and widths in ([], [shape[2]]):
        return
    raise UsageError(
        f"The explicit mask of shape {list(shape)} ([layer, draw, width]) is put on every slot of a layer's state, but "
        f"this model has {n_layers} layers, and a slot of layer {layer} has {' or '.join(map(str, widths))} "
        "entries. One mask fits only where all slots of all layers are of one size (keys: heads × channels); "
        "otherwise use Mask(fraction=…, site='state')."
    )


@lru_cache(maxsize=16)  # all draws of a group, and all prompts of a length, share one
def _permutations(entropy: tuple[int, ...], n_slots: int, size: int) -> NDArray[np.int32]:
    """A permutation of the entries for each slot; that of a slot does not depend on how many there are."""
    entries = np.broadcast_to(np.arange(size, dtype=np.int32), (n_slots, size))
    return np.random.default_rng(list(entropy)).permuted(entries, axis=1)


def _number_of(piece: StatePiece) -> int:
    """A number for a tensor that stays the same whatever else is found in the cache."""
    return zlib.crc32(piece.path.encode())
