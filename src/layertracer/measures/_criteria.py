"""Onset criteria by name, from JSON, and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from layertracer._errors import UnknownNameError, UsageError
from layertracer.measures._onset import FirstTop1, HalfMax, OnsetCriterion, Rise
from layertracer.measures._ratios import AbsRatio, ChangePoint, Ratio

_CRITERIA: dict[str, type[Rise | Ratio | AbsRatio | FirstTop1 | HalfMax | ChangePoint]] = {
    criterion.kind: criterion for criterion in (Rise, Ratio, AbsRatio, FirstTop1, HalfMax, ChangePoint)
}

ONSET_NAMES: tuple[str, ...] = tuple(_CRITERIA)
"""The names of all onset criteria, the default first."""


def onset_from_name(name: str, **parameters: Any) -> OnsetCriterion:
    """The onset criterion of that name.

    Args:
        name: One of `ONSET_NAMES`; case and "-" for "_" do not matter.
        **parameters: The criterion's own parameters; defaults where left out.

    Raises:
        UnknownNameError: If there is no such criterion; the message carries near matches.
        UsageError: If the criterion has no such parameter, or a value is out of range.

    Example:
        >>> onset_from_name("rise", delta=0.03)
        Rise(delta=0.03, sigmas=2.0, floor=0.01)
    """
    kind = str(name).lower().replace("-", "_")
    if kind not in _CRITERIA:
        raise UnknownNameError.among("onset criterion", str(name), ONSET_NAMES)
    criterion = _CRITERIA[kind]
    known = [field.name for field in fields(criterion)]
    for parameter, value in parameters.items():
        if parameter not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes none."
            raise UsageError(f"Onset criterion {kind!r} has no parameter {parameter!r} (got {value!r}). {takes}")
    return criterion(**parameters)


def onset_from_dict(spec: Mapping[str, Any]) -> OnsetCriterion:
    """The onset criterion that `to_dict` described.

    Law: `onset_from_dict(criterion.to_dict()) == criterion`.

    Raises:
        UnknownNameError: If "kind" names no criterion.
        UsageError: If "kind" is missing, or a parameter is unknown or out of range.

    Example:
        >>> onset_from_dict({"kind": "ratio", "first_layer": 2})
        Ratio(first_layer=2)
    """
    if "kind" not in spec:
        raise UsageError(
            f"An onset criterion needs a 'kind', got {dict(spec)!r}. Known kinds: {', '.join(ONSET_NAMES)}."
        )
    parameters = {name: value for name, value in spec.items() if name != "kind"}
    if "sigmas" in parameters and parameters["sigmas"] is None:
        parameters["sigmas"] = math.inf
    return onset_from_name(spec["kind"], **parameters)
