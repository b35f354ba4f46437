"""Checks of the self-check: what each means, the largest error that rounding explains, and how errors are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from layertracer._types import SITES, Check, SiteFacts
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._failures import is_of_callers_making

Unit = Literal["nats", "bits", "relative"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of check.

    Attributes:
        unit: Unit of its error.
        meaning: What holds where it passes.
        roundings: How often more than once the numbers that are compared were rounded.
    """

    unit: Unit
    meaning: str
    roundings: int = 1


_KINDS: Mapping[str, _Kind] = {
    "readout": _Kind("nats", "the last layer's readout is the model's own output"),
    "lens": _Kind("nats", "every layer's readout is the model with its later layers bypassed"),
    "identity": _Kind("bits", "a mask that keeps everything changes nothing"),
    "ladder": _Kind("bits", "the ladder gives what one hooked forward at a time gives"),
    "batch": _Kind("nats", "a prompt alone gives what it gives in a batch"),
    "plain_readout": _Kind("nats", "the last layer's readout is the model's own output"),
    "plain_lens": _Kind("nats", "every layer's readout is the model whose later layers hand their stream on"),
    "plain_identity": _Kind("bits", "a mask that keeps everything changes nothing"),
    "plain_mask": _Kind("bits", "a mask of any layer's output gives what PyTorch's own hooks give"),
    "state_readout": _Kind(
        "nats", "read in two goes, with the model's own cache between them, a prompt gives what it gives in one"
    ),
    "state_identity": _Kind("bits", "a perturbation of the memory that changes nothing changes no output", 4),
    "state_layers": _Kind("relative", "what a layer remembers is read by that layer and by none before it"),
    "state": _Kind("bits", "memories perturbed in one batch give what a prompt alone gives, one layer at a time", 4),
    "prefix_readout": _Kind(
        "nats", "after a prefix that was read once for all prompts, every layer reads what it reads otherwise"
    ),
    "prefix": _Kind(
        "bits", "after a prefix that was read once for all prompts, perturbations give what they give otherwise"
    ),
}


def judge(network: Network, name: str, error: float) -> Check:
    """An error held against its tolerance, which follows the precision of the model's numbers."""
    kind = _KINDS.get(name) or _of_site(SITES[name])
    tolerance = tolerance_of(network, kind.unit, roundings=kind.roundings)
    return Check(
        name=name,
        error=error,
        tolerance=tolerance,
        unit=kind.unit,
        passed=error <= tolerance,
        meaning=kind.meaning,
    )


def _of_site(facts: SiteFacts) -> _Kind:
    """The check of a site inside the layer: additions are compared with the sum that a layer rounds several times."""
    return _Kind("bits", facts.meaning, 4)


def tolerance_of(network: Network, unit: Unit, *, roundings: int = 1) -> float:
    """The largest error that rounding explains, for the precision of the model's numbers."""
    eps = torch.finfo(network.dtype).eps if network.dtype.is_floating_point else 1e-2
    return {"nats": max(1e-3, 64 * eps), "bits": max(1e-5, roundings * eps), "relative": max(1e-4, 16 * eps)}[unit]


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; where both are minus infinity there is none."""
    difference = (one - other).abs()
    return float(difference[~((one == other) & one.isinf())].max()) if difference.numel() else 0.0


def error_or_infinity(measure: Callable[[], float]) -> float:
    """An error; infinity where the model's own code raises: what cannot be measured is not proved, the rest is."""
    try:
        return measure()
    except Exception as problem:
        if is_out_of_memory(problem) or is_of_callers_making(problem):
            raise
        return float("inf")


def worst_of(errors: Iterable[float]) -> float:
    """The largest error; NaN where one of them is, which no tolerance allows."""
    return float(torch.tensor(list(errors), dtype=torch.float64).max())
