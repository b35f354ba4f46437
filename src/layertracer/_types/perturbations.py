"""What is done to a layer, where inside it, and how often: pure specifications, no tensors of a model.

The perturbations themselves stand beside this: `Mask`, `Noise` and `Skip`, a file each. Any other class that has what
`Perturbation` asks for is traced, stored and reported likewise, once what it does to tensors is registered under its
kind, see `register_perturber`.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from layertracer._errors import UnknownNameError, UsageError
from layertracer._types.given import shown
from layertracer._types.sites import SITES, Positions, Site, UnaskedSite

Draws = Literal["sampled", "parts", "given"]
"""Draws that are a sample of many; the parts of whole partitions; or all that there are."""


@runtime_checkable
class Perturbation(Protocol):
    """Anything that can be done to a layer: `Mask`, `Noise`, `Skip`, or a class of your own."""

    @property
    def site(self) -> Site:
        """Where inside the layer."""

    @property
    def n_draws(self) -> int:
        """Number of repetitions, the length of the `draw` axis."""

    @property
    def positions(self) -> Positions:
        """Which positions of the prompt are perturbed."""

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values, with a "kind"."""


def kind_of(perturbation: Perturbation) -> str:
    """The name under which it is known what a perturbation does."""
    return str(getattr(perturbation, "kind", "") or perturbation.to_dict().get("kind", ""))


def fills_from_runs(perturbation: Perturbation) -> bool:
    """Whether what is perturbed becomes something that stands at the site in clean runs."""
    return getattr(perturbation, "fill", "zero") != "zero"


def is_site_asked(perturbation: Perturbation) -> bool:
    """Whether somebody named the site of a perturbation, so that it may not be replaced by another.

    Example:
        >>> from layertracer import Mask
        >>> is_site_asked(Mask(draws=2)), is_site_asked(Mask(site="mixer_output"))
        (False, True)
    """
    return not isinstance(perturbation.site, UnaskedSite)


def check_choice(kind: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of some names.

    Raises:
        UsageError: If it is no name at all.
        UnknownNameError: If it is another one.
    """
    if not isinstance(value, str):
        raise UsageError(f"{kind} must be one of {', '.join(map(repr, choices))}, got {shown(value)}. Give its name.")
    if value not in choices:
        raise UnknownNameError.among(kind, value, choices)


def check_draws(draws: int, seed: int) -> None:
    """Refuse numbers of repetitions and seeds that are out of range.

    Raises:
        UsageError: If that is so.
    """
    if seed < 0:
        raise UsageError(f"seed must be at least 0, got {seed}. Give any other whole number.")
    if draws < 1:
        raise UsageError(f"draws must be at least 1, got {draws}. Give the number of random repetitions, e.g. draws=5.")


def check_positions(site: str, positions: str) -> None:
    """Refuse positions that are none, or none of a site.

    Raises:
        UsageError: If they have no meaning at the site.
        UnknownNameError: If they are none.
    """
    check_choice("positions", positions, ("all", "last"))
    facts = SITES[site]
    if positions not in facts.positions:
        raise UsageError(f"positions={positions!r} has no meaning at site={site!r}: {facts.why_not_there}")
