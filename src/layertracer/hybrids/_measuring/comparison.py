"""Advised placements beside those that nobody searched for, all on the same held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertracer.advice import Baseline, published_for
from layertracer.hybrids._design_options import DesignOptions, ModelFacts
from layertracer.hybrids._judging.rows import TEXT
from layertracer.hybrids._measuring.bench import Bench
from layertracer.hybrids._measuring.joint_trace import JointTrace
from layertracer.hybrids._placing.baselines import (
    around_particle,
    most_vulnerable,
    random_placements,
    uniform_placements,
)
from layertracer.hybrids._placing.row_kl import RowKL
from layertracer.hybrids._placing.search import Kept
from layertracer.hybrids._placing.standing import Standing, find_standing, percentile_of

RANDOM = "random"
_NO_TRACE = "No trace was made."


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Placements of one size that nobody searched for.

    Attributes:
        named: By name of the baseline.
        notes: By name: where they come from, or why there are none.
        are_all: Whether the random ones are all there are.
    """

    named: Mapping[str, tuple[Kept, ...]]
    notes: Mapping[str, str]
    are_all: bool

    @property
    def placements(self) -> list[Kept]:
        """All of them, each once, in the order of the names."""
        return list(dict.fromkeys(kept for some in self.named.values() for kept in some))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An advised placement among the others.

    Attributes:
        baselines: By name.
        standing: Where it stands among the random ones; None where there are none but itself.
        objective: Its own.
        kl_nats: Its own of text; NaN where there is none.
    """

    baselines: Mapping[str, Baseline]
    standing: Standing | None
    objective: float
    kl_nats: float


def name_others(layers: Kept, size: int, trace: JointTrace, *, facts: ModelFacts, options: DesignOptions) -> Others:
    """The placements of a size to compare with."""
    named: dict[str, tuple[Kept, ...]] = {
        "uniform": uniform_placements(layers, size),
        RANDOM: random_placements(layers, size, n=options.n_random, seed=options.seed),
    }
    notes = {"uniform": "Evenly spaced: the last layer of each of as many blocks, and the first of each."}
    vulnerable = most_vulnerable(trace.js_bits, layers, size)
    named["most_vulnerable"] = () if vulnerable is None else (vulnerable,)
    notes["most_vulnerable"] = (
        _NO_TRACE
        if not trace.site
        else f"Largest JS divergence at {trace.site}, of a trace of the search's prompts."
        if vulnerable is not None
        else f"Fewer than {size} placeable layers have the site {trace.site}."
    )
    named["around_particle"] = () if trace.particle is None else (around_particle(trace.particle, layers, size),)
    notes["around_particle"] = (
        _NO_TRACE
        if not trace.site
        else "No task particle was found on the search's prompts."
        if trace.particle is None
        else f"Nearest to the task particle, layer {trace.particle}."
    )
    known = published_for(facts.name, facts.n_layers) if options.against_published else ()
    lists = [one for one in known if len(one.layers) == size and {*one.layers} <= {*layers}]
    if lists:
        named["published"] = tuple(dict.fromkeys(one.layers for one in lists))
        notes["published"] = "; ".join(dict.fromkeys(one.source for one in lists))
    return Others(named=named, notes=notes, are_all=math.comb(len(layers), size) <= options.n_random)


def compare(bench: Bench, advised: Kept, others: Others, *, seed: int) -> Compared:
    """Measure an advised placement and the others, and say where it stands.

    Args:
        bench: The rows that all are measured on.
        advised: The advised placement.
        others: The others.
        seed: Seed of the resamples.
    """
    placements = list(dict.fromkeys([advised, *others.placements]))
    measured = bench.row_kl(placements)
    column = {kept: number for number, kept in enumerate(placements)}
    own = measured.of([column[advised]])
    among = [column[kept] for kept in others.named[RANDOM] if kept != advised]
    random = measured.of(among)
    return Compared(
        baselines={
            name: _baseline(name, some, measured.of([column[kept] for kept in some]), random, others)
            for name, some in others.named.items()
        },
        standing=find_standing(own, random, are_all=others.are_all, seed=seed) if among else None,
        objective=float(own.objective()[0]),
        kl_nats=float(own.means()[TEXT][0]) if TEXT in own.by_kind else float("nan"),
    )


def _baseline(name: str, placements: Sequence[Kept], measured: RowKL, random: RowKL, others: Others) -> Baseline:
    means = measured.means()
    objective = measured.objective().astype(np.float64)
    found = Baseline(
        name=name,
        placements=tuple(placements),
        objective=objective,
        kl_nats=means[TEXT] if TEXT in means else np.full(len(placements), np.nan),
        percentile=None,
        note=others.notes.get(name, _random_note(others)),
    )
    values = random.objective()
    if name == RANDOM or not placements or not len(values):
        return found
    return replace(found, percentile=percentile_of(values, float(objective.min())))


def _random_note(others: Others) -> str:
    n = len(others.named[RANDOM])
    return f"All {n} placements of this size." if others.are_all else f"{n} placements drawn at random, none twice."
