"""The definitions of the onset criteria, curve by curve, in exact arithmetic: what the fast code is held against.

A curve is a list of whole percents whose first entry was read from the embeddings. None stands for no layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def rise(percents: Sequence[int], *, delta: Fraction, sigmas: int | None, floor: Fraction) -> int | None:
    """First i with dP ≥ delta, or with (P - mean)² > sigmas² · variance of all before and dP ≥ floor."""
    path = [Fraction(percent, 100) for percent in percents]
    for layer in range(len(path) - 1):
        before, now = path[: layer + 1], path[layer + 1]
        step = now - before[-1]
        if step >= delta:
            return layer
        if sigmas is None or len(before) == 1 or step < floor:
            continue
        mean = sum(before) / len(before)
        variance = sum((value - mean) ** 2 for value in before) / len(before)
        if now > mean and (now - mean) ** 2 > sigmas**2 * variance:
            return layer
    return None


def ratio(percents: Sequence[int], *, first_layer: int) -> int | None:
    """Largest P[i] / P[i-1] above 1; from zero it is infinite."""
    best, found = Fraction(1), None
    for layer in range(first_layer, len(percents) - 1):
        before, now = percents[layer], percents[layer + 1]
        if before == 0:
            if now > 0:
                return layer
            continue
        if Fraction(now, before) > best:
            best, found = Fraction(now, before), layer
    return found


def abs_ratio(percents: Sequence[int], *, eps: Fraction) -> int | None:
    """Largest |dP| / (P + eps) above 0."""
    best, found = Fraction(0), None
    for layer in range(len(percents) - 1):
        before, now = Fraction(percents[layer], 100), Fraction(percents[layer + 1], 100)
        score = abs(now - before) / (now + eps)
        if score > best:
            best, found = score, layer
    return found


def half_max(percents: Sequence[int]) -> int | None:
    """First layer with twice its percents at least the largest."""
    layers = percents[1:]
    for layer, percent in enumerate(layers):
        if max(layers) > 0 and 2 * percent >= max(layers):
            return layer
    return None


def first_top1(on_top: Sequence[bool]) -> int | None:
    """First layer from which on every flag is set."""
    for layer in range(len(on_top)):
        if all(on_top[layer:]):
            return layer
    return None


def change_point(percents: Sequence[int]) -> int | None:
    """The upward split of the log-odds that lowers the summed squared error most."""
    odds = [_log_odds(percent) for percent in percents[1:]]
    gains = {}
    for start in range(1, len(odds)):
        before, after = odds[:start], odds[start:]
        if sum(after) / len(after) > sum(before) / len(before):
            gains[start] = _squared_error(odds) - _squared_error(before) - _squared_error(after)
    best = max(gains.values(), default=0.0)
    tied = [start for start, gain in gains.items() if gain >= best - 1e-9 * max(1.0, best)]
    return min(tied) if best > 1e-9 else None


def _log_odds(percent: int) -> float:
    limit = 24 * math.log(2)
    if percent in {0, 100}:
        return limit if percent else -limit
    return math.log(percent / (100 - percent))


def _squared_error(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)
