"""One call from a model to its advice: rows, plan, measurements that are kept as they come, record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layertracer._errors import UsageError
from layertracer._types import MeanMixer
from layertracer.advice import AdviceRecord, DesignPlan, Evaluations, Judgement
from layertracer.hybrids._design import Design, DesignMeans, Found
from layertracer.hybrids._design_options import (
    DesignOptions,
    ModelFacts,
    check_keep,
    default_keep,
    first_rows,
    row_tokens,
)
from layertracer.hybrids._judging.judge import judge, leave_out_unsolved
from layertracer.hybrids._judging.rows import Rows, Sizes, split_rows
from layertracer.hybrids._judging.task_rows import TaskSource
from layertracer.hybrids._judging.text_rows import TextSource
from layertracer.hybrids._measuring.checkpoints import Checkpoints
from layertracer.hybrids._measuring.costs import Asked, plan_costs, time_forward
from layertracer.hybrids._measuring.joint_trace import JointTrace, no_trace, trace_jointly
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.hybrids._measuring.kv_cache import CacheSizes, layers_within, measure_cache
from layertracer.hybrids._placing.row_kl import OBJECTIVE
from layertracer.hybrids._placing.search import Kept
from layertracer.hybrids._roles import Roles, measure_roles
from layertracer.runs import collect_provenance
from layertracer.tracing import Progress, Substituter, TracedModel, describe_model, make_substituter

_N_RATIO = 10
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
        measures: What keeps the measurements.
        checkpoints: Where they are kept.
        sizes: Sizes of the KV cache; None where nobody asked about it.
        plan: What it takes.
    """

    options: DesignOptions
    substituter: Substituter
    rows: Rows
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
    checkpoints = Checkpoints(folder, _as_question(model, options, rows))
    measures = KeptMeasures(substituter, checkpoints, count)
    n_known = measures.n_cells
    rows = leave_out_unsolved(measures, substituter.placeable, rows)
    plan = replace(_plan(model, options, substituter, rows), n_known=n_known)
    return Ready(
        options=options,
        substituter=substituter,
        rows=rows,
        measures=measures,
        checkpoints=checkpoints,
        sizes=sizes,
        plan=plan,
    )


