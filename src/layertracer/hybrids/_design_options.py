"""What is asked of a design, and what of it makes no sense for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from layertracer._errors import SiteError, UsageError
from layertracer._types import Substitute, Window
from layertracer.advice import Search
from layertracer.hybrids._judging.rows import RowSet, TaskRows
from layertracer.hybrids._placing.choose import refuse_too_many
from layertracer.hybrids._placing.search import Kept

_SHORTEST = 72
"""Tokens of a passage, at least."""
_READ = 32
"""Tokens beyond what the substitute sees, at least."""
_AFFORDED = 150_000_000
"""Parameters of a model that affords the fewest rows in a quarter of an hour of one processor."""
_FEWEST_SEARCH, _MOST_SEARCH = 3, 12
_FEWEST_COMPARED, _MOST_COMPARED = 6, 12
_FEWEST_HELD_OUT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a design needs to know of a model beside its measurements.

    Attributes:
        name: Its name.
        n_layers: How many layers it has.
        cache_share: Share of the full model's KV cache that a placement keeps; None where no context was asked about.
    """

    name: str
    n_layers: int
    cache_share: Callable[[Kept], float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignOptions:
    """What is asked.

    Attributes:
        keep: How many layers are to keep their mixer, each number by itself; None for a quarter of those that can be
            substituted, or for what `budget_bytes` allows.
        budget_bytes: What the KV cache of one text of `context` tokens may take; None where no cost is asked about.
        context: Tokens of that text; None where none is.
        substitute: What stands in the other layers.
        search: How placements are chosen.
        seed: Seed of the rows, of random placements, of what is audited and of the resamples.
        n_random: Random placements of each size.
        wants_pairs: Whether all pairs of layers are measured.
        wants_ratio: Whether the objective is measured against the number kept.
        wants_trace: Whether a trace is made: without, there is no joint JS, and no baseline that a trace names.
        wants_divisions: Whether regions of layers are found.
        wants_gates: Whether it is measured what gates over layers would gain.
        against_published: Whether published lists of the same model stand beside the advised placements.
        n_search: Passages, and prompts of each task, that the search sees.
        n_held_out: Passages, and prompts of each task, that judge.
        row_tokens: Tokens of a passage; None for some more than the substitute sees.
        n_compared: So many held-out passages, and prompts of each task, are those on which placements are compared with
            random ones, of which there are hundreds.
        audit: Share of the measurements that are made again the plain way.
        memory: Memory that the passes may take; None for most of what is free.
    """

    keep: tuple[int, ...] | None = None
    budget_bytes: int | None = None
    context: int | None = None
    substitute: Substitute = field(default_factory=lambda: Window(64, sinks=4))
    search: Search = "greedy"
    seed: int = 0
    n_random: int = 200
    wants_pairs: bool = False
    wants_ratio: bool = True
    wants_trace: bool = True
    wants_divisions: bool = True
    wants_gates: bool = True
    against_published: bool = True
    n_search: int = 3
    n_compared: int = 6
    n_held_out: int = 16
    row_tokens: int | None = None
    audit: float = 0.1
    memory: str | int | None = None


def first_rows(rows: RowSet, n: int) -> RowSet:
    """The first `n` passages, and the first `n` prompts of each task."""
    tasks = []
    for task in rows.tasks:
        prompts = tuple(prompt for prompt in task.prompts if prompt < n)
        tasks.append(TaskRows(name=task.name, rows=task.rows[: len(prompts)], prompts=prompts))
    return RowSet(text=rows.text[:n], tasks=tuple(tasks))


def default_rows(n_parameters: int) -> tuple[int, int, int]:
    """Numbers of rows of each kind, for the search, for the comparison with random placements, and to judge.

    A small model affords more of them in the same time; the numbers depend on nothing else, so that they are the same
    on every machine.

    Example:
        >>> default_rows(135_000_000), default_rows(1_000_000)
        ((3, 7, 16), (12, 12, 24))
    """
    share = _AFFORDED / max(n_parameters, 1)
    search = min(max(_FEWEST_SEARCH, round(_FEWEST_SEARCH * share)), _MOST_SEARCH)
    compared = min(max(_FEWEST_COMPARED, round(_FEWEST_COMPARED * share)), _MOST_COMPARED)
    return search, compared, max(_FEWEST_HELD_OUT, 2 * compared)


def row_tokens(options: DesignOptions, longest: int | None) -> int:
    """Length of a passage where nobody says one: hundreds of placements are measured on each, so it is short.

    Args:
        options: What is asked.
        longest: The model's context; None where it names none.
    """
    if options.row_tokens is not None:
        return options.row_tokens
    n_seen = options.substitute.n_seen
    wanted = max(_SHORTEST, n_seen + max(_READ, n_seen // 2))
    return wanted if longest is None else min(wanted, longest)


def check_keep(keep: Sequence[int], placeable: Kept, *, n_layers: int, name: str, search: Search) -> tuple[int, ...]:
    """Numbers of layers to keep, ascending, each once.

    Raises:
        SiteError: If there is nothing to choose among.
        UsageError: If there is none, one is out of range, or an exact search would have too many placements.
    """
    n = len(placeable)
    if n < 2:
        raise SiteError(
            f"Of the {n_layers} layers of {name!r}, {n} can be substituted: there is nothing to choose. A design needs "
            "two layers at least whose mixers can be."
        )
    if not keep:
        raise UsageError("keep is empty. Give the numbers of layers that are to keep their mixer, e.g. keep=(4, 8).")
    wrong = [size for size in keep if not 1 <= size <= n - 1]
    if wrong:
        of = f"all {n_layers} layers" if n == n_layers else f"{n} of the {n_layers} layers"
        raise UsageError(
            f"keep has {', '.join(map(str, wrong))}, and must be from 1 to {n - 1}: {of} of {name!r} can be "
            "substituted, and keeping none or all of them leaves nothing to choose. For example "
            f"keep=({max(1, round(n / 4))},)."
        )
    sizes = tuple(sorted(set(keep)))
    if search == "exact":
        refuse_too_many(n, sizes)
    return sizes


def default_keep(placeable: Kept) -> tuple[int, ...]:
    """A quarter of the placeable layers."""
    return (max(1, round(len(placeable) / 4)),)
