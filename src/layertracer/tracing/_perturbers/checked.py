"""Perturbers of users' own: what they raise is told as theirs, what they return is looked at, what they get are copies.

The library's own go without: they return what they are to, and write over nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import shown
from layertracer.tracing._failures import is_built_in, telling_whose

if TYPE_CHECKING:
    from layertracer.models import StatePiece
    from layertracer.tracing._perturbers.cached_values import StatePerturber
    from layertracer.tracing._perturbers.protocol import LayerCall, Perturber


def checked_perturber(perturber: Perturber, kind: str) -> Perturber:
    """A perturber, checked at every call where it is a user's own."""
    is_theirs = not is_built_in(perturber) and not isinstance(perturber, CheckedPerturber)
    return CheckedPerturber(perturber=perturber, kind=kind) if is_theirs else perturber


def checked_state_perturber(perturber: StatePerturber, kind: str) -> StatePerturber:
    """A perturber of memories, checked at every call where it is a user's own."""
    return perturber if is_built_in(perturber) else CheckedStatePerturber(perturber=perturber, kind=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPerturber:
    """A user's own perturber, checked.

    Attributes:
        perturber: Theirs.
        kind: Of which kind the perturbation is.
    """

    perturber: Perturber
    kind: str

    @property
    def site(self) -> str:
        """As theirs says."""
        return str(self.perturber.site)

    @property
    def is_per_prompt(self) -> bool:
        """As theirs says."""
        return self.perturber.is_per_prompt

    @property
    def keeps_pairs(self) -> bool:
        """As theirs says."""
        return self.perturber.keeps_pairs

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        again = None if call.rerun is None else _Again(call.rerun)
        # Copies: what theirs writes over reaches neither the clean rows nor another draw.
        own = replace(call, entering=call.entering.clone(), base=call.base.clone(), rerun=again)
        raised_by_model = () if again is None else again.raised
        with telling_whose(f"The perturbation {self.kind!r}", f"at layer {call.layer}", not_theirs=raised_by_model):
            made: Any = self.perturber(values.clone(), call=own, draws=list(draws))
        return _taken(made, values, (len(draws), *values.shape), kind=self.kind, layer=call.layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedStatePerturber:
    """A user's own perturber of memories, checked.

    Attributes:
        perturber: Theirs.
        kind: Of which kind the perturbation is.
    """

    perturber: StatePerturber
    kind: str

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        """See `StatePerturber`."""
        with telling_whose(f"The perturbation {self.kind!r}", f"at what layer {layer} remembers"):
            made: Any = self.perturber(values.clone(), piece=piece, layer=layer, draw=draw)
        return _taken(made, values, tuple(values.shape), kind=self.kind, layer=layer)


@dataclass(frozen=True, slots=True)
class _Again:
    """A layer run once more, which remembers what the model raised then: that is not the perturber's."""

    rerun: Callable[[Tensor], Tensor]
    raised: list[Exception] = field(default_factory=list)

    def __call__(self, entering: Tensor) -> Tensor:
        """See `LayerCall.again`."""
        try:
            return self.rerun(entering)
        except Exception as error:
            self.raised.append(error)
            raise


def _taken(made: Any, values: Tensor, shape: tuple[int, ...], *, kind: str, layer: int) -> Tensor:
    """What a perturber made, in the type and the place of the values.

    Raises:
        UsageError: If it is no tensor of floating-point numbers of that shape.
    """
    if isinstance(made, Tensor) and made.is_floating_point() and tuple(made.shape) == shape:
        return made.to(values.device, values.dtype)
    got = f"{made.dtype} of shape {list(made.shape)}" if isinstance(made, torch.Tensor) else shown(made)
    draws = "a perturbed copy of the values for each draw, the draws in front: torch.stack([… for draw in draws])"
    advice = "the perturbed values alone, in their shape" if len(shape) == values.ndim else draws
    raise UsageError(
        f"The perturbation {kind!r} made {got} of values of shape {list(values.shape)} at layer {layer}. Expected "
        f"floating-point numbers of shape {list(shape)}, which nothing is stretched to. Return {advice}."
    )
