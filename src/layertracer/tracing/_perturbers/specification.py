"""Specifications of perturbations, held against what is done: what is stored of a trace must be what was measured."""

from __future__ import annotations

import json
from typing import Any

from layertracer._errors import UnknownNameError, UsageError
from layertracer._types import SITES, Perturbation, kind_of, shown
from layertracer._types.perturbations import check_choice


def check_specification(perturbation: Perturbation) -> None:
    """Refuse a perturbation whose `to_dict` says something else than what it does.

    Raises:
        UsageError: If it is no specification in JSON values, or names another kind, site, number of draws or positions.
        UnknownNameError: If there is no such site.
    """
    kind = kind_of(perturbation)
    site: Any = perturbation.site
    n_draws: Any = perturbation.n_draws  # a class of somebody's own may have anything there
    if not isinstance(site, str) or site not in SITES:
        raise UnknownNameError.among("site", str(site), tuple(SITES))
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise UsageError(
            f"n_draws of the perturbation {kind!r} must be a whole number of at least 1, got {shown(n_draws)}. It is "
            "the number of repetitions."
        )
    check_choice("positions", perturbation.positions, ("all", "last"))
    said = _as_json(kind, perturbation.to_dict())
    meant = {"kind": kind, "site": str(site), "draws": n_draws, "positions": perturbation.positions}
    for name, value in meant.items():
        if said.get(name) != value:
            raise UsageError(
                f"to_dict() of the perturbation {kind!r} says {name}={shown(said.get(name))}, and what it does is "
                f"{name}={value!r}. It is what is stored and shown: let it hold 'kind', 'site', 'draws' and "
                "'positions' as they are, and whatever else tells it from others."
            )


def _as_json(kind: str, said: object) -> dict[str, Any]:
    """A specification as it comes back out of a stored run."""
    try:
        read = json.loads(json.dumps(said, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"to_dict() of the perturbation {kind!r} cannot be stored as JSON ({error}). Let it return a dictionary of "
            "texts, numbers, true, false, null, and lists of them."
        ) from None
    if not isinstance(read, dict):
        raise UsageError(
            f"to_dict() of the perturbation {kind!r} must return a dictionary, got {shown(said)}. It is what is stored "
            "of it."
        )
    return read
