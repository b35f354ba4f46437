"""Whether runs can be compared: the same question, the same units, enough prompts. Never silently otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import name_draws
from layertracer.comparisons._identity import describe_same_models
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.comparisons._sites import FREE_PARTS
from layertracer.runs import TraceRecord

_TASK_KEYS = ("name", "kind", "n_shot", "demonstration_sets", "template", "templates", "chat", "system")
"""Parts of a task that make its prompts what they are. Its seed and limit only choose among them."""

_ROUNDING_BITS = 1e-5


def check_comparable(records: Sequence[TraceRecord], labels: Sequence[str], settings: ComparisonSettings) -> list[str]:
    """Refuse runs whose numbers mean different things; return warnings on what else differs.

    Raises:
        UsageError: If there are fewer than two runs, a run has no finished prompt, a divergence is not in bits, or the
            runs ask different questions and `allow_mismatch` is not set.
    """
    if len(records) < 2:
        raise UsageError(
            f"A comparison needs at least two runs, got {len(records)}. Trace another model on the same task, or give "
            "the same run twice to see what equality looks like."
        )
    for record, label in zip(records, labels, strict=True):
        _check_usable(record, label)
    mismatches = [text for text in _list_mismatches(records, labels) if text]
    if mismatches and not settings.allow_mismatch:
        raise UsageError(
            f"These runs do not ask the same question, so their numbers cannot be compared: {'; '.join(mismatches)}. "
            "Trace the models with the same task, target and perturbation, or pass allow_mismatch=True (command line: "
            "--allow-mismatch) to see the numbers with this warning."
        )
    warnings = [f"The runs do not ask the same question: {text}." for text in mismatches]
    return warnings + _list_warnings(records, labels)


def _check_usable(record: TraceRecord, label: str) -> None:
    if record.n_prompts == 0:
        raise UsageError(
            f"The run of {label} has no finished prompt (status {record.status!r}), so there is nothing to compare. "
            "Leave it out, or trace it again."
        )
    with np.errstate(invalid="ignore"):
        outside = (record.js_bits < -_ROUNDING_BITS) | (record.js_bits > 1 + _ROUNDING_BITS)
    if outside.any():
        raise UsageError(
            f"The run of {label} holds JS divergences outside [0, 1] (largest {np.nanmax(record.js_bits):.4g}), so "
            "they are not in bits. Trace it again with this version of LayerTracer."
        )


def _list_mismatches(records: Sequence[TraceRecord], labels: Sequence[str]) -> list[str]:
    parts = sorted({name for record in records for name in record.spec.perturbation} - FREE_PARTS)
    return [
        *(_differ(f"task {key}", records, labels, _task_part(key)) for key in _TASK_KEYS),
        _differ("target", records, labels, lambda one: one.spec.target),
        _differ("target tokens", records, labels, lambda one: one.spec.target_tokens),
        *(_differ(f"perturbation {part}", records, labels, _perturbation_part(part)) for part in parts),
    ]


def _task_part(key: str) -> Callable[[TraceRecord], Any]:
    return lambda record: record.spec.task.get(key)


def _perturbation_part(key: str) -> Callable[[TraceRecord], Any]:
    return lambda record: record.spec.perturbation.get(key)


def _list_warnings(records: Sequence[TraceRecord], labels: Sequence[str]) -> list[str]:
    differing = [
        _differ("number of draws", records, labels, lambda one: one.n_draws),
        _differ("seed of the perturbation", records, labels, lambda one: one.spec.perturbation.get("seed")),
        _differ("content of the task's file", records, labels, lambda one: one.spec.task.get("sha256")),
        _differ("type of the weights", records, labels, lambda one: one.model.dtype),
        _differ("onset criterion", records, labels, lambda one: dict(one.spec.onset)),
    ]
    warnings = [f"The runs differ, which moves numbers a little: {text}." for text in differing if text]
    stopped = [label for record, label in zip(records, labels, strict=True) if record.certificate is not None]
    if stopped:
        warnings.append(_warn_of_certified(records, stopped))
    for record, label in zip(records, labels, strict=True):
        if record.status != "complete":
            warnings.append(
                f"The run of {label} is {record.status}: {record.n_prompts} of {record.n_requested} prompts."
            )
        if record.sampling.has_random_draws and record.n_draws == 1:
            warnings.append(
                f"The run of {label} has one draw: its JS divergences have no intervals. Take at least five."
            )
        if not record.self_check.passed:
            warnings.append(f"The self-check of {label} failed; its numbers may be wrong.")
        if record.spec.perturbation.get("scheme") == "explicit":
            warnings.append(f"The masks of {label} were given by hand: whether they are alike cannot be seen here.")
    return warnings + describe_same_models(records, labels)


def _warn_of_certified(records: Sequence[TraceRecord], stopped: Sequence[str]) -> str:
    """What sets runs apart that were to stop by themselves, and by what their prompts were masked."""
    runs = f"{_some(stopped)} {'was' if len(stopped) == 1 else 'were'} traced until a layer was certified"
    is_random = any(
        record.certificate is not None and name_draws(record.spec.perturbation) != "given" for record in records
    )
    own = "each prompt has masks or noise of its own there, and " if is_random else ""
    return f"{runs}: {own}the number of prompts was not fixed beforehand, so that intervals may hold less often."


def _differ(
    name: str, records: Sequence[TraceRecord], labels: Sequence[str], read: Callable[[TraceRecord], Any]
) -> str:
    """What differs, and who has what; nothing where all agree."""
    values: dict[str, list[str]] = {}
    for record, label in zip(records, labels, strict=True):
        values.setdefault(repr(read(record)), []).append(label)
    if len(values) == 1:
        return ""
    return f"{name} is " + ", ".join(f"{value} in {_some(names)}" for value, names in values.items())


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
