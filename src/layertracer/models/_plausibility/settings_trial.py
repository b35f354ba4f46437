"""Settings that hold large numbers, tried in another process: a few bytes may ask for a list that fills the memory.

What a number asks for is known to the class that reads it alone: labels, special tokens, kinds of attention by layer.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from layertracer._errors import ModelLoadError, printable_name
from layertracer.models._plausibility.settings import numbers_in, shown_number
from layertracer.tasks import CallFailedError, ConfinedCall, TookTooLong

_LARGE = 2_000_000
"""Lists of so many entries, all together, are made at once."""

_LONG_CHARACTERS = 2_000_000
"""Settings so long may hold small numbers without end; real ones have half of it."""

_HARMLESS = re.compile(r"(vocab_size|theta|token_ids?|^model_max_length|^total_(size|parameters)|^seed)$")
"""Numbers that are large in real settings, and of which nothing is made but what is weighed elsewhere."""

_TRIAL_S = 30.0
_TRIAL_BYTES = 2**31
"""The settings and the skeleton of the largest models take two seconds and 200 MB."""


def refuse_filling_settings(settings: Mapping[str, Any], build: Callable[[], object], what: str) -> None:
    """Refuse settings of which no object can be made in bounded time and memory.

    Nothing is tried where no number is large, as in nearly all checkpoints, or where the system has no copies of a
    process (all but Linux).

    Args:
        settings: As they stand in the file.
        build: Makes what they ask for, to be thrown away.
        what: What a message calls them: "The tokenizer of x", "x".

    Raises:
        ModelLoadError: With the large numbers.
    """
    large = _large_numbers(settings)
    if not large or sys.platform != "linux":
        return

    def make() -> None:
        torch.set_num_threads(1)  # a copy has none of the threads that computed before
        build()

    call = ConfinedCall(make, seconds=_TRIAL_S, seconds_in_all=_TRIAL_S, memory_bytes=_TRIAL_BYTES)
    try:
        call()
    except TookTooLong:
        reason = f"was not made within {_TRIAL_S:.0f} s"
    except CallFailedError as error:
        if not _is_of_memory(str(error)):
            return  # loading says more of it
        reason = f"takes more than {_TRIAL_BYTES / 1e9:.0f} GB before any weight is read"
    else:
        return
    finally:
        call.close()
    named = ", ".join(f"{printable_name(name, at_most=60)} = {shown_number(value)}" for name, value in large[:3])
    raise ModelLoadError(
        f"{what} cannot be loaded: what its settings ask for {reason} ({named}). Expected the settings that belong to "
        "these weights. Copy the checkpoint again."
    ) from None


def _large_numbers(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    found: Iterable[tuple[str, int]] = numbers_in(settings)
    numbers = [(name, value) for name, value in found if _HARMLESS.search(name) is None]
    if sum(value for _, value in numbers) <= _LARGE and len(json.dumps(settings)) <= _LONG_CHARACTERS:
        return []
    return sorted(set(numbers), key=lambda pair: -pair[1]) or [("numbers", 0)]


def _is_of_memory(failure: str) -> bool:
    return failure.startswith("MemoryError") or "brought its process down" in failure or "can't allocate" in failure
