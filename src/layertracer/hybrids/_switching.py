"""Switching by the task particle: substitutes in all layers below each prompt's particle, or in all from it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.advice._records import Switching
from layertracer.measures import MIN_UNITS, Sampling, bootstrap_mean_curve, make_generator
from layertracer.runs import PromptRecord, TraceRecord
from layertracer.tracing import JudgedRow, Substituter

N_DRAWS = 8
"""Placements of random layers that each one is held against."""
NEXT_TO_NOTHING = 0.01
"""Divergence, in nats, below which nothing is lost that a gate could save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSwitching:
    """What switching by the particle costs, as it is kept.

    Attributes:
        kept: The record.
        gains: Whether substitutes below the particle, or from it on, cost less than anywhere, by the interval.
    """

    kept: Switching
    gains: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One side of the particle: what substitutes cost there, one number a prompt.

    Attributes:
        words: Where it is.
        kl_nats: There.
        random: As many of them anywhere, the mean over draws.
        n_layers: How many.
    """

    words: str
    kl_nats: Float[np.ndarray, " prompt"]
    random: Float[np.ndarray, " prompt"]
    n_layers: np.ndarray

    def compare(self, sampling: Sampling, *, n_placeable: int, seed: int) -> tuple[bool, str]:
        """Whether it costs less than anywhere, and what is said of it: over prompts for which the two can differ."""
        can_differ = (self.n_layers > 0) & (self.n_layers < n_placeable)
        n = int(can_differ.sum())
        if n < MIN_UNITS:
            return False, f"{self.words}, undecided: only {n} prompts to compare by."
        units = None if sampling.units is None else tuple(np.asarray(sampling.units)[can_differ].tolist())
        difference = (self.kl_nats - self.random)[can_differ]
        low, high = bootstrap_mean_curve(difference[:, None], seed=seed, sampling=Sampling(units=units))
        interval = Interval(low=float(low[0]), high=float(high[0]))
        own, other, layers = (values[can_differ].mean() for values in (self.kl_nats, self.random, self.n_layers))
        is_little = max(own, other) < NEXT_TO_NOTHING
        gains = bool(interval.high < 0) and not is_little
        verdict = (
            "next to nothing either way"
            if is_little
            else "less"
            if interval.high < 0
            else "more"
            if interval.low > 0
            else "undecided, if more or less"
        )
        return gains, (
            f"{self.words} ({layers:.1f} layers on average) KL {own:.3g} nats, as many anywhere {other:.3g}: {verdict} "
            f"(difference {interval.low:+.2g} to {interval.high:+.2g}, {n} prompts)."
        )


def measure_switching(
    record: TraceRecord, substituter: Substituter, *, n_draws: int = N_DRAWS, seed: int = 0
) -> MeasuredSwitching | str:
    """What it costs to substitute all layers below each prompt's particle, and all from it on, beside as many anywhere.

    KL(full ‖ placed) where the answer is read. Prompts without a particle, and those that a window reaches over, take
    no part.

    Args:
        record: A trace of the same model.
        substituter: What is substituted, and where it can be.
        n_draws: Placements of random layers for each.
        seed: What draws them, and resamples the prompts.

    Returns:
        What was found; or why nothing was measured.

    Raises:
        Whatever `Substituter.measure` raises.
    """
    rows = {number: _row_of(prompt, record.spec.target) for number, prompt in enumerate(record.prompts)}
    particles = dict(enumerate(record.task_particle.per_prompt))
    found = {number: layer for number, layer in particles.items() if layer is not None}
    n_seen = substituter.substitute.n_seen
    taken = [number for number in found if rows[number].read[-1] >= n_seen]
    if not found:
        return "No prompt has a particle to switch at."
    if not taken:
        longest = max(len(rows[number].ids) for number in found)
        substitute = substituter.substitute.describe()
        return f"Switching was not measured: {substitute} reaches over all prompts (up to {longest} tokens)."
    at = [found[number] for number in taken]
    sides = _measure([rows[number] for number in taken], at, substituter, n_draws, seed)
    return _judge(record, sides, dict(zip(taken, at, strict=True)), substituter, seed)


def _row_of(prompt: PromptRecord, target: str) -> JudgedRow:
    """A prompt as the trace read it, up to where the answer begins."""
    ids = prompt.prompt_ids + (prompt.answer_ids[: prompt.n_lead] if target == "answer" else ())
    return JudgedRow(ids=ids, read=(len(ids) - 1,))


def _measure(
    rows: Sequence[JudgedRow], particles: Sequence[int], substituter: Substituter, n_draws: int, seed: int
) -> tuple[_Side, _Side]:
    """Both sides of every prompt; prompts of one particle are measured together."""
    placeable = substituter.placeable
    kl_nats = np.zeros((2, len(rows)))
    random, n_layers = np.zeros((2, len(rows))), np.zeros((2, len(rows)), dtype=np.int64)
    for particle in sorted(set(particles)):
        where = [place for place, one in enumerate(particles) if one == particle]
        below = [layer for layer in placeable if layer < particle]
        above = [layer for layer in placeable if layer >= particle]
        generator = make_generator(seed).spawn(particle + 1)[particle]
        anywhere = [
            generator.permutation(placeable)[: len(side)].tolist() for side in (below, above) for _ in range(n_draws)
        ]
        kept = [[layer for layer in placeable if layer not in one] for one in (below, above, *anywhere)]
        measured = substituter.measure([rows[place] for place in where], kept)
        of_placements = np.stack([one.kl_nats[:, 0] for one in measured], axis=1)
        kl_nats[:, where] = of_placements[:2]
        random[:, where] = of_placements[2:].reshape(2, n_draws, len(where)).mean(axis=1)
        n_layers[:, where] = np.array([[len(below)], [len(above)]])
    return tuple(  # type: ignore[return-value]  # there are two
        _Side(words=words, kl_nats=kl_nats[side], random=random[side], n_layers=n_layers[side])
        for side, words in enumerate(("below the particle", "from the particle on"))
    )


def _judge(
    record: TraceRecord,
    sides: tuple[_Side, _Side],
    taken: Mapping[int, int],
    substituter: Substituter,
    seed: int,
) -> MeasuredSwitching:
    """What both sides say, of prompts and their particles."""
    units = record.sampling.units
    sampling = Sampling(units=None if units is None else tuple(units[number] for number in taken))
    found = [side.compare(sampling, n_placeable=len(substituter.placeable), seed=seed) for side in sides]
    low, high = np.quantile(list(taken.values()), (0.1, 0.9), method="inverted_cdf")
    said = [f"With {substituter.substitute.describe()} in all layers {found[0][1]}", f"In all {found[1][1]}"]
    said.append(f"The middle four fifths of the particles lie in layers {int(low)} to {int(high)}")
    said[-1] += ": a fixed place would do, without a gate." if high - low <= 1 else "."
    left_out = record.n_prompts - len(taken)
    if left_out:
        said.append(
            f"{left_out} of {record.n_prompts} prompts took no part: no particle, or a window reaches over them."
        )
    before, after = sides
    return MeasuredSwitching(
        kept=Switching(
            before=before.kl_nats,
            after=after.kl_nats,
            layers_before=before.n_layers,
            layers_after=after.n_layers,
            random=before.random,
            random_after=after.random,
            prompts=tuple(taken),
            note=" ".join(said),
        ),
        gains=any(one for one, _ in found) and high - low > 1,
    )
