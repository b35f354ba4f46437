"""What placements cost, on rows: divergence from the full model, loss, tasks solved, each with its interval."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import TaskError
from layertracer._types import Interval
from layertracer.advice import Accuracy, Judgement
from layertracer.hybrids._judging.rows import Rows, RowSet, TaskRows
from layertracer.measures import Sampling, bootstrap_crossed_curve, wilson
from layertracer.tracing import JudgedRow, RowMeasures

Measures: TypeAlias = Sequence[RowMeasures]

LEVEL = 0.95
LEAST_SOLVED_SHARE, LEAST_SOLVED = 0.2, 4
"""Of a task that the full model solves less often, a fall could not be seen."""


@runtime_checkable
class Measuring(Protocol):
    """What measures placements on rows, as a `Substituter` does."""

    def measure(self, rows: Sequence[JudgedRow], placements: Sequence[tuple[int, ...]]) -> Sequence[RowMeasures]:
        """What rows say of placements, one a row."""


class Mean(NamedTuple):
    """A mean over rows.

    Attributes:
        mean: The mean.
        interval: Its interval; None where there is one row alone.
    """

    mean: float
    interval: Interval | None


class Solved(NamedTuple):
    """Which prompts of a task are solved: all tokens of one of the answers that are right.

    Attributes:
        placed: By the placed models, [placement, prompt].
        full: By the full model, [prompt].
    """

    placed: NDArray[np.bool_]
    full: NDArray[np.bool_]


def judge(
    measuring: Measuring, rows: RowSet, placements: Sequence[tuple[int, ...]], *, seed: int = 0
) -> tuple[Judgement, ...]:
    """What placements cost on some rows, one judgement each.

    Args:
        measuring: The model with the substitute.
        rows: What is measured on.
        placements: The layers kept, for each.
        seed: Seed of the resamples.
    """
    return judgements(rows, placements, measuring.measure(rows.rows, placements), seed=seed)


def judgements(
    rows: RowSet, placements: Sequence[tuple[int, ...]], measures: Measures, *, seed: int = 0
) -> tuple[Judgement, ...]:
    """What was measured of placements on some rows, one judgement each; see `judge`."""
    by_task = {task.name: _accuracies(task, own, seed) for task, own in _of_tasks(rows, measures)}
    kl, nll = _text_means(rows.text, measures[: len(rows.text)], len(placements), seed)
    return tuple(
        Judgement(
            kept=tuple(sorted(kept)),
            kl_nats=kl[number].mean,
            kl_interval=_at_least_zero(kl[number].interval),
            nll_change=nll[number].mean,
            nll_interval=nll[number].interval,
            accuracy={name: found[number] for name, found in by_task.items()},
            n_rows=len(rows.text),
            n_positions=sum(len(row.read) for row in rows.text),
        )
        for number, kept in enumerate(placements)
    )


def solved_prompts(rows: RowSet, measures: Measures) -> Mapping[str, Solved]:
    """Which prompts of each task are solved."""
    return {task.name: _solved(task, own) for task, own in _of_tasks(rows, measures)}


def leave_out_unsolved(measuring: Measuring, placeable: Collection[int], rows: Rows) -> Rows:
    """The rows without tasks of which the full model solves too little for a fall to be seen.

    Args:
        measuring: The model with the substitute.
        placeable: The layers that can be substituted: all kept, that is the full model.
        rows: The rows.

    Raises:
        TaskError: If nothing else is left.
    """
    searched, held, notes = list(rows.search.tasks), list(rows.held_out.tasks), []
    for task in rows.held_out.tasks:
        measures = measuring.measure(task.rows, [tuple(placeable)])
        n_solved = int(_solved(task, measures).full.sum())
        reason = why_not_judged(task, n_solved)
        if reason is not None:
            notes.append(reason)
            held = [other for other in held if other.name != task.name]
            searched = [other for other in searched if other.name != task.name]
    if not held and not rows.held_out.text:
        raise TaskError(
            f"There is nothing left to measure placements on. {' '.join(notes)} Give text, easier prompts, or a model "
            "that solves them."
        )
    return replace(
        rows,
        search=replace(rows.search, tasks=tuple(searched)),
        held_out=replace(rows.held_out, tasks=tuple(held)),
        notes=(*rows.notes, *notes),
    )


def why_not_judged(task: TaskRows, n_solved: int) -> str | None:
    """Why a task says nothing of placements; None where it does."""
    if n_solved >= max(LEAST_SOLVED, LEAST_SOLVED_SHARE * task.n_prompts):
        return None
    return (
        f"The model solves {n_solved} of {task.n_prompts} prompts of {task.name!r}: too few for a fall to be seen, so "
        "that nothing is judged on it."
    )


def _text_means(
    rows: Sequence[JudgedRow], measures: Measures, n_placements: int, seed: int
) -> tuple[Sequence[Mean], Sequence[Mean]]:
    """Divergence on text, and the change of its own loss; a row's last position has no next token."""
    if not measures:
        nothing = [Mean(float("nan"), None)] * n_placements
        return nothing, nothing
    texts = [row.ids for row in rows]
    kl = np.array([one.kl_nats.mean(axis=1) for one in measures]).T
    changes = [(one.nll_nats - one.full_nll_nats)[:, np.isfinite(one.full_nll_nats)] for one in measures]
    nll = np.array([change.mean(axis=1) for change in changes]).T
    return row_means(kl, texts, seed=seed), row_means(nll, texts, seed=seed)


