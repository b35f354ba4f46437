"""One trace at two sites: how much each layer matters by LayerTracer's own measure, and where the task begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from layertracer._errors import SiteError
from layertracer._types import DEFAULT_SITE, FALLBACK_SITE, Mask, Sample, TargetKind
from layertracer.hybrids._judging.rows import TEXT
from layertracer.hybrids._placing.baselines import joint_js
from layertracer.runs import TraceRecord
from layertracer.tracing import JudgedRow, TracedModel, TraceOptions, trace_model

STATE = "state"
MOST_PROMPTS = 3
"""Prompts that are traced: each costs two masks of every layer, five draws of both."""

_MOST_TOKENS = 64
"""So much of a text is traced: the trace need not reach beyond a window, and a prompt of a task is no longer."""

_SITES = ((DEFAULT_SITE, STATE), (DEFAULT_SITE,), (FALLBACK_SITE,))
"""Sites that are traced together, the first that a model has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointTrace:
    """What one trace says of the layers.

    Attributes:
        js_bits: Mean JS divergence of each layer at the first site; NaN where a layer lacks it.
        joint: JS divergences at both sites, each divided by its largest, added; None where there is but one site.
        particle: The task particle; None where none was found, or no task was asked.
        site: The first site; "" where no trace was made.
        notes: What must be said of it.
    """

    js_bits: Float64[np.ndarray, " layer"]
    joint: Float64[np.ndarray, " layer"] | None
    particle: int | None
    site: str
    notes: tuple[str, ...] = ()


def trace_jointly(
    model: TracedModel, rows: Mapping[str, Sequence[JudgedRow]], *, seed: int, memory: str | int | None = None
) -> JointTrace:
    """The trace of some of the search's rows, masked at mixer_output and at state.

    The prompts are those of the tasks, as many of each; where there is none, the texts, and what the model itself would
    say next.

    Args:
        model: The model.
        rows: Rows by kind.
        seed: Seed of the masks and of the trace.
        memory: As for a trace.

    Raises:
        SiteError: If no layer has any site.
    """
    samples = _samples_of(rows)
    has_answers = any(kind != TEXT for kind in rows)
    masks = [[Mask(site=site, seed=seed) for site in sites] for sites in _SITES]
    target: TargetKind = "answer" if has_answers else "model"
    record, notes = trace_first_site(model, samples, masks, target=target, seed=seed, memory=memory)
    by_site = {site: effect.js_bits.mean(axis=(0, 1)).astype(np.float64) for site, effect in record.effects.items()}
    first = next(iter(by_site))
    is_joint = first == DEFAULT_SITE and STATE in by_site
    return JointTrace(
        js_bits=by_site[first],
        joint=joint_js(by_site[first], by_site[STATE]) if is_joint else None,
        particle=record.task_particle.layer if has_answers else None,
        site=first,
        notes=notes,
    )


def no_trace(n_layers: int) -> JointTrace:
    """What is known of layers where no trace is made: nothing."""
    return JointTrace(js_bits=np.full(n_layers, np.nan), joint=None, particle=None, site="", notes=())


def trace_first_site(
    model: TracedModel,
    samples: Sequence[Sample],
    masks: Sequence[Sequence[Mask]],
    *,
    target: TargetKind,
    seed: int,
    memory: str | int | None,
) -> tuple[TraceRecord, tuple[str, ...]]:
    """The trace with the first masks whose sites the model has, and why not with those before.

    Args:
        model: The model.
        samples: The prompts.
        masks: What is asked for, in the order in which it is tried.
        target: Whose token is followed.
        seed: Seed of the trace.
        memory: As for a trace.

    Raises:
        SiteError: If it has the sites of none.
    """
    reasons: list[str] = []
    for some in masks:
        options = TraceOptions(perturbation=list(some), target=target, seed=seed, memory=memory)
        try:
            return trace_model(model, samples, options), tuple(reasons)
        except SiteError as error:
            reasons.append(f"No trace at {' and '.join(one.site for one in some)}: {error}")
    raise SiteError(reasons[-1])


def _samples_of(rows: Mapping[str, Sequence[JudgedRow]]) -> list[Sample]:
    """Prompts of the tasks in turn, or the texts."""
    tasks = [some for kind, some in rows.items() if kind != TEXT]
    if not tasks:
        return [Sample(prompt_ids=row.ids[:_MOST_TOKENS]) for row in rows[TEXT][:MOST_PROMPTS]]
    per_task = max(1, MOST_PROMPTS // len(tasks))
    return [
        Sample(prompt_ids=row.ids[: row.read[0] + 1], answer_id=row.ids[row.read[0] + 1])
        for some in tasks
        for row in some[:per_task]
    ]
