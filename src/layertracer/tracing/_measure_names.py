"""Names of all measures that are registered: those of rows and those of layers stand in one data frame."""

from __future__ import annotations

from typing import TypeVar

from layertracer._types.measures import MeasureInfo, refuse_reserved
from layertracer._types.registries import Registration, Registrations

Measure = TypeVar("Measure")

_INFOS: dict[str, MeasureInfo] = {}
"""What is registered as a measure, of rows or of layers."""


def register_measure(
    what: str, registry: dict[str, Measure], info: MeasureInfo, measure: Measure, *, is_known: bool = False
) -> Registrations:
    """Make a measure known in its registry, under a name that no other measure has, of rows or of layers.

    Args:
        what: What it is, for the message.
        registry: Where it is known from then on.
        info: What it is called.
        measure: The measure.
        is_known: Whether it is the one that its reserved name stands for.

    Raises:
        UsageError: If the name stands for something else in every trace, or another measure has it.
    """
    if not is_known:
        refuse_reserved(what, info.name)
    return Registrations((Registration(_INFOS, info.name, info), Registration(registry, info.name, measure)))
