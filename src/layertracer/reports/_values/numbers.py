"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from layertracer._types import Interval
from layertracer.runs import TraceSpec

LEAST_JS_BITS = 0.001
"""Axes of JS divergence reach at least so far: rounding does not fill a plot."""


def least_probability(spec: TraceSpec) -> float:
    """How far axes of target probability reach at least: a rise that the criterion would not take does not fill them.

    The delta of the criterion that was used, 0.05 where it has none.
    """
    delta = spec.onset.get("delta")
    return float(delta) if isinstance(delta, (int, float)) else 0.05


def show_share(share: float) -> str:
    """A share as a percentage; never 0 % or 100 % unless it is exactly that.

    Example:
        >>> show_share(0.9375), show_share(0.9999), show_share(1.0), show_share(0.0004)
        ('94 %', '> 99 %', '100 %', '< 1 %')
    """
    if not math.isfinite(share):
        return "–"
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"


def show_number(value: float, *, digits: int = 3, sign: bool = False) -> str:
    """A number with `digits` significant digits, in scientific notation where it is tiny or huge.

    Example:
        >>> show_number(0.12345), show_number(2.5e-7), show_number(0.2, sign=True), show_number(23456.0)
        ('0.123', '2.5e-07', '+0.2', '23,456')
    """
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10**digits and abs(value) < 1e7:
        return f"{value:{'+' if sign else ''},.0f}"
    return (
        f"{value:{'+' if sign else ''}.{digits}g}".replace("-", "−", 1)
        if value < 0
        else f"{value:{'+' if sign else ''}.{digits}g}"
    )


def show_interval(interval: Interval | None) -> str:
    """An interval over layers, e.g. "23–26".

    Example:
        >>> show_interval(Interval(low=23.0, high=26.5)), show_interval(None)
        ('23–26.5', 'none')
    """
    if interval is None:
        return "none"
    return f"{interval.low:g}–{interval.high:g}"


def show_estimate(value: float | None, interval: Interval | None, *, digits: int = 3, sign: bool = False) -> str:
    """A number with its interval; signed ones with a word between the ends.

    Example:
        >>> show_estimate(0.5, Interval(low=0.25, high=0.75)), show_estimate(None, None)
        ('0.5 (0.25–0.75)', 'none')
    """
    if value is None:
        return "none"
    shown = show_number(value, digits=digits, sign=sign)
    if interval is None:
        return shown
    ends = (show_number(end, digits=digits, sign=sign) for end in (interval.low, interval.high))
    return f"{shown} ({(' to ' if sign else '–').join(ends)})"


def show_count(n: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> show_count(1, "prompt"), show_count(1200, "prompt")
        ('1 prompt', '1,200 prompts')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def show_parameters(n: int) -> str:
    """A number of parameters.

    Example:
        >>> show_parameters(134_515_008), show_parameters(7_200_000_000), show_parameters(512)
        ('134.5 M', '7.2 B', '512')
    """
    for scale, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= scale:
            return f"{n / scale:.1f} {unit}"
    return str(n)


def show_duration(seconds: float) -> str:
    """A duration.

    Example:
        >>> show_duration(0.42), show_duration(75.3), show_duration(7300)
        ('0.4 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def show_ranges(layers: Iterable[int]) -> str:
    """Layers as ranges.

    Example:
        >>> show_ranges([0, 1, 2, 5, 7, 8])
        '0–2, 5, 7–8'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


def round_for_json(value: Any, *, digits: int = 4) -> Any:
    """Numbers of (nested) sequences with `digits` significant digits; None where a number is not finite.

    Example:
        >>> round_for_json([0.123456, float("nan"), 3, [1.0]])
        [0.1235, None, 3, [1]]
    """
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, Sequence):
        return [round_for_json(item, digits=digits) for item in value]
    if hasattr(value, "tolist"):
        return round_for_json(value.tolist(), digits=digits)
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
