"""One placement judged on rows that a user gives: nothing is searched, so nothing is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from layertracer._errors import TaskError, UsageError
from layertracer._types import MeanMixer, Substitute
from layertracer.advice import PlacementEvaluation, TaskAccuracy
from layertracer.hybrids._judging.judge import judgements, solved_prompts, why_not_judged
from layertracer.hybrids._judging.rows import RowSet, collect_prompts, judged_text, refuse_reserved
from layertracer.hybrids._judging.task_rows import TaskSource, ask_task
from layertracer.hybrids._judging.text_rows import default_row_tokens, reaching
from layertracer.measures import paired_change
from layertracer.tracing import RowMeasures, TextSource, TracedModel, gather_text, make_substituter


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a placement is to be judged on.

    Attributes:
        text: Where passages are from; None for what the model writes itself.
        with_text: Whether there are passages at all.
        tasks: Tasks by name.
        n_rows: Passages of a text; of rows of token ids all are taken.
        n_prompts: Prompts of a built-in task that is given by its name.
        row_tokens: Tokens of a passage; None for what the substitute asks.
    """

    text: TextSource = None
    with_text: bool = True
    tasks: Mapping[str, TaskSource]
    n_rows: int = 16
    n_prompts: int = 32
    row_tokens: int | None = None


def evaluate(  # noqa: PLR0913 - settings by name
    model: TracedModel,
    substitute: Substitute,
    kept: tuple[int, ...],
    judged: Judged,
    *,
    seed: int = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
) -> PlacementEvaluation:
    """What a placement costs.

    Args:
        model: The model.
        substitute: What stands in the layers that are not kept.
        kept: The layers that keep their mixers.
        judged: What it is judged on.
        seed: Seed of built-in tasks, of written text, of resamples and of the audit.
        audit: Share of what is measured that is measured again, the plain way.
        memory: What passes may take.

    Raises:
        LayerTracerError: See `make_substituter`, `Substituter.measure`, `gather_text` and `ask_task`.
    """
    needs_mean = isinstance(substitute, MeanMixer)
    if not needs_mean:  # what cannot be substituted is refused before anything is read or written
        substituter = make_substituter(model, substitute, audit=audit, seed=seed, memory=memory)
    rows, notes = _gather(model, substitute, judged, seed)
    if needs_mean:
        substituter = make_substituter(model, substitute, mean_rows=rows.rows, audit=audit, seed=seed, memory=memory)
        notes = (*notes, "The mixers' mean is over the same rows.")
    rows, measures, unsolved = _without_unsolved(rows, substituter.measure(rows.rows, [kept]))
    (judgement,) = judgements(rows, [kept], measures, seed=seed)
    changes = {
        name: paired_change(solved.placed[0], solved.full) for name, solved in solved_prompts(rows, measures).items()
    }
    worst = substituter.audit.worst_nats
    return PlacementEvaluation(
        model=model.name,
        n_layers=model.anatomy.n_layers,
        substitute=substitute,
        placeable=substituter.placeable,
        judgement=judgement,
        accuracy={name: TaskAccuracy(own, *changes[name]) for name, own in judgement.accuracy.items()},
        audit_cells=substituter.audit.n_cells,
        audit_worst_nats=float("nan") if worst is None else worst,
        notes=(*notes, *unsolved, *substituter.audit.notes),
    )


def _gather(model: TracedModel, substitute: Substitute, judged: Judged, seed: int) -> tuple[RowSet, tuple[str, ...]]:
    """The rows, and what is to be said of them.

    Raises:
        UsageError: If there is nothing to judge on.
        TaskError: If the text is shorter than a passage.
    """
    if not judged.with_text and not judged.tasks:
        raise UsageError("There is nothing to judge the placement on. Give rows, or tasks, or both.")
    refuse_reserved(judged.tasks)
    text, notes = ((), ()) if not judged.with_text else _gather_text(model, substitute, judged, seed)
    tasks = []
    for name, given in judged.tasks.items():
        asked = ask_task(model, substitute, given, name=name, n_prompts=judged.n_prompts, seed=seed)
        prompts = asked.prompts[: judged.n_prompts] if isinstance(given, str) else asked.prompts
        tasks.append(collect_prompts(name, prompts))
        notes = (*notes, *asked.notes)
    return RowSet(text=judged_text(text, substitute), tasks=tuple(tasks)), notes


def _gather_text(
    model: TracedModel, substitute: Substitute, judged: Judged, seed: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Passages, and what is to be said of them."""
    n_tokens = judged.row_tokens or default_row_tokens(model, substitute)
    found = reaching(gather_text(model, judged.text, n_rows=judged.n_rows, n_tokens=n_tokens, seed=seed), substitute)
    if not found.rows:
        raise TaskError(
            f"The text is too short: it has {found.n_tokens} tokens, and a passage has {n_tokens}. Give a longer text, "
            f"or shorter passages (row_tokens), of at least {substitute.n_seen + 2}."
        )
    rows = found.rows[: judged.n_rows] if found.is_cut else found.rows
    return rows, (f"{found.said}.", *found.notes)


def _without_unsolved(
    rows: RowSet, measures: Sequence[RowMeasures]
) -> tuple[RowSet, Sequence[RowMeasures], tuple[str, ...]]:
    """The rows, and what was measured of them, without tasks that the full model does not solve; and why.

    Raises:
        TaskError: If nothing is left.
    """
    solved = solved_prompts(rows, measures)
    reasons = {task.name: why_not_judged(task, int(solved[task.name].full.sum())) for task in rows.tasks}
    kept, left, start = [], list(measures[: len(rows.text)]), len(rows.text)
    for task in rows.tasks:
        if reasons[task.name] is None:
            kept.append(task)
            left += measures[start : start + len(task.rows)]
        start += len(task.rows)
    said = tuple(reason for reason in reasons.values() if reason is not None)
    if not left:
        raise TaskError(
            f"There is nothing left to judge the placement on. {' '.join(said)} Give rows, easier prompts, or a model "
            "that solves them."
        )
    return replace(rows, tasks=tuple(kept)), left, said
