"""Regular expressions in an adapter's configuration: peft holds them against every name of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from layertracer._errors import ModelLoadError, printable_name
from layertracer.tasks import CallFailedError, ConfinedCall, TookTooLong

_MATCHING_S = 5.0
"""A usual pattern takes a millisecond for all names of a large model."""

_REPEATING = frozenset("*+?{")

_FORMS = ("{}", r"(^|.*\.){}($|\..*)", r"(.*\.)?({})$", r"(?:^|.*?\.){}\.(?P<idx>\d+)\.", r".*\.{}$")
"""How peft puts a pattern together with what may stand around it."""


def refuse_endless_patterns(settings: Mapping[str, Any], module: nn.Module, label: str) -> None:
    """Refuse an adapter whose patterns do not come to an end on the model's names.

    They are tried in another process, since Python's `re` holds the lock of the one that it runs in.

    Args:
        settings: The adapter's configuration.
        module: The model that it is put on.
        label: What the user calls the adapter.

    Raises:
        ModelLoadError: If they do not come to an end.
    """
    patterns = sorted({text for text in _texts(settings) if _REPEATING & set(text)})
    if not patterns:
        return
    names = [name for name, _ in module.named_modules()]
    names += [name for name, _ in module.named_parameters()]

    def match() -> int:
        return sum(_n_matches(form.format(pattern), names) for pattern in patterns for form in _FORMS)

    call = ConfinedCall(match, seconds=_MATCHING_S, seconds_in_all=_MATCHING_S)
    try:
        call()
    except (TookTooLong, CallFailedError):
        raise ModelLoadError(
            f"{label}: the regular expressions in its adapter_config.json did not come to an end within "
            f"{_MATCHING_S:.0f} s on the names of the model's parts. The longest is "
            f"{printable_name(max(patterns, key=len), at_most=100)!r}. Write the names of the parts there as they are."
        ) from None
    finally:
        call.close()


def _n_matches(pattern: str, names: list[str]) -> int:
    try:
        matcher = re.compile(pattern)
    except (re.error, RecursionError, OverflowError):  # peft says so where it uses it
        return 0
    matched = sum(matcher.fullmatch(name) is not None for name in names)
    return matched + sum(matcher.match(f"base_model.model.{name}") is not None for name in names)


def _texts(settings: object) -> Iterator[str]:
    """Every text among settings, and in settings within them, names included."""
    pending = [settings]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            pending += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            pending += value
