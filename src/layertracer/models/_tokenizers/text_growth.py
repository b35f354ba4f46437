"""Growth of a text in a tokenizer's steps: how many times as long it becomes."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from layertracer.models._tokenizers.regex_shape import least_width, listed_characters
from layertracer.tasks import CallFailedError, ConfinedCall, TookTooLong

_CHARSMAP = 16_000_000
"""So many characters of compiled rules: SentencePiece's own have 400,000."""

_PROBING_S = 10.0
_ENOUGH = 2_000_000
"""A text of so many characters is not grown further."""

_N_TIMES = 8
"""So often each probe's text stands in it."""


def find_growth(steps: Sequence[Mapping[str, Any]], part: str, *, at_most: int) -> float:
    """How many times as long a text of ordinary length may become.

    What one step writes only grows further where a later step can fit a character of it. Where this bound is too high,
    the steps are run, in another process, on what they look for and write: the bound counts what never meets.

    Args:
        steps: In the order in which they are taken.
        part: "normalizer" or "decoder".
        at_most: What is allowed; a bound up to that is not looked at closer.

    Returns:
        A bound, or what was measured where the bound is beyond `at_most` and the system can confine the measurement.
    """
    steps = [step for step in steps if step.get("type") != "Sequence"]  # its steps follow it
    bound = _bound(steps)
    if bound <= at_most or sys.platform != "linux":
        return bound
    call = ConfinedCall(lambda: _measure(steps, part, at_most=at_most), seconds=_PROBING_S, seconds_in_all=_PROBING_S)
    try:
        measured = float(call())
    except TookTooLong:
        return 1.0  # nothing grew that far; reading texts has a limit of time
    except CallFailedError:
        return bound
    finally:
        call.close()
    return bound if measured == float("inf") else measured


def pattern_of(step: Mapping[str, Any], kind: str) -> str | None:
    """The pattern of a step, of the kind "String" or "Regex"; None where it has no such pattern."""
    pattern = step.get("pattern")
    found = pattern.get(kind) if isinstance(pattern, dict) else None
    return found if isinstance(found, str) else None


def _bound(steps: Sequence[Mapping[str, Any]]) -> float:
    """The largest product along a way on which each step can fit what the one before it wrote."""
    best: list[float] = []
    for place, step in enumerate(steps):
        fits = _fitted(step)
        before = [
            best[i] for i in range(place) if best[i] > 1 and (fits is None or not fits.isdisjoint(_written(steps[i])))
        ]
        best.append(_factor(step) * max(before, default=1.0))
    return max(best, default=1.0)


def _factor(step: Mapping[str, Any]) -> float:
    """How many times as long a text becomes by one step."""
    kind = step.get("type")
    if kind == "Replace":
        literal, written = pattern_of(step, "String"), len(_written(step))
        width = least_width(pattern_of(step, "Regex") or "") if literal is None else len(literal)
        return max(1.0, written / width if width else 1.0 + written)
    if kind == "Prepend":
        return max(1.0, len(_written(step)))
    if kind == "Precompiled" and len(step.get("precompiled_charsmap") or "") > _CHARSMAP:
        return float("inf")
    return 1.0


def _written(step: Mapping[str, Any]) -> str:
    return str(step.get("content" if step.get("type") == "Replace" else "prepend") or "")


def _fitted(step: Mapping[str, Any]) -> frozenset[str] | None:
    """The characters that a step can fit; None where they are not known, or all."""
    if step.get("type") != "Replace":
        return None
    literal = pattern_of(step, "String")
    return frozenset(literal) if literal else listed_characters(pattern_of(step, "Regex") or "")


def _measure(steps: Sequence[Mapping[str, Any]], part: str, *, at_most: int) -> float:
    """How many times as long the probes become; infinite where that is beyond what is allowed.

    Steps are run one by one, so that none is given a text that is long already.
    """
    written = [_written(step)[:1000] for step in steps]
    literals = [pattern_of(step, "String") or pattern_of(step, "Regex") or "" for step in steps]
    letters = sorted({*string.printable, *"".join(literals), *"".join(written)})
    texts = sorted({*letters, *literals, *written, "".join(letters), " ".join(literals)} - {""}, key=len)
    largest = 1.0
    runs = [(_make(step, part), _factor(step)) for step in steps]
    for text in texts:
        probe = grown = text * _N_TIMES
        for run, factor in runs:
            if len(grown) > at_most * len(probe) or len(grown) * factor > _ENOUGH:
                return float("inf")
            grown = run(grown)
        largest = max(largest, len(grown) / len(probe))
    return max(largest, *(float(len(_written(step))) for step in steps if step.get("type") == "Prepend"), 1.0)


def _make(step: Mapping[str, Any], part: str) -> Any:
    from tokenizers import Tokenizer, models

    whole = json.loads(Tokenizer(models.BPE()).to_str())
    made = getattr(Tokenizer.from_str(json.dumps(whole | {part: step})), part)
    return made.normalize_str if part == "normalizer" else lambda text: made.decode([text])
