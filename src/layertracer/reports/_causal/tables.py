"""Tables of a report on a causal trace: means by role, prompts, what was left out."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from layertracer.evidence import CausalRecord, RoleEffects
from layertracer.reports._causal.wording import ends_of, prompt_words, reason_words, role_words, subject_words
from layertracer.reports._values.numbers import show_number
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import shorten, visible_line

MOST_PROMPTS = 200
"""Rows of tables of prompts."""


def role_table(effects: RoleEffects) -> Table:
    """Mean effects with their intervals, a row a layer."""
    columns = tuple(f"{role_words(role)} (n = {n})" for role, n in zip(effects.roles, effects.n_prompts, strict=True))
    rows = tuple(
        (str(layer), *(_cell(effects, row, layer) for row in range(len(effects.roles))))
        for layer in range(effects.mean.shape[1])
    )
    return Table(columns=("Layer", *columns), rows=rows, numeric=frozenset(range(1 + len(columns))))


def _cell(effects: RoleEffects, row: int, layer: int) -> str:
    mean, low, high = (float(values[row, layer]) for values in (effects.mean, effects.low, effects.high))
    if not math.isfinite(mean):
        return "–"
    return show_number(mean, digits=2) + (f" ({ends_of(low, high)})" if math.isfinite(low) else "")


def reason_table(record: CausalRecord) -> Table | None:
    """How many samples were left out, by reason; None where none was."""
    counts = Counter(one.reason for one in record.excluded)
    if not counts:
        return None
    rows = tuple((reason_words(reason), str(n)) for reason, n in counts.most_common())
    return Table(columns=("Reason", "Samples"), rows=rows, numeric=frozenset({1}))


def excluded_table(record: CausalRecord) -> Table | None:
    """The samples that were left out, and why; None where none was."""
    if not record.excluded:
        return None
    rows = tuple(
        (
            f"#{one.prompt}",
            reason_words(one.reason),
            shorten(visible_line(one.explanation), 300),
            prompt_words(record, one.prompt),
        )
        for one in record.excluded[:MOST_PROMPTS]
    )
    return Table(columns=("Sample", "Reason", "In numbers", "Prompt"), rows=rows)


def prompt_table(record: CausalRecord) -> Table:
    """The prompts that were used: what was corrupted, and where each one's effect peaks before the last token."""
    effect, out = record.indirect_effect, {one.prompt for one in record.excluded}
    used = [index for index in range(len(record.lengths)) if index not in out][:MOST_PROMPTS]
    rows = tuple(
        (
            f"#{index}",
            subject_words(record, index),
            show_number(float(record.clean_prob[index]), digits=2),
            show_number(float(record.corrupted_prob[index]), digits=2),
            show_number(float(record.total_effect[index]), digits=2),
            _peak(effect[index], int(record.lengths[index])),
            prompt_words(record, index),
        )
        for index in used
    )
    return Table(
        columns=("Prompt", "Corrupted", "Clean", "Corrupted prob.", "Total effect", "Peak before the last", "Text"),
        rows=rows,
        numeric=frozenset({2, 3, 4}),
    )


def _peak(effect: np.ndarray, length: int) -> str:
    """Layer and position of the largest effect before the last token."""
    cells = effect[:, : length - 1]
    if not np.isfinite(cells).any():
        return "–"
    layer, position = np.unravel_index(np.nanargmax(cells), cells.shape)
    return f"{show_number(float(cells[layer, position]), digits=2)} at layer {layer}, token {position}"
