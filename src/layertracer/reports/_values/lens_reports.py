"""What a trace's lenses say they are worth: their reports on text that they were not fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layertracer.reports._values.numbers import show_number
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import visible_line
from layertracer.runs import TraceRecord

_ROWS = ("kl_nats", "bias_nats", "top1")


@dataclass(frozen=True, kw_only=True, slots=True)
class LensWorth:
    """What a lens, or the logit lens beside it, is worth on held-out text; row 0 is the embeddings.

    Attributes:
        name: The lens.
        kl_nats: KL(final ‖ lens), mean over tokens.
        bias_nats: KL of the mean distributions.
        top1: Share of tokens with the final output's top token.
        fallback: Layers at which it is the logit lens.
        n_tokens: Tokens reported on.
    """

    name: str
    kl_nats: np.ndarray
    bias_nats: np.ndarray
    top1: np.ndarray
    fallback: tuple[int, ...]
    n_tokens: int


def lens_worths(record: TraceRecord) -> tuple[tuple[LensWorth, LensWorth], ...]:
    """Of every lens that has a report, the logit lens on the same tokens, and the lens."""
    found = []
    for lens in record.lenses.values():
        reports = lens.details.get("reports")
        if not isinstance(reports, Mapping):
            continue
        logit = _read(reports.get("logit"), f"logit, beside {visible_line(lens.name)}", record)
        own = _read(reports.get(lens.name), visible_line(lens.name), record)
        if logit is not None and own is not None:
            found.append((logit, own))
    return tuple(found)


def _read(stored: Any, name: str, record: TraceRecord) -> LensWorth | None:
    """A report of the form that lenses are given; None where it is none: details may hold whatever a user likes."""
    if not isinstance(stored, Mapping):
        return None
    rows = [_numbers(stored.get(row), 1 + record.n_layers) for row in _ROWS]
    fallback, n_tokens = stored.get("fallback"), stored.get("n_tokens")
    is_whole = isinstance(fallback, list | tuple) and all(type(layer) is int for layer in fallback)
    if any(row is None for row in rows) or not is_whole or type(n_tokens) is not int:
        return None
    kl, bias, top1 = rows
    assert kl is not None and bias is not None and top1 is not None and fallback is not None  # as just seen
    return LensWorth(name=name, kl_nats=kl, bias_nats=bias, top1=top1, fallback=tuple(fallback), n_tokens=n_tokens)


def _numbers(stored: Any, n_rows: int) -> np.ndarray | None:
    if not isinstance(stored, list | tuple) or len(stored) != n_rows:
        return None
    if not all(value is None or type(value) in (int, float) for value in stored):
        return None
    return np.array([math.nan if value is None else float(value) for value in stored])


def worth_table(record: TraceRecord) -> Table:
    """One row per lens and one for the logit lens on the same tokens: means over the layers but the last."""
    rows = tuple(_summary(one) for pair in lens_worths(record) for one in pair)
    columns = ("Lens", "Divergence, nats", "Bias, nats", "Same top token", "Tokens", "Falls back at")
    return Table(columns=columns, rows=rows, numeric=frozenset({1, 2, 3, 4}))


def _summary(one: LensWorth) -> tuple[str, ...]:
    layers = ", ".join("embeddings" if layer < 0 else str(layer) for layer in one.fallback)
    means = [_shown(float(np.mean(values[:-1]))) for values in (one.kl_nats, one.bias_nats, one.top1)]
    return (one.name, *means, f"{one.n_tokens:,}", layers or "–")


def worth_numbers(record: TraceRecord) -> Table:
    """Every number, one row per layer, the embeddings first."""
    every = [one for pair in lens_worths(record) for one in pair]
    columns = ["Layer"]
    for one in every:
        columns += [f"{one.name}: KL", "bias", "top-1"]
    rows = tuple(
        (
            "emb" if not row else str(row - 1),
            *(_shown(float(values[row])) for one in every for values in (one.kl_nats, one.bias_nats, one.top1)),
        )
        for row in range(1 + record.n_layers)
    )
    return Table(columns=tuple(columns), rows=rows, numeric=frozenset(range(len(columns))))


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else show_number(value)
