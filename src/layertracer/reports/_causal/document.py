"""A causal trace as JSON values and as a table of all its cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from layertracer.evidence import CausalRecord, Peak, RoleEffects, role_of
from layertracer.reports._causal.overview import build_causal_overview
from layertracer.reports._values.documents import csv_text, plain_fields, plain_interval, plain_values, write_whole

CSV_COLUMNS = (
    *("prompt", "layer", "position", "role", "token", "restored_prob", "indirect_effect", "recovery"),
    "restored_logit_difference",
)
"""Columns of the table: one row a cell."""


def causal_json(record: CausalRecord) -> dict[str, Any]:
    """What causal tracing found, as JSON values: no NaN, no array.

    Returns:
        A dictionary with the answer as a sentence, the model, what was asked, the peaks, the means by role with their
        intervals, one entry for each prompt, and what was left out. The cells are in the CSV table and the stored
        folder.
    """
    overview, part = build_causal_overview(record), record.logit_difference
    arrival = overview.arrival
    return {
        "sentence": "".join(phrase.text for phrase in overview.sentence),
        "model": plain_values(dict(record.model)),
        "corrupt": record.corrupt,
        "direction": record.direction,
        "site": record.site,
        "window": record.window,
        "n_draws": record.n_draws,
        "noise_scale": record.noise_scale,
        "noise_std": plain_values(record.noise_std),
        "seed": record.seed,
        "method": record.method,
        "n_prompts": len(record.lengths),
        "n_used": overview.n_used,
        "total_effect": plain_values(_mean_total(record)),
        "total_effect_interval": plain_interval(record.total_effect_interval),
        "peak": _peak(overview.early),
        "peak_at_last": _peak(overview.late),
        "arrival": None
        if arrival is None
        else {"layer": arrival.layer, "interval": plain_interval(arrival.interval), "n_prompts": arrival.n_prompts},
        "by_role": _roles(record.by_role),
        "recovery_by_role": _roles(record.recovery_by_role),
        "prompts": [
            {
                "prompt": index,
                "clean_prob": plain_values(float(record.clean_prob[index])),
                "corrupted_prob": plain_values(float(record.corrupted_prob[index])),
                "clean_logit_difference": None if part is None else plain_values(float(part.clean[index])),
                "corrupted_logit_difference": None if part is None else plain_values(float(part.corrupted[index])),
                "subject_span": record.subject_spans[index].tolist(),
                "n_tokens": int(record.lengths[index]),
            }
            for index in range(len(record.lengths))
        ],
        "excluded": [
            {"prompt": one.prompt, "reason": one.reason, "explanation": one.explanation} for one in record.excluded
        ],
        "audit": plain_fields(record.audit),
        "notes": list(record.notes),
    }


def _mean_total(record: CausalRecord) -> float:
    """The mean total effect of the prompts that were used; NaN where there is none."""
    out = {one.prompt for one in record.excluded}
    used = [float(value) for index, value in enumerate(record.total_effect) if index not in out]
    return sum(used) / len(used) if used else float("nan")


def _peak(peak: Peak | None) -> dict[str, Any] | None:
    if peak is None:
        return None
    return {
        "role": peak.role,
        "layer": peak.layer,
        "mean": plain_values(peak.mean),
        "interval": plain_interval(peak.interval),
        "n_prompts": peak.n_prompts,
        "is_clear": peak.is_clear,
        "contenders": [[role, layer] for role, layer in peak.contenders],
    }


def _roles(effects: RoleEffects) -> dict[str, Any]:
    return {
        role: {
            "n_prompts": int(effects.n_prompts[row]),
            **{name: plain_values(getattr(effects, name)[row]) for name in ("mean", "low", "high")},
        }
        for row, role in enumerate(effects.roles)
    }


def write_causal_csv(record: CausalRecord, path: str | Path) -> Path:
    """A table of every cell that was patched, one row each.

    Args:
        record: The causal trace.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: csv_text(CSV_COLUMNS, _cells(record)), path)


def _cells(record: CausalRecord) -> Iterator[dict[str, Any]]:
    effect, recovery, part = record.indirect_effect, record.recovery, record.logit_difference
    for prompt, layer, position in np.argwhere(np.isfinite(record.restored_prob)).tolist():
        span, texts = record.subject_spans[prompt].tolist(), record.token_texts
        yield {
            "prompt": prompt,
            "layer": layer,
            "position": position,
            "role": role_of(position, tuple(span), int(record.lengths[prompt])),
            "token": texts[prompt][position] if texts and texts[prompt] else None,
            "restored_prob": record.restored_prob[prompt, layer, position],
            "indirect_effect": effect[prompt, layer, position],
            "recovery": recovery[prompt, layer, position],
            "restored_logit_difference": None if part is None else part.restored[prompt, layer, position],
        }
