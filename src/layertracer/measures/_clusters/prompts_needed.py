"""How many prompts it takes until the interval of the task particle is as narrow as asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from layertracer._errors import UsageError
from layertracer.measures._bootstrap import SURE_UNITS
from layertracer.measures._curves import TargetCurves, check_prompts
from layertracer.measures._onset import OnsetCriterion
from layertracer.measures._particle import find_task_particle
from layertracer.measures._resampling import Sampling, make_generator, number_units

FARTHEST = 10
"""How many times as many prompts as were measured are still foretold."""

_N_SUBSAMPLES, _N_RESAMPLES = 12, 1000
_LEAST_FOUND = 0.5
"""Share of the subsamples that must have an interval for their size to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsNeeded:
    """How many prompts an interval of a given width takes.

    Attributes:
        n_prompts: How many; None where that cannot be foretold. `note` says why.
        measured: By number of prompts, half the width of the interval in layers, mean over subsamples.
        half_width: What was asked, in layers.
        note: How the number came about, and how sure it is.
    """

    n_prompts: int | None
    measured: Mapping[int, float]
    half_width: float
    note: str


def prompts_needed(
    curves: TargetCurves,
    criterion: OnsetCriterion,
    *,
    half_width: float = 1.0,
    units: tuple[int, ...] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PromptsNeeded:
    """How many prompts an interval of ± `half_width` layers around the task particle takes.

    Of the prompts (or whole clusters of them) subsamples are drawn, of eight, twice as many, and so on, and all of
    them; each gives an interval, and the mean of half their widths is taken by size. Where that falls to the asked
    width among the sizes measured, the number lies between the two sizes, on a line in 1/√n; where it does not, the
    width at the largest size is taken to fall with 1/√n from there on, as long as that takes no more than ten times the
    prompts there are.

    Laws: equal seeds give equal results; a wider interval never takes more prompts; where all prompts have one curve it
    takes eight.

    Args:
        curves: Curves of shape [prompt, layer].
        criterion: Any onset criterion.
        half_width: Half the width asked, in layers.
        units: Cluster of every prompt; None where each is by itself. Numbers are of prompts all the same.
        level: Coverage of the intervals.
        seed: Seed of subsamples and resamples.

    Raises:
        UsageError: If the curves have not the axes [prompt, layer], or the width is not positive.

    Source:
        Politis, Romano and Wolf (1999), "Subsampling", for the rate.
    """
    check_prompts(curves, "prompts_needed")
    if not half_width > 0.0:
        raise UsageError(f"half_width must be positive, got {half_width}. It is in layers: 1.0 for ± 1 layer.")
    numbered = number_units(Sampling(units=units), len(curves.log_prob))
    n_units, per_unit = int(numbered.max()) + 1, len(numbered) / (int(numbered.max()) + 1)
    what = "prompts" if units is None else "clusters"
    if n_units < SURE_UNITS:
        note = f"{n_units} {what}: below {SURE_UNITS} an interval does not hold what it says, so none is measured"
        return PromptsNeeded(n_prompts=None, measured={}, half_width=half_width, note=note)
    by_units = {
        size: width
        for size in _sizes(n_units)
        if (width := _mean_half_width(curves, criterion, numbered, size=size, level=level, seed=seed)) is not None
    }
    needed, note = _foretell(by_units, half_width, n_units=n_units, what=what)
    return PromptsNeeded(
        n_prompts=None if needed is None else int(np.ceil(needed * per_unit - 1e-9)),
        measured={round(size * per_unit): width for size, width in by_units.items()},
        half_width=half_width,
        note=note,
    )


def _sizes(n_units: int) -> list[int]:
    """Eight, twice as many, and so on, and all."""
    doubled = [SURE_UNITS * 2**step for step in range(n_units.bit_length()) if SURE_UNITS * 2**step < n_units]
    return [*doubled, n_units]


def _mean_half_width(
    curves: TargetCurves,
    criterion: OnsetCriterion,
    numbered: Int[np.ndarray, " prompt"],
    *,
    size: int,
    level: float,
    seed: int,
) -> float | None:
    """Mean half width of the intervals of subsamples of so many units; None where most have no interval."""
    generator, n_units, widths = make_generator(seed), int(numbered.max()) + 1, []
    n_subsamples = 1 if size == n_units else _N_SUBSAMPLES
    for number in range(n_subsamples):
        chosen = np.isin(numbered, generator.permutation(n_units)[:size])
        part = TargetCurves(
            log_prob=curves.log_prob[chosen],
            embedding_log_prob=curves.embedding_log_prob[chosen],
            top1_share=curves.top1_share[chosen],
        )
        sampling = Sampling(units=tuple(numbered[chosen].tolist()))
        interval = find_task_particle(
            part, criterion, n_resamples=_N_RESAMPLES, level=level, seed=seed + number, sampling=sampling
        ).interval
        if interval is not None:
            widths.append((interval.high - interval.low) / 2.0)
    return float(np.mean(widths)) if len(widths) >= _LEAST_FOUND * n_subsamples else None


def _foretell(by_units: Mapping[int, float], half_width: float, *, n_units: int, what: str) -> tuple[float | None, str]:
    """The number of units, and how it came about."""
    if n_units not in by_units:
        return None, f"all {n_units} {what} give no interval: the criterion finds too often none"
    sizes = sorted(by_units)
    # From the largest size down: up to where the width is last within what was asked.
    within = next((index + 1 for index in reversed(range(len(sizes))) if by_units[sizes[index]] > half_width), 0)
    if within == 0:
        return float(sizes[0]), f"the smallest measured, {sizes[0]} {what}, are enough"
    if within < len(sizes):
        fewer, more = sizes[within - 1], sizes[within]
        wide, narrow = by_units[fewer], by_units[more]
        share = (wide - half_width) / (wide - narrow)
        root = fewer**-0.5 + share * (more**-0.5 - fewer**-0.5)
        return root**-2, f"between {fewer} and {more} {what} measured"
    needed = n_units * (by_units[n_units] / half_width) ** 2
    if needed > FARTHEST * n_units:
        return None, f"more than {FARTHEST} times the {n_units} {what} measured: too far to be foretold"
    return needed, f"foretold from {n_units} {what}, the width falling with 1/√n: about as sure as that rule is"
