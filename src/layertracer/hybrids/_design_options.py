"""What is asked of a design, and what of it makes no sense for a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from layertracer._errors import SiteError, UsageError
from layertracer._types import Substitute, Window
from layertracer.advice import Search
from layertracer.hybrids._choose import refuse_too_many
from layertracer.hybrids._search import Kept
from layertracer.tracing import JudgedRow


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
    audit: float = 0.1
    memory: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignRows:
    """The rows of a design, by kind: text, or a task's name. None is in two of them.

    Attributes:
        search: Those that the search sees.
        held_out: Those that judge.
        n_compared: So many of each kind of the held-out ones are those on which placements are compared with random
            ones: there are hundreds of these.
        notes: What must be said of them: where the text is from, what was left out.
    """

    search: Mapping[str, Sequence[JudgedRow]]
    held_out: Mapping[str, Sequence[JudgedRow]]
    n_compared: int
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> dict[str, Sequence[JudgedRow]]:
        """The held-out rows on which placements are compared."""
        return {kind: rows[: self.n_compared] for kind, rows in self.held_out.items()}


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
