"""Steps of a tokenizer that no time limit and no limit on memory can hold: they are refused before a text is read.

Reading texts leaves Python's lock, so that it is given up after a while. Writing tokens as text does not, and whatever
makes a text longer takes its memory at once.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError, printable_name
from layertracer.models._tokenizers.regex_shape import may_explode
from layertracer.models._tokenizers.text_growth import find_growth, pattern_of

_GROWTH = 1_000
"""So many times as long a text may become. Real tokenizers write a space as a mark, and a quote as two."""

_PIECES = 10_000
"""So many tokens may be put around a text."""

LONGEST_PIECE = 10_000
"""So many characters may a piece of a vocabulary have; real ones have 100."""

_LOOKED_AT = (b"recompiled", b"nigram")
_NEEDLESS_ESCAPE = re.compile(rb"\\u00[4-7]")
"""Letters that JSON could write as they are."""


def refuse_unbounded_steps(tokenizer: Any, label: str) -> None:
    """Refuse a tokenizer whose file names steps that could run for ever, or fill the memory, on an ordinary text.

    Args:
        tokenizer: What was loaded; one without a backend in Rust is passed by.
        label: What the user calls the checkpoint.

    Raises:
        ModelLoadError: With the step.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    for part in ("normalizer", "decoder"):
        steps = list(_steps(getattr(backend, part, None)))
        if part == "decoder":
            _refuse_regexes(steps, label)
        growth = find_growth(steps, part, at_most=_GROWTH)
        if growth > _GROWTH:
            raise ModelLoadError(
                f"The tokenizer of {label} makes texts up to {growth:.3g} times as long in its {part}, which could "
                f"fill the memory; at most {_GROWTH:,} times is expected. Use another copy of the checkpoint."
            )
    around = sum(_n_pieces(step) for step in _steps(getattr(backend, "post_processor", None)))
    if around > _PIECES:
        raise ModelLoadError(
            f"The tokenizer of {label} puts {around:,} tokens around every text; at most {_PIECES:,} are expected. Use "
            "another copy of the checkpoint."
        )


def refuse_what_ends_the_program(path: Path, label: str) -> None:
    """Refuse a tokenizer.json that the library in Rust would not answer with an error, but end the program at.

    These are compiled rules of normalisation that say that they are larger than they are, for which memory is taken
    that is not there, and pieces so long that taking them apart again fills the stack.

    Raises:
        ModelLoadError: With what it holds.
    """
    content = path.read_bytes()
    if not any(word in content for word in _LOOKED_AT) and _NEEDLESS_ESCAPE.search(content) is None:
        return
    try:
        parts = json.loads(content)
        maps = [step.get("precompiled_charsmap") for step in _steps_within([parts.get("normalizer")])]
        are_whole = all(is_whole_charsmap(base64.b64decode(one)) for one in maps if one is not None)
        vocabulary = parts["model"]["vocab"]
        longest = max((len(piece[0]) for piece in vocabulary), default=0) if isinstance(vocabulary, list) else 0
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return  # no such file: loading it says how
    if longest > LONGEST_PIECE:
        raise ModelLoadError(
            f"The tokenizer of {label} holds a piece of {longest:,} characters; at most {LONGEST_PIECE:,} are "
            "expected. Copy the checkpoint again."
        )
    if not are_whole:
        raise ModelLoadError(
            f"The tokenizer of {label} holds compiled rules of normalisation that are damaged. Copy the checkpoint "
            "again."
        )


def is_whole_charsmap(rules: bytes) -> bool:
    """Whether compiled rules hold the table that they say they hold: its size stands in front of it."""
    size = int.from_bytes(rules[:4], "little")
    return len(rules) >= 4 and size % 4 == 0 and size <= len(rules) - 4


def _steps(component: Any) -> Iterator[Mapping[str, Any]]:
    """Every step of a component, those inside sequences too."""
    state = None if component is None else component.__getstate__()
    yield from _steps_within([json.loads(state)] if isinstance(state, bytes | str) else [])


def _steps_within(parts: list[Any]) -> Iterator[Mapping[str, Any]]:
    pending = [part for part in parts if isinstance(part, dict | list)]
    while pending:
        part = pending.pop()
        if isinstance(part, dict) and "type" in part:
            yield part
        inner = list(part.values() if isinstance(part, dict) else part)
        pending += [value for value in reversed(inner) if isinstance(value, dict | list)]  # the first is taken next


def _refuse_regexes(steps: list[Mapping[str, Any]], label: str) -> None:
    for step in steps:
        pattern = pattern_of(step, "Regex")
        if pattern is not None and may_explode(pattern):
            raise ModelLoadError(
                f"The tokenizer of {label} holds a regular expression with repetitions in its decoder "
                f"({printable_name(pattern, at_most=60)!r}) that stand in or beside one another, so that it could run "
                "for ever. Expected plain texts there. Use another copy of the checkpoint, or remove that step from "
                "its tokenizer.json."
            )


def _n_pieces(step: Mapping[str, Any]) -> int:
    if step.get("type") != "TemplateProcessing":
        return 0
    tokens = step.get("special_tokens") or {}
    longest = max((len(token["ids"]) for token in tokens.values()), default=1)
    return len(step.get("single") or ()) * max(1, longest)
