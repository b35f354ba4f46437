"""What layers do, and what gates over them would gain: both from one cheap trace of the prompts that judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from layertracer._types import DEFAULT_SITE, FALLBACK_SITE, Mask, Sample, TargetKind
from layertracer.advice import Divisions, Gates
from layertracer.hybrids._divisions.find import find_divisions
from layertracer.hybrids._gates.measure import measure_gates
from layertracer.hybrids._judging.rows import RowSet
from layertracer.hybrids._measuring.joint_trace import trace_first_site
from layertracer.tracing import Substituter, profile_layers

MOST_PROMPTS = 12
"""Prompts of each task, or texts where there is no task."""
_SITES = ((DEFAULT_SITE,), (FALLBACK_SITE,))


class Roles(NamedTuple):
    """What was found of layers, each None where nobody asked.

    Attributes:
        divisions: Regions of layers.
        gates: What gates would gain.
    """

    divisions: Divisions | None
    gates: Gates | None


def measure_roles(
    substituter: Substituter,
    rows: RowSet,
    *,
    wants_divisions: bool,
    wants_gates: bool,
    seed: int,
    memory: str | int | None = None,
) -> Roles:
    """Regions of layers, and what gates would gain, on prompts that judge.

    Each layer's mixer is removed once, whole: that is what the trace costs.

    Args:
        substituter: The model with the substitute that gates would switch to.
        rows: The prompts.
        wants_divisions: Whether regions are asked for.
        wants_gates: Whether gates are.
        seed: Seed of the trace and of the resamples.
        memory: As for a trace.
    """
    if not (wants_divisions or wants_gates):
        return Roles(None, None)
    model = substituter.model
    samples, target = samples_of(rows)
    masks = [[Mask(site=site, fraction=1.0, draws=1, seed=seed) for site in sites] for sites in _SITES]
    record, _ = trace_first_site(model, samples, masks, target=target, seed=seed, memory=memory)
    divisions = None
    if wants_divisions:
        profile = profile_layers(model, samples, target=target, seed=seed)
        divisions = find_divisions(record, profile, seed=seed)
    return Roles(divisions, measure_gates(model, record, substituter, seed=seed) if wants_gates else None)


def samples_of(rows: RowSet) -> tuple[Sequence[Sample], TargetKind]:
    """Some prompts of each task, or texts, and whose token is followed."""
    if not rows.tasks:
        return [Sample(prompt_ids=row.ids) for row in rows.text[:MOST_PROMPTS]], "model"
    firsts = [task.rows[first] for task in rows.tasks for first in task.firsts[:MOST_PROMPTS]]
    samples = [Sample(prompt_ids=row.ids[: row.read[0] + 1], answer_id=row.ids[row.read[0] + 1]) for row in firsts]
    return samples, "answer"
