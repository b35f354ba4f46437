"""A design made ready: everything checked and planned, nothing measured but what the model solves of the tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from layertracer._errors import UsageError
from layertracer._types import MeanMixer, Sample
from layertracer.advice import DesignPlan
from layertracer.hybrids._design_options import DesignOptions, check_keep, default_keep, first_rows, row_tokens
from layertracer.hybrids._judging.judge import leave_out_unsolved
from layertracer.hybrids._judging.rows import Rows, Sizes, split_rows
from layertracer.hybrids._judging.task_rows import TaskSource
from layertracer.hybrids._measuring.costs import Asked, plan_costs
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.hybrids._measuring.kv_cache import CacheSizes, layers_within, measure_cache
from layertracer.runs import Checkpoints
from layertracer.tracing import Substituter, TextSource, TracedModel, describe_model, make_substituter, time_forward

_N_RATIO = 9
"""Sizes on the curve of the ratio, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a design is asked.

    Attributes:
        model: The model.
        tasks: Tasks by name.
        text: Text to measure on; None for what the model writes itself.
        with_text: Whether there is text at all.
        options: The rest.
    """

    model: TracedModel
    tasks: Mapping[str, TaskSource]
    text: TextSource = None
    with_text: bool = True
    options: DesignOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A design that is ready to be measured.

    Attributes:
        options: What is asked, with the numbers of layers settled.
        substituter: What measures.
        rows: What is measured on, without tasks that the model does not solve.
        left_out: Why tasks were left out.
        weights: Fingerprint of the model's weights before anything was measured.
        measures: What keeps the measurements.
        checkpoints: Where they are kept.
        sizes: Sizes of the KV cache; None where nobody asked about it.
        plan: What it takes.
    """

    options: DesignOptions
    substituter: Substituter
    rows: Rows
    left_out: tuple[str, ...]
    weights: str
    measures: KeptMeasures
    checkpoints: Checkpoints
    sizes: CacheSizes | None
    plan: DesignPlan


def make_ready(question: Question, *, folder: Path | None, count: Callable[[int], None] | None = None) -> Ready:
    """Everything checked and planned, nothing measured but what the model solves of the tasks.

    Raises:
        UsageError: If what is asked makes no sense for this model.
        SiteError: If the substitute can stand in no layer, or in one alone.
        TaskError: If there is too little to measure on.
        RunError: If the folder holds the measurements of another design, or cannot be read.
    """
    model, options = question.model, question.options
    rows: Rows | None = None
    if isinstance(options.substitute, MeanMixer):
        rows = _split(question)
    substituter = make_substituter(
        model,
        options.substitute,
        mean_rows=None if rows is None else rows.search.rows,
        audit=options.audit,
        seed=options.seed,
        memory=options.memory,
    )
    sizes = None if options.context is None else measure_cache(model)
    options = replace(options, keep=_settle_keep(model, options, substituter, sizes))
    rows = _split(question) if rows is None else rows
    weights = describe_model(model).fingerprint
    checkpoints = Checkpoints(folder, _as_question(model, options, rows, weights), noun="design")
    measures = KeptMeasures(substituter, checkpoints, count, audited=partial(_audited, substituter))
    n_known = measures.n_cells
    n_said = len(rows.notes)
    rows = leave_out_unsolved(measures, substituter.placeable, rows)
    plan = replace(_plan(model, options, substituter, rows), n_known=n_known)
    return Ready(
        options=options,
        substituter=substituter,
        rows=rows,
        left_out=rows.notes[n_said:],
        weights=weights,
        measures=measures,
        checkpoints=checkpoints,
        sizes=sizes,
        plan=plan,
    )


def _audited(substituter: Substituter) -> tuple[int, float]:
    """How many cells were measured again so far, and the largest difference in nats."""
    audit = substituter.audit
    return audit.n_cells, audit.worst_nats or 0.0


def _split(question: Question) -> Rows:
    """The rows that are asked for, about as many and as long as the budget of the defaults allows."""
    options = question.options
    return split_rows(
        question.model,
        options.substitute,
        text=question.text,
        with_text=question.with_text,
        tasks=question.tasks,
        sizes=Sizes(
            search_text=options.n_search,
            search_prompts=options.n_search,
            held_out_text=max(options.n_held_out, options.n_compared),
            held_out_prompts=max(options.n_held_out, options.n_compared),
            row_tokens=row_tokens(options, question.model.network.max_length),
        ),
        seed=options.seed,
    )


def _settle_keep(
    model: TracedModel, options: DesignOptions, substituter: Substituter, sizes: CacheSizes | None
) -> tuple[int, ...]:
    placeable = substituter.placeable
    keep = options.keep
    if options.budget_bytes is not None:
        if keep is not None:
            raise UsageError("keep and budget were both given. Give how many layers are kept, or what they may take.")
        if sizes is None or options.context is None:
            raise UsageError("A budget is for the cache of a text: say how long it is, e.g. context=32768.")
        keep = (
            layers_within(
                sizes,
                options.budget_bytes,
                placeable=placeable,
                substitute=options.substitute,
                context=options.context,
            ),
        )
        if keep == (0,):
            raise UsageError(
                f"A budget of {options.budget_bytes:,} bytes allows no layer to keep its mixer at a context of "
                f"{options.context:,} tokens. Give a larger budget, or a shorter context."
            )
    return check_keep(
        default_keep(placeable) if keep is None else keep,
        placeable,
        n_layers=model.anatomy.n_layers,
        name=model.name,
        search=options.search,
    )


def _as_question(model: TracedModel, options: DesignOptions, rows: Rows, weights: str) -> dict[str, Any]:
    """What every measurement depends on; the search, and how many layers are kept, are free to change."""
    content = repr([[(row.ids, row.read) for row in part.rows] for part in (rows.search, rows.held_out)])
    return {
        "model": model.name,
        "weights": weights,
        "substitute": options.substitute.to_dict(),
        "seed": options.seed,
        "rows": {"search": dict(rows.search.counts), "held_out": dict(rows.held_out.counts)},
        "tokens": hashlib.sha256(content.encode()).hexdigest()[:16],
    }


def _plan(model: TracedModel, options: DesignOptions, substituter: Substituter, rows: Rows) -> DesignPlan:
    longest = max(rows.search.rows, key=lambda row: len(row.ids))
    asked = Asked(
        search=options.search,
        n_layers=len(substituter.placeable),
        sizes=options.keep or (),
        n_random=options.n_random,
        wants_pairs=options.wants_pairs or options.search == "pairs",
        wants_trace=options.wants_trace,
        wants_roles=options.wants_divisions or options.wants_gates,
        n_ratio=_N_RATIO if options.wants_ratio else 0,
    )
    return plan_costs(
        asked,
        search=rows.search.by_kind,
        compared=first_rows(rows.held_out, options.n_compared).by_kind,
        held_out=rows.held_out.by_kind,
        tokens_per_s=time_forward(model, Sample(prompt_ids=longest.ids)),
    )
