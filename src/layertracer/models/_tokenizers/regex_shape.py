"""Regular expressions of tokenizers: what can be told without running them."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

# Python has no public parser of patterns, and its types do not know the private one.
codes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)
_UNBOUNDED = 2
"""So many repetitions without an end may stand beside each other: a text is then read in the square of its length."""

_ANOTHER_SYNTAX = re.compile(r"\[\[|\[:|&&")
"""Classes in classes, and classes by name, which Python reads as other characters."""

_ANY_CASE = re.compile(r"\(\?[a-z]*i")
_QUANTIFIERS = re.compile(r"[*+]|\{\d*,\d*\}")


def may_explode(pattern: str) -> bool:
    """Whether reading a text with a pattern may take a time that grows faster than its length's square.

    These are patterns with repetitions inside repetitions, or with several without an end beside each other.
    """
    parsed = _parse(pattern)
    if parsed is None:
        return len(_QUANTIFIERS.findall(pattern)) > 1
    return _is_nested(parsed, inside=False) or _n_endless(parsed) > _UNBOUNDED


def least_width(pattern: str) -> int:
    """Length of the shortest text that a pattern fits; 0 where it is not known."""
    parsed = _parse(pattern)
    return 0 if parsed is None else int(parsed.getwidth()[0])


def listed_characters(pattern: str) -> frozenset[str] | None:
    """The characters that a pattern can fit, where it lists them one by one; None where it does not."""
    parsed = None if _ANY_CASE.search(pattern) else _parse(pattern)
    if parsed is None:
        return None
    found: set[str] = set()
    for code, value in _walk(parsed):
        if code is codes.LITERAL:
            found.add(chr(value))
        elif code is codes.RANGE and value[1] - value[0] < 1 << 12:
            found.update(map(chr, range(value[0], value[1] + 1)))
        elif code not in _REPEATS and code not in (codes.IN, codes.SUBPATTERN, codes.BRANCH, codes.AT):
            return None
    return frozenset(found)


def _parse(pattern: str) -> Any | None:
    if _ANOTHER_SYNTAX.search(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parser.parse(pattern)
    except (re.error, RecursionError, OverflowError, ValueError):
        return None  # the library has another syntax


def _is_nested(parsed: Any, *, inside: bool) -> bool:
    for code, value in parsed:
        is_choosing = code in _REPEATS and value[1] > 1 and value[0] != value[1]
        if inside and is_choosing:
            return True
        if any(_is_nested(part, inside=inside or is_choosing) for part in _parts(value)):
            return True
    return False


def _n_endless(parsed: Any) -> int:
    """Most repetitions without an end that stand in one sequence."""
    n_here, below = 0, 0
    for code, value in parsed:
        n_inside = max((_n_endless(part) for part in _parts(value)), default=0)
        n_here += max(n_inside, code in _REPEATS and value[1] is codes.MAXREPEAT)
        below = max(below, n_inside)
    return max(n_here, below)


def _parts(value: Any) -> Iterator[Any]:
    """The patterns within one part of a pattern."""
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)


def _walk(parsed: Any) -> Iterator[tuple[Any, Any]]:
    """Every code of a pattern, those within others too."""
    for code, value in parsed:
        yield code, value
        if code is codes.IN:
            yield from value
        else:
            for part in _parts(value):
                yield from _walk(part)
