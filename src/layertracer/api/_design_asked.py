"""What a design is asked, in the kinds of things in which users say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from layertracer._errors import UsageError
from layertracer._types import Window, checked_substitute, checked_whole
from layertracer.api._asked_rows import tasks_for, text_for
from layertracer.api._taken import refused, take_choice, take_flag

if TYPE_CHECKING:
    from layertracer.hybrids import DesignOptions, Question
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    DesignOptions = Question = TracedModel = Any

DEFAULT_SUBSTITUTE = Window(64, sinks=4)
"""What stands in the layers that are not kept, where nobody says."""

SEARCHES = ("greedy", "singles", "joint_js", "pairs", "exact")
"""Searches by name."""

_ROWS = {"search": "n_search", "compared": "n_compared", "held_out": "n_held_out", "tokens": "row_tokens"}


def take_options(model: TracedModel, rows: object, **asked: Any) -> DesignOptions:
    """The options of a design.

    Args:
        model: The model.
        rows: Numbers of rows, as users give them.
        **asked: The arguments of `design` by their names, those that are given.

    Raises:
        UsageError: If one is not of a kind that is taken, or out of range.
        UnknownNameError: If there is no search of that name.
    """
    from layertracer.hybrids import DesignOptions as Options
    from layertracer.tracing import parse_memory

    substitute, budget, context = asked["substitute"], asked["budget"], asked["context"]
    seed = checked_whole("seed", asked["seed"])
    if seed < 0:
        raise UsageError(f"seed must be at least 0, got {seed}. Give any whole number from 0 on.")
    if asked["search"] == "joint_js" and asked["trace"] is False:
        raise UsageError("search='joint_js' chooses by what a trace says, and trace=False was asked. Leave it out.")
    return Options(
        keep=_take_keep(asked["keep"]),
        budget_bytes=None if budget is None else parse_memory(budget),
        context=None if context is None else _at_least("context", context, 1),
        substitute=DEFAULT_SUBSTITUTE if substitute is None else checked_substitute(substitute),
        search=take_choice("search", asked["search"], SEARCHES),  # type: ignore[arg-type]  # one of them
        seed=seed,
        n_random=_at_least("n_random", asked["n_random"], 0),
        wants_pairs=take_flag("pairs", asked["pairs"]),
        wants_ratio=take_flag("ratio", asked["ratio"]),
        wants_trace=take_flag("trace", asked["trace"]),
        wants_divisions=take_flag("divisions", asked["divisions"]),
        wants_gates=take_flag("gates", asked["gates"]),
        against_published=_take_against(asked.get("against")),
        audit=asked["audit"],
        memory=asked["memory"],
        **_take_rows(model, rows),
    )


def take_question(model: TracedModel, tasks: object, text: object, options: DesignOptions) -> Question:
    """What is asked, with tasks by their names and text in a form that rows are made of.

    Raises:
        LayerTracerError: If they are not of a kind that is taken, or a task cannot be loaded.
    """
    from layertracer.hybrids import Question as Asked

    return Asked(
        model=model,
        tasks=tasks_for(model, tasks),
        text=None if text is False else text_for(model, "text", text),
        with_text=text is not False,
        options=options,
    )


def _take_keep(given: object) -> tuple[int, ...] | None:
    hint = "Give how many layers are to keep their mixer: a number or several, e.g. keep=(4, 8)."
    if given is None:
        return None
    if isinstance(given, Iterable) and not isinstance(given, str | bytes) and not hasattr(given, "__index__"):
        return tuple(checked_whole("Each number of keep", one, hint=hint) for one in given)
    return (checked_whole("keep", given, hint=hint),)


def _at_least(name: str, given: object, least: int) -> int:
    value = checked_whole(name, given)
    if value < least:
        raise UsageError(f"{name} must be at least {least}, got {value}. Give a whole number from {least} on.")
    return value


def _take_against(given: object) -> bool:
    if given is None:
        return False
    return take_choice("against", given, ("published",)) == "published"


def _take_rows(model: TracedModel, given: object) -> dict[str, Any]:
    """How many rows there are of each kind: those of the model's size where nobody says."""
    from layertracer.hybrids import default_rows

    search, compared, held_out = default_rows(sum(one.n_parameters for one in model.anatomy.layers))
    wanted: dict[str, Any] = {"n_search": search, "n_compared": compared, "n_held_out": held_out}
    if given is None:
        return wanted
    if not isinstance(given, Mapping) or not set(given) <= set(_ROWS):
        raise refused("rows", given, f"Give a dictionary with some of {', '.join(map(repr, _ROWS))}.")
    return wanted | {_ROWS[name]: _at_least(f"rows[{name!r}]", value, 1) for name, value in given.items()}