def run_design(
    question: Question,
    *,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[DesignPlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> AdviceRecord:
    """Which layers of a model should keep their mixers, and what that costs.

    Args:
        question: What is asked.
        folder: Where measurements are kept as they come, so that the same call goes on after Ctrl-C; None for nowhere.
        on_progress: Called whenever placements were measured.
        on_plan: Called once, before the search.
        command: The command line, for the provenance.

    Raises:
        LayerTracerError: See `make_ready`, `Substituter.measure` and `trace_model`.
        KeyboardInterrupt: On Ctrl-C; what was finished lies in the folder.
    """
    started_at, began_s = datetime.now(UTC), time.process_time()
    progress = _Counted(on_progress)
    ready = make_ready(question, folder=folder, count=progress.add)
    progress.total = _n_cells(ready)
    if on_plan is not None:
        on_plan(ready.plan)
    means = DesignMeans(
        measures=ready.measures,
        trace=lambda: _trace(question.model, ready),
        judge=lambda placements: _judge(ready, placements),
        tell=progress.begin,
    )
    facts = ModelFacts(
        name=question.model.name,
        n_layers=question.model.anatomy.n_layers,
        cache_share=_cache_share(ready),
    )
    found = Design(facts, ready.rows, ready.options, means=means).run()
    progress.begin("regions and gates")
    roles = measure_roles(
        ready.substituter,
        ready.rows.held_out,
        wants_divisions=ready.options.wants_divisions,
        wants_gates=ready.options.wants_gates,
        seed=ready.options.seed,
        memory=ready.options.memory,
    )
    progress.finish()
    cpu_s = time.process_time() - began_s + ready.measures.earlier_cpu_s
    provenance = collect_provenance(command=command, started_at=started_at)
    return _record(question, ready, found, roles=roles, cpu_s=cpu_s, provenance=provenance)


class _Counted:
    """Progress in measurements: what is done next is known, how many a search will want is not."""

    def __init__(self, told: Callable[[Progress], None] | None) -> None:
        self._told = told
        self.total, self._done, self._stage = 0, 0, "making ready"

    def begin(self, stage: str) -> None:
        """Say what is done next."""
        self._stage = stage
        self.add(0)

    def add(self, n_cells: int) -> None:
        """Say that so many were measured."""
        self._done += n_cells
        if self._told is not None and self.total:
            self._told(Progress(self._done, max(self.total, self._done), self._stage))

    def finish(self) -> None:
        """Say that there is no more."""
        self.total = self._done
        self.begin("done")


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


def _as_question(model: TracedModel, options: DesignOptions, rows: Rows) -> dict[str, Any]:
    """What every measurement depends on; the search, and how many layers are kept, are free to change."""
    content = repr([[(row.ids, row.read) for row in part.rows] for part in (rows.search, rows.held_out)])
    return {
        "model": model.name,
        "weights": describe_model(model).fingerprint,
        "substitute": options.substitute.to_dict(),
        "seed": options.seed,
        "rows": hashlib.sha256(content.encode()).hexdigest()[:16],
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
        tokens_per_s=time_forward(model, longest),
    )


def _n_cells(ready: Ready) -> int:
    """Measurements that the plan amounts to, about."""
    options, rows = ready.options, ready.rows
    n_compared = len(first_rows(rows.held_out, options.n_compared).rows)
    by_stage = {"random placements and baselines": n_compared, "judgement": len(rows.held_out.rows)}
    by_stage["the curve over the number kept"] = len(rows.held_out.rows)
    by_stage["one trace at two sites"] = 0
    return max(1, sum(one.n_placements * by_stage.get(one.name, len(rows.search.rows)) for one in ready.plan.stages))


def _trace(model: TracedModel, ready: Ready) -> JointTrace:
    """The joint trace, measured once."""
    if not ready.options.wants_trace:
        return no_trace(model.anatomy.n_layers)
    for meta, arrays in ready.checkpoints.found("trace"):
        joint = arrays["joint"] if meta["is_joint"] else None
        notes = tuple(meta["notes"])
        return JointTrace(
            js_bits=arrays["js_bits"], joint=joint, particle=meta["particle"], site=meta["site"], notes=notes
        )
    found = trace_jointly(model, ready.rows.search.by_kind, seed=ready.options.seed, memory=ready.options.memory)
    is_joint = found.joint is not None
    meta = {"what": "trace", "is_joint": is_joint, "particle": found.particle, "site": str(found.site)}
    arrays = {"js_bits": found.js_bits, **({"joint": found.joint} if found.joint is not None else {})}
    ready.checkpoints.add({**meta, "notes": list(found.notes)}, arrays)
    return found


def _judge(ready: Ready, placements: Sequence[Kept]) -> tuple[Judgement, ...]:
    return judge(ready.measures, ready.rows.held_out, placements, seed=ready.options.seed)


def _cache_share(ready: Ready) -> Callable[[Kept], float] | None:
    sizes, options = ready.sizes, ready.options
    if sizes is None or options.context is None:
        return None
    context = options.context

    def share(kept: Kept) -> float:
        taken = sizes.placed_bytes(
            kept, placeable=ready.substituter.placeable, substitute=options.substitute, context=context
        )
        return taken / sizes.full_bytes(context)

    return share


def _record(
    question: Question, ready: Ready, found: Found, *, roles: Roles, cpu_s: float, provenance: Mapping[str, Any]
) -> AdviceRecord:
    model, options = question.model, ready.options
    description = describe_model(model)
    return AdviceRecord(
        model={
            "name": model.name,
            "n_layers": description.n_layers,
            "mixers": tuple(layer.mixer for layer in description.layers),
            "fingerprint": description.fingerprint,
        },
        substitute=options.substitute,
        search=options.search,
        seed=options.seed,
        singles=found.singles,
        pairs=found.pairs,
        placements=found.placements,
        baselines=found.baselines,
        published=found.published,
        ratio=found.ratio,
        divisions=roles.divisions,
        gates=roles.gates,
        snippets={},
        snippet_reason="",
        evaluations=_evaluations(ready, cpu_s=cpu_s),
        provenance=provenance,
        spec=_spec(question, ready),
        notes=(*_notes_on_layers(ready), *found.notes),
    )


def _evaluations(ready: Ready, *, cpu_s: float) -> Evaluations:
    audit = ready.substituter.audit
    rows = ready.rows
    return Evaluations(
        n_search_rows=rows.search.counts,
        n_held_out_rows=rows.held_out.counts,
        n_compared_rows=first_rows(rows.held_out, ready.options.n_compared).counts,
        n_evaluations=ready.measures.n_placements,
        audit_cells=audit.n_cells,
        audit_worst_nats=float("nan") if audit.worst_nats is None else audit.worst_nats,
        cpu_s=cpu_s,
        notes=(*rows.notes, *audit.notes, *ready.checkpoints.notes),
    )


def _spec(question: Question, ready: Ready) -> dict[str, Any]:
    options = ready.options
    asked = {name: value for name, value in asdict(options).items() if name not in ("substitute", "memory")}
    lengths = {kind: sorted({len(row.ids) for row in some}) for kind, some in ready.rows.held_out.by_kind.items()}
    return {
        **asked,
        "keep": list(options.keep or ()),
        "substitute": options.substitute.to_dict(),
        "tasks": list(question.tasks),
        "objective": OBJECTIVE,
        "row_tokens": lengths,
        "plan": ready.plan.to_dict(),
    }


def _notes_on_layers(ready: Ready) -> tuple[str, ...]:
    """Why some layers cannot be substituted, each reason once."""
    reasons: dict[str, list[int]] = {}
    for layer, reason in ready.substituter.refused.items():
        reasons.setdefault(reason, []).append(layer)
    return tuple(f"Layers {', '.join(map(str, layers))} stay as they are: {why}" for why, layers in reasons.items())
