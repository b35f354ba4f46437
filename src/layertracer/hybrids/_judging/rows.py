"""What placements are measured on: rows for the search, and others for the judgement, of which none was searched on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from layertracer._errors import TaskError, UsageError
from layertracer._types import Substitute
from layertracer.hybrids._judging.task_rows import AskedPrompt, AskedTask, TaskSource, ask_task
from layertracer.hybrids._judging.text_rows import default_row_tokens, reaching
from layertracer.tracing import JudgedRow, TextRows, TextSource, TracedModel, gather_text, runs_of

TEXT = "text"
"""The kind of rows that are text."""

_SPARE = 1.25
_FEWEST_ROWS = 6
_FEWEST_GIVEN = 2
_FEWEST_PROMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRows:
    """Prompts of a task, each with its answers behind it.

    Attributes:
        name: Its name.
        rows: The rows: a prompt with an answer behind it, read where the answer is due.
        prompts: The prompt of each row, rising from 0: several rows where several answers are right.
    """

    name: str
    rows: tuple[JudgedRow, ...]
    prompts: tuple[int, ...]

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.prompts[-1] + 1

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first row of each prompt."""
        return tuple(self.prompts.index(prompt) for prompt in range(self.n_prompts))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """Rows that serve one purpose.

    Attributes:
        text: Passages, read at every position beyond what the substitute sees.
        tasks: Prompts, by task.
    """

    text: tuple[JudgedRow, ...] = ()
    tasks: tuple[TaskRows, ...] = ()

    @property
    def rows(self) -> tuple[JudgedRow, ...]:
        """All rows: text first, then task by task."""
        return (*self.text, *(row for task in self.tasks for row in task.rows))

    @property
    def by_kind(self) -> Mapping[str, tuple[JudgedRow, ...]]:
        """By kind: rows of text, of a task one row a prompt, with the first of its answers."""
        tasks = {task.name: tuple(task.rows[first] for first in task.firsts) for task in self.tasks}
        return ({TEXT: self.text} if self.text else {}) | tasks

    @property
    def counts(self) -> Mapping[str, int]:
        """By kind: rows of text, prompts of each task."""
        return ({TEXT: len(self.text)} if self.text else {}) | {task.name: task.n_prompts for task in self.tasks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows for the search and rows for the judgement: no passage, prompt or pair that is asked for is in both.

    Attributes:
        search: What placements are chosen on.
        held_out: What they are judged on.
        notes: What must be said: where the text is from, what was left out, what the two have in common.
    """

    search: RowSet
    held_out: RowSet
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many rows there are to be.

    Attributes:
        search_text: Passages for the search.
        held_out_text: Passages for the judgement.
        search_prompts: Prompts of each task for the search.
        held_out_prompts: Prompts of each task for the judgement.
        row_tokens: Tokens of a passage; None for what the substitute asks, see `default_row_tokens`.
    """

    search_text: int = 4
    held_out_text: int = 12
    search_prompts: int = 16
    held_out_prompts: int = 32
    row_tokens: int | None = None


def split_rows(  # noqa: PLR0913 - settings by name
    model: TracedModel,
    substitute: Substitute,
    *,
    text: TextSource = None,
    with_text: bool = True,
    tasks: Mapping[str, TaskSource] | None = None,
    sizes: Sizes | None = None,
    seed: int = 0,
) -> Rows:
    """Rows for the search and for the judgement, chosen by the seed.

    Laws: equal arguments give equal rows; no held-out passage shares a run of 13 tokens with one of the search; no
    held-out prompt is one of the search, and no pair that recall asks for stands in a prompt of the search; every
    position that is read lies at or beyond what a window sees.

    Args:
        model: The model.
        substitute: What stands in the place of mixers.
        text: Where passages are from; None for what the model writes itself.
        with_text: Whether there are passages at all.
        tasks: Tasks by name, see `ask_task`.
        sizes: How many rows.
        seed: Seed of what is chosen.

    Raises:
        TaskError: If the text is too short, or a task has too few prompts.
        UsageError: If nothing is asked for, or what there is lies within the window.
    """
    sizes = sizes or Sizes()
    if not with_text and not tasks:
        raise UsageError("There is nothing to measure placements on. Give text, or tasks, or both.")
    refuse_reserved(tasks or ())
    searched, held, notes = _split_text(model, substitute, text, sizes, seed) if with_text else ((), (), ())
    search_tasks, held_tasks = [], []
    for name, given in (tasks or {}).items():
        n_prompts = sizes.search_prompts + sizes.held_out_prompts
        asked = ask_task(model, substitute, given, name=name, n_prompts=n_prompts, seed=seed)
        first, second, said = _split_prompts(asked, sizes, seed)
        search_tasks.append(collect_prompts(name, first))
        held_tasks.append(collect_prompts(name, second))
        notes = (*notes, *asked.notes, *said)
    return Rows(
        search=RowSet(text=searched, tasks=tuple(search_tasks)),
        held_out=RowSet(text=held, tasks=tuple(held_tasks)),
        notes=notes,
    )


def refuse_reserved(tasks: Iterable[str]) -> None:
    """Raise where a task has the name by which passages of text go: it would take their place.

    Raises:
        UsageError: If that is so.
    """
    if TEXT in tasks:
        raise UsageError(
            f"A task cannot be called {TEXT!r}: so are called the passages that placements are measured on. Rename the "
            "file, or give tasks by names of your own, e.g. tasks={'mine': …}."
        )


def judged_text(rows: Sequence[tuple[int, ...]], substitute: Substitute) -> tuple[JudgedRow, ...]:
    """Passages, read at every position beyond what the substitute sees."""
    return tuple(JudgedRow(ids=row, read=tuple(range(substitute.n_seen, len(row)))) for row in rows)


def collect_prompts(name: str, prompts: Sequence[AskedPrompt]) -> TaskRows:
    """The rows of a task's prompts."""
    return TaskRows(
        name=name,
        rows=tuple(row for prompt in prompts for row in prompt.rows),
        prompts=tuple(number for number, prompt in enumerate(prompts) for _ in prompt.rows),
    )


def _split_text(
    model: TracedModel, substitute: Substitute, text: TextSource, sizes: Sizes, seed: int
) -> tuple[tuple[JudgedRow, ...], tuple[JudgedRow, ...], tuple[str, ...]]:
    """Passages for the search, passages for the judgement, and what is to be said of them."""
    n_tokens = sizes.row_tokens or default_row_tokens(model, substitute)
    wanted = sizes.search_text + sizes.held_out_text
    n_rows = wanted if text is None else int(_SPARE * wanted) + 1
    found = reaching(gather_text(model, text, n_rows=n_rows, n_tokens=n_tokens, seed=seed), substitute)
    order = list(found.rows)
    random.Random(f"passages {seed}").shuffle(order)
    n_search = min(sizes.search_text, max(1, len(order) * sizes.search_text // wanted))
    search = order[:n_search]
    runs = runs_of(search)
    others = [row for row in order[n_search:] if not runs & runs_of([row])]
    n_shared = len(order) - len(search) - len(others)
    held = others[: sizes.held_out_text]
    _refuse_too_few(found, n_used=len(search) + len(held), n_shared=n_shared, n_tokens=n_tokens)
    notes = [f"{found.said}: {len(search)} for the search, {len(held)} for the judgement", *found.notes]
    if n_shared:
        notes.append(f"{n_shared} passages repeat one of the search and were left out of the judgement.")
    if len(search) + len(held) < wanted:
        notes.append(f"There is text for {len(search) + len(held)} passages where {wanted} were wanted.")
    return judged_text(search, substitute), judged_text(held, substitute), tuple(notes)


def _refuse_too_few(found: TextRows, *, n_used: int, n_shared: int, n_tokens: int) -> None:
    """Raise where there is too little text to search on some and judge on others.

    Raises:
        TaskError: If that is so; the message has the numbers.
    """
    fewest = _FEWEST_ROWS if found.is_cut else _FEWEST_GIVEN
    if n_used >= fewest:
        return
    repeats = f", of which {n_shared} repeat what the search reads" if n_shared else ""
    if found.is_cut:
        raise TaskError(
            f"The text is too short to search on one part and judge on another: it has {found.n_tokens} tokens, "
            f"{len(found.rows)} passages of {n_tokens}{repeats}; needed are {fewest} passages, {fewest * n_tokens} "
            "tokens. Give a longer text, or shorter passages."
        )
    raise TaskError(
        f"There are too few rows to search on some and judge on others: {len(found.rows)}{repeats}; at least {fewest} "
        "that differ are needed. Give more rows."
    )


def _split_prompts(
    asked: AskedTask, sizes: Sizes, seed: int
) -> tuple[list[AskedPrompt], list[AskedPrompt], tuple[str, ...]]:
    """Prompts for the search, prompts for the judgement, and what is to be said of them."""
    prompts = list(asked.prompts)
    if asked.keeps_file_order:
        random.Random(f"prompts of {asked.name}, seed {seed}").shuffle(prompts)
    # Of several sets of demonstrations one half is for the search, the other for the judgement.
    has_sets = any(prompt.demonstration_set for prompt in prompts)
    wanted = sizes.search_prompts + sizes.held_out_prompts
    n_search = min(sizes.search_prompts, max(1, len(prompts) * sizes.search_prompts // wanted))
    candidates = [prompt for prompt in prompts if not (prompt.demonstration_set or 0) % 2]
    search = candidates[:n_search]
    seen = {prompt.text for prompt in search}
    shown = "\n".join(seen)
    rest = [one for one in prompts if (one.demonstration_set or 0) % 2] if has_sets else prompts[n_search:]
    others = [one for one in rest if one.text not in seen and not (one.asked and one.asked in shown)]
    held = others[: sizes.held_out_prompts]
    if len(search) + len(held) < _FEWEST_PROMPTS or not held:
        raise TaskError(
            f"The task {asked.name!r} has too few prompts to search on some and judge on others: {len(search)} and "
            f"{len(held)} that differ; at least {_FEWEST_PROMPTS} together are needed. Give more prompts."
        )
    notes = []
    if has_sets:
        notes.append(
            f"Half of the sets of demonstrations of {asked.name!r} are for the search, half for the judgement."
        )
    if asked.shares_demonstrations:
        notes.append(f"Prompts of {asked.name!r} begin with the same demonstrations in the search and the judgement.")
    if len(rest) > len(others):
        notes.append(
            f"{len(rest) - len(others)} prompts of {asked.name!r} repeat what the search asks and were left out of the "
            "judgement."
        )
    return search, held, tuple(notes)
