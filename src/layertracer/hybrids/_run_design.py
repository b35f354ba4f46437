"""One call from a model to its advice: measurements that are kept as they come, and the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from layertracer._errors import SelfCheckError
from layertracer.advice import AdviceRecord, DesignPlan, Evaluations, Judgement
from layertracer.hybrids._design import Design, DesignMeans, Found
from layertracer.hybrids._design_options import (
    ModelFacts,
    first_rows,
)
from layertracer.hybrids._judging.judge import judge
from layertracer.hybrids._make_ready import Question, Ready, make_ready
from layertracer.hybrids._measuring.joint_trace import JointTrace, no_trace, trace_jointly
from layertracer.hybrids._placing.row_kl import OBJECTIVE
from layertracer.hybrids._placing.search import Kept
from layertracer.hybrids._roles import Roles, measure_roles
from layertracer.hybrids._snippets.snippet import linear_snippet, snippets_for
from layertracer.runs import collect_provenance
from layertracer.tracing import Progress, TracedModel, describe_model


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
    _refuse_changed_weights(question.model, ready.weights)
    progress.finish()
    cpu_s = time.process_time() - began_s + ready.measures.earlier_cpu_s
    provenance = collect_provenance(command=command, started_at=started_at)
    return _record(question, ready, found, roles=roles, cpu_s=cpu_s, provenance=provenance)


def _refuse_changed_weights(model: TracedModel, before: str) -> None:
    """Raise where the model's weights are no more those that the search saw.

    Raises:
        SelfCheckError: If that is so.
    """
    after = describe_model(model).fingerprint
    if after != before:
        raise SelfCheckError(
            f"The weights of {model.name!r} changed while it was designed (fingerprint {before}, now {after}): "
            "the search and the judgement are of two models. Leave the model alone while it is measured, and design "
            "again, into another folder."
        )


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
    layers = {n_kept: placement.layers for n_kept, placement in found.placements.items()}
    snippets, reason = snippets_for(model, options.substitute, layers, ready.substituter.placeable)
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
        placements={
            n_kept: replace(placement, config=snippets[n_kept], linear_config=linear_snippet(model, placement.layers))
            for n_kept, placement in found.placements.items()
        },
        baselines=found.baselines,
        published=found.published,
        ratio=found.ratio,
        divisions=roles.divisions,
        gates=roles.gates,
        snippets=snippets,
        snippet_reason=reason,
        evaluations=_evaluations(ready, cpu_s=cpu_s),
        provenance=provenance,
        spec=_spec(question, ready),
        notes=(*ready.left_out, *_notes_on_layers(ready), *found.notes),
    )


def _evaluations(ready: Ready, *, cpu_s: float) -> Evaluations:
    audit, rows = ready.substituter.audit, ready.rows
    earlier_cells, earlier_nats = ready.measures.earlier_audit
    n_cells = audit.n_cells + earlier_cells
    return Evaluations(
        n_search_rows=rows.search.counts,
        n_held_out_rows=rows.held_out.counts,
        n_compared_rows=first_rows(rows.held_out, ready.options.n_compared).counts,
        n_evaluations=ready.measures.n_placements,
        audit_cells=n_cells,
        audit_worst_nats=max(audit.worst_nats or 0.0, earlier_nats) if n_cells else float("nan"),
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
    }


def _notes_on_layers(ready: Ready) -> tuple[str, ...]:
    """Why some layers cannot be substituted, each reason once."""
    reasons: dict[str, list[int]] = {}
    for layer, reason in ready.substituter.refused.items():
        reasons.setdefault(reason, []).append(layer)
    return tuple(f"Layers {', '.join(map(str, layers))} stay as they are: {why}" for why, layers in reasons.items())
