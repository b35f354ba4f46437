"""JSON values as facts: names and phrases that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertracer.reports._values.visible import shorten, visible_line


def fact_name(key: Any) -> str:
    """A field's name as a heading.

    Example:
        >>> fact_name("n_cpus")
        'N cpus'
    """
    text = visible_line(str(key)).replace("_", " ")
    return text[:1].upper() + text[1:]


def fact_value(value: Any) -> str:
    """A JSON value as a phrase.

    Example:
        >>> fact_value({"size": 64, "all": True, "rest": None})
        'size 64, all yes, rest –'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{visible_line(str(key))} {fact_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(fact_value(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else shorten(visible_line(str(value)), 400)