def row_means(values: NDArray[np.float64], texts: Sequence[tuple[int, ...]], *, seed: int) -> tuple[Mean, ...]:
    """Means over rows, with intervals of other rows taken; one row alone has none.

    Laws: every placement meets the same resamples, so that differences between placements are as sure as rows allow;
    copies of a row make nothing surer.

    Args:
        values: One value a placement and row.
        texts: What each row is: equal ones are taken together.
        seed: Seed of the resamples.
    """
    means = [float(mean) for mean in values.mean(axis=1)]
    units = [texts.index(text) for text in texts]
    if len(set(units)) < 2:
        return tuple(Mean(mean, None) for mean in means)
    sampling = Sampling(units=tuple(units), draws="given")
    band = bootstrap_crossed_curve(values.T[:, None, :], seed=seed, level=LEVEL, sampling=sampling)
    return tuple(
        Mean(mean, Interval(low=float(low), high=float(high), level=LEVEL))
        for mean, low, high in zip(means, *band, strict=True)
    )


def _of_tasks(rows: RowSet, measures: Measures) -> list[tuple[TaskRows, Measures]]:
    """Each task with what was measured of its rows."""
    found, start = [], len(rows.text)
    for task in rows.tasks:
        found.append((task, measures[start : start + len(task.rows)]))
        start += len(task.rows)
    return found


def _solved(task: TaskRows, measures: Measures) -> Solved:
    """Which prompts are solved: every token of an answer is the top one behind those before it."""
    n_placements = len(measures[0].top_ids)
    placed, full = np.zeros((n_placements, task.n_prompts), bool), np.zeros(task.n_prompts, bool)
    for row, prompt, own in zip(task.rows, task.prompts, measures, strict=True):
        due = np.array([row.ids[position + 1] for position in row.read])
        placed[:, prompt] |= (own.top_ids == due).all(axis=1)
        full[prompt] |= bool((own.full_top_ids == due).all())
    return Solved(placed=placed, full=full)


def _accuracies(task: TaskRows, measures: Measures, seed: int) -> tuple[Accuracy, ...]:
    """What each placement solves of a task."""
    solved = _solved(task, measures)
    values = np.array([measures[first].kl_nats.mean(axis=1) for first in task.firsts]).T
    kl = row_means(values, [task.rows[first].ids for first in task.firsts], seed=seed)
    return tuple(
        Accuracy(
            share=float(own.mean()),
            interval=wilson(int(own.sum()), task.n_prompts),
            full_share=float(solved.full.mean()),
            n_prompts=task.n_prompts,
            kl_nats=mean.mean,
            kl_interval=_at_least_zero(mean.interval),
        )
        for own, mean in zip(solved.placed, kl, strict=True)
    )


def _at_least_zero(interval: Interval | None) -> Interval | None:
    """The interval of a divergence, which is never negative."""
    return None if interval is None else replace(interval, low=max(0.0, interval.low))
