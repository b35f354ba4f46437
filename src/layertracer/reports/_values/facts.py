"""JSON values as facts: names and phrases that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from layertracer.reports._values.numbers import show_parameters
from layertracer.reports._values.parts import Fact
from layertracer.reports._values.visible import plain, shorten, visible_line


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


def facts_of(values: Mapping[str, Any]) -> Iterator[Fact]:
    """Fields by name, whatever order they came in: a record that was stored has them sorted."""
    return (Fact(fact_name(name), fact_value(_sorted(values[name]))) for name in sorted(values))


def _sorted(value: Any) -> Any:
    return {name: _sorted(value[name]) for name in sorted(value)} if isinstance(value, Mapping) else value


def facts_of_model(model: Mapping[str, Any], provenance: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What is known of a model, and where what was found comes from."""
    facts = [Fact("Model", plain(str(model["name"]), 200))]
    for name, title in (("class_name", "Class"), ("revision", "Revision"), ("dtype", "Type of numbers"),
                        ("device", "Device"), ("fingerprint", "Fingerprint of weights and settings")):  # fmt: skip
        if model.get(name) is not None:
            facts.append(Fact(title, plain(str(model[name]), 200)))
    if isinstance(model.get("n_parameters"), int):
        facts.append(Fact("Parameters", f"{model['n_parameters']:,} ({show_parameters(model['n_parameters'])})"))
    return (*facts, *facts_of(provenance))
