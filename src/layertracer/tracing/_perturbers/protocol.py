"""What is done to activations at a site: ablation, noise, patching, as functions of one call of a layer.

Rows come in one order of axes here: [draw, prompt, position, …, width]. Nothing random depends on a prompt or on how
prompts are batched: each layer and draw has a generator of its own, and what is drawn for a position does not depend on
the length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import SiteError, UsageError
from layertracer._types import Perturbation, Registration, kind_of, shown
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._failures import telling_whose
from layertracer.tracing._perturbers.checked import checked_perturber


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One call of a layer, as far as a perturber may see it.

    Attributes:
        layer: Index of the layer.
        entering: The stream that enters it in the rows at hand, [prompt, position, …, width].
        base: What stands at the site in the base rows, those that nothing is patched into, one a prompt; after what is
            done there to these themselves (for an edit of theirs, what was done before it).
        first: Position in the prompt of the first of the values.
        prompts: The prompts' indices in the task; empty where the rows are a probe's, or those of a shared prefix.
        rerun: Runs the layer once more on other rows, see `again`; None where it must not.
        which: Which of the layer's additions these values are, from 0, where its branch adds several times.
    """

    layer: int
    entering: Tensor
    base: Tensor
    first: int = 0
    prompts: tuple[int, ...] = ()
    rerun: Callable[[Tensor], Tensor] | None = None
    which: int = 0

    def again(self, entering: Tensor) -> Tensor:
        """What stands at the site when the layer runs once more on other rows.

        Args:
            entering: The stream that enters it then, [row, position, …, width]; the prompts' rows, or several times as
                many, which are taken for copies of them in order.

        Returns:
            [row, position, …, width].

        Raises:
            SiteError: If rows go on from what the model remembers: a layer writes into that when it runs.
            UsageError: If they are no such rows.
        """
        if self.rerun is None:
            raise SiteError(
                f"Layer {self.layer} cannot run again while the model's own cache is open: it would write into what "
                "its rows remember of a shared prefix. Trace with share_prefix=False, or let the perturber say "
                "is_per_prompt."
            )
        given: Any = entering
        per_row, n_rows, is_stream = self.entering.shape[1:], len(self.entering), isinstance(given, Tensor)
        if not is_stream or not given.is_floating_point() or given.shape[1:] != per_row or len(given) % n_rows:
            got = f"{given.dtype} of shape {list(given.shape)}" if is_stream else shown(given)
            raise UsageError(
                f"Layer {self.layer} cannot run again on {got}. Give floating-point numbers of shape "
                f"[row, {', '.join(map(str, per_row))}], as many rows as there are prompts ({n_rows}) or several times "
                "as many."
            )
        return self.rerun(entering.to(self.entering.device, self.entering.dtype))

    def partners(self) -> Tensor:
        """What stands at the site in the base row of each prompt's partner, [prompt, position, …, width].

        Prompts 0 and 1 of a task are partners, 2 and 3, and so on; a perturber that asks for them says `keeps_pairs`.

        Raises:
            UsageError: If the prompts of the batch are no pairs.
        """
        if len(self.base) % 2:
            raise UsageError(
                f"A batch of {len(self.base)} prompts has no pairs of partners. Let the perturber say keeps_pairs, so "
                "that partners stay together."
            )
        swapped: Tensor = self.base.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        return swapped


@runtime_checkable
class Perturber(Protocol):
    """A perturbation made ready for one model."""

    @property
    def site(self) -> str:
        """Where inside the layer."""

    @property
    def is_per_prompt(self) -> bool:
        """Whether what it does depends on the prompt: then no prefix is shared between prompts."""

    @property
    def keeps_pairs(self) -> bool:
        """Whether a prompt's partner must run in the same batch, see `LayerCall.partners`."""

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """Perturbed values at the site.

        Args:
            values: What is at the site, [prompt, position, …, width]; a copy where the perturber is a user's own.
            call: The call of the layer.
            draws: Which draws.

        Returns:
            [draw, prompt, position, …, width], in any floating type and on any device.
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
class Bench:
    """What a perturber is made for.

    Attributes:
        n_layers: Layers of the model.
        width: Dimensions at the site.
        device: Where token ids lie.
        fills: What masked dimensions become, where they become something that stands there in clean runs.
        by_prompt: Whether every prompt has draws of its own, by its number in the task; if not, all share the same.
    """

    n_layers: int
    width: int
    device: torch.device
    fills: Fills | None = None
    by_prompt: bool = False


MakePerturber = Callable[..., Perturber]
"""Makes a perturber of a specification and a `Bench`."""

PERTURBERS: dict[str, MakePerturber] = {}
"""How perturbations are carried out, by their kinds."""


def register_perturber(kind: str, make: MakePerturber) -> Registration[MakePerturber]:
    """Make a kind of perturbation known; undone by the registration, or at the end of its block.

    Raises:
        UsageError: If the kind is known already.
    """
    return Registration(PERTURBERS, kind, make)


def is_perturbation(given: object) -> bool:
    """Whether something is a perturbation that can be carried out."""
    return not isinstance(given, type) and isinstance(given, Perturbation) and kind_of(given) in PERTURBERS


def make_perturber(
    perturbation: Perturbation,
    *,
    n_layers: int,
    width: int,
    device: torch.device,
    fills: Fills | None = None,
    by_prompt: bool = False,
) -> Perturber:
    """A specification made ready for a model of `n_layers` layers and that width.

    Raises:
        UsageError: If an explicit mask has another shape, or the perturbation is of an unknown kind; or if a user's own
            is made into no perturber.
    """
    if not is_perturbation(perturbation):
        raise UsageError(
            f"perturbation must be a Mask, Noise or Skip, got {type(perturbation).__name__}. For masks of your own use "
            "Mask.explicit(keep)."
        )
    kind = kind_of(perturbation)
    make = PERTURBERS[kind]
    bench = Bench(n_layers=n_layers, width=width, device=device, fills=fills, by_prompt=by_prompt)
    with telling_whose(f"The perturbation {kind!r}", "when it was made ready for the model", code=make):
        made = make(perturbation, bench)
    if not isinstance(made, Perturber):
        raise UsageError(
            f"The perturbation {kind!r} was made into {shown(made)}, which is no perturber. What is registered for it "
            "must return something callable that has a site, is_per_prompt and keeps_pairs."
        )
    return checked_perturber(made, kind)


def take_draws(values: Tensor, draws: Sequence[int]) -> Tensor:
    """The entries of some draws, [draw, …]: a view, since a list of indices would have to go to the device first."""
    return values[draws[0] : draws[-1] + 1] if list(draws) == [*range(draws[0], draws[-1] + 1)] else values[list(draws)]


def generator_of(seed: int, layer: int, draw: int, purpose: int) -> np.random.Generator:
    """The generator of one layer and draw, for one purpose."""
    return np.random.default_rng([seed, layer, draw, purpose])
