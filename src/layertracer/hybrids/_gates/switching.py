"""Switching by the task particle: substitutes in all layers below each prompt's particle, or in all from it on.

Two things are held against it: as many substitutes anywhere, and substitutes below, or from, the particles of the other
prompts. If those cost no more, it is the depth that counts, and a fixed placement does the same without a gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import NonFiniteError
from layertracer._types import Interval
from layertracer.advice import Switching
from layertracer.measures import Sampling, bootstrap_mean_curve, count_units, make_generator
from layertracer.runs import PromptRecord, TraceRecord
from layertracer.tracing import JudgedRow, Substituter

N_DRAWS = 4
"""Placements of random layers that each one is held against."""
MOST_PROMPTS = 32
"""Prompts that are switched, at the most: each is run in a dozen placements."""
FEWEST_COMPARED = 8
"""Prompts from which on a difference is called one: of fewer, pairs that all go one way may do so by chance."""
NEXT_TO_NOTHING = 0.01
"""Divergence, in nats, below which nothing is lost that a gate could save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSwitching:
    """What switching by the particle costs, as it is kept.

    Attributes:
        kept: The record.
        gains: Whether substitutes below the particle, or from it on, cost less than as many anywhere and less than at
            the other prompts' particles, both by the interval.
        others: KL below, and from, the other prompts' particles, the mean over them.
    """

    kept: Switching
    gains: bool
    others: Float[np.ndarray, "side prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One side of the particle: what substitutes cost there in nats, one number a prompt.

    Attributes:
        words: Where it is.
        own: There.
        random: As many of them anywhere, the mean over draws.
        others: On this side of the other prompts' particles, the mean over them.
        n_layers: How many there are.
    """

    words: str
    own: Float[np.ndarray, " prompt"]
    random: Float[np.ndarray, " prompt"]
    others: Float[np.ndarray, " prompt"]
    n_layers: Int[np.ndarray, " prompt"]

    def compare(self, sampling: Sampling, *, n_placeable: int, seed: int) -> tuple[bool, str]:
        """Whether it gains, and what is said of it: over prompts for which it can differ from layers anywhere."""
        taken = (self.n_layers > 0) & (self.n_layers < n_placeable)
        units = None if sampling.units is None else tuple(np.asarray(sampling.units)[taken].tolist())
        few = Sampling(units=units)
        n_units = count_units(few, int(taken.sum())) if taken.any() else 0
        if n_units < FEWEST_COMPARED:
            return False, f"{self.words}, undecided: {n_units} prompts to compare by, and {FEWEST_COMPARED} are needed."
        own, random, others, layers = (
            float(values[taken].mean()) for values in (self.own, self.random, self.others, self.n_layers)
        )
        beside_random = _difference(self.own[taken], self.random[taken], few, seed)
        beside_others = _difference(self.own[taken], self.others[taken], few, seed)
        is_little = max(own, random) < NEXT_TO_NOTHING
        anywhere = "next to nothing either way" if is_little else _verdict(beside_random)
        said = (
            f"{self.words} ({layers:.1f} on average) KL {own:.3g} nats; as many anywhere {random:.3g}, {anywhere}; at "
            f"the other prompts' particles {others:.3g}, {_verdict(beside_others)}."
        )
        return not is_little and beside_random.high < 0 and beside_others.high < 0, said


def _difference(
    own: Float[np.ndarray, " prompt"], other: Float[np.ndarray, " prompt"], sampling: Sampling, seed: int
) -> Interval:
    """Interval of the mean difference, pair by pair."""
    low, high = bootstrap_mean_curve((own - other)[:, None], seed=seed, sampling=sampling)
    return Interval(low=float(low[0]), high=float(high[0]))


def _verdict(difference: Interval) -> str:
    """Whether switching costs less than what it is held against."""
    verdict = "so less" if difference.high < 0 else "so more" if difference.low > 0 else "undecided"
    return f"{verdict} (by {difference.low:+.2g} to {difference.high:+.2g})"


def measure_switching(
    record: TraceRecord, substituter: Substituter, *, n_draws: int = N_DRAWS, seed: int = 0
) -> MeasuredSwitching | str:
    """What it costs to substitute all layers below each prompt's particle, and all from it on.

    KL(full ‖ placed) where the answer is read. Prompts without a particle, and those that a window reaches over, take
    no part; of more than `MOST_PROMPTS` the seed draws so many.

    Args:
        record: A trace of the same model.
        substituter: What is substituted, and where it can be.
        n_draws: Placements of random layers for each.
        seed: What draws prompts and placements, and resamples.

    Returns:
        What was found; or why nothing was measured, as where a placement's output is not finite.

    Raises:
        Whatever else `Substituter.measure` raises.
    """
    rows = {number: _row_of(prompt, record.spec.target) for number, prompt in enumerate(record.prompts)}
    particles = dict(enumerate(record.task_particle.per_prompt))
    found = {number: layer for number, layer in particles.items() if layer is not None}
    long = [number for number in found if rows[number].read[-1] >= substituter.substitute.n_seen]
    if not found:
        return "No prompt has a particle to switch at."
    if not long:
        substitute, longest = substituter.substitute.describe(), max(len(rows[number].ids) for number in found)
        return f"Switching was not measured: {substitute} reaches over all prompts (up to {longest} tokens)."
    drawn = sorted(make_generator(seed).permutation(long)[:MOST_PROMPTS].tolist())
    taken = {number: found[number] for number in drawn}
    splits = _Splits(rows=[rows[number] for number in taken], at=list(taken.values()), substituter=substituter)
    try:
        sides = splits.measure(n_draws=n_draws, seed=seed)
    except NonFiniteError as error:
        return f"Switching was not measured: {error}"
    return _judge(record, sides, taken, substituter, n_left_out=record.n_prompts - len(long), seed=seed)


def _row_of(prompt: PromptRecord, target: str) -> JudgedRow:
    """A prompt as the trace read it, looked at where the followed answer begins."""
    ids = prompt.prompt_ids + (prompt.answer_ids[: prompt.n_lead] if target == "answer" else ())
    return JudgedRow(ids=ids, read=(len(ids) - 1,))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Splits:
    """Prompts and the layers at which they are split."""

    rows: Sequence[JudgedRow]
    at: Sequence[int]
    substituter: Substituter

    def sides_of(self, layer: int) -> tuple[list[int], list[int]]:
        """Placeable layers below a layer, and from it on."""
        placeable = self.substituter.placeable
        return [one for one in placeable if one < layer], [one for one in placeable if one >= layer]

    def measure(self, *, n_draws: int, seed: int) -> tuple[_Side, _Side]:
        """What substitutes cost on both sides of each prompt's own split, anywhere, and at the others' splits."""
        distinct = sorted(set(self.at))
        at_all = self._kl(range(len(self.rows)), [side for layer in distinct for side in self.sides_of(layer)])
        by_split = at_all.reshape(len(distinct), 2, len(self.rows))
        is_own = np.array(distinct)[:, None] == np.array(self.at)
        own = by_split.transpose(1, 2, 0)[:, is_own.T].reshape(2, -1)
        counts = is_own.sum(axis=1)
        n_others = len(self.rows) - 1
        others = (np.tensordot(counts, by_split, axes=1) - own) / n_others if n_others else own
        n_layers = np.array([[len(side) for side in self.sides_of(layer)] for layer in self.at]).T
        random = self._random(distinct, n_draws=n_draws, seed=seed)
        below, above = (
            _Side(words=words, own=own[side], random=random[side], others=others[side], n_layers=n_layers[side])
            for side, words in enumerate(("below the particle", "from the particle on"))
        )
        return below, above

    def _random(self, distinct: Sequence[int], *, n_draws: int, seed: int) -> Float[np.ndarray, "side prompt"]:
        """As many layers anywhere, the mean over draws; prompts of one split have the same."""
        found = np.zeros((2, len(self.rows)))
        generators = make_generator(seed).spawn(1 + max(distinct))
        for layer in distinct:
            where = [place for place, one in enumerate(self.at) if one == layer]
            drawn = [
                generators[layer].permutation(self.substituter.placeable)[: len(side)].tolist()
                for side in self.sides_of(layer)
                for _ in range(n_draws)
            ]
            found[:, where] = self._kl(where, drawn).reshape(2, n_draws, len(where)).mean(axis=1)
        return found

    def _kl(self, where: Sequence[int], substituted: Sequence[Sequence[int]]) -> Float[np.ndarray, "placement prompt"]:
        kept = [[layer for layer in self.substituter.placeable if layer not in one] for one in substituted]
        measured = self.substituter.measure([self.rows[place] for place in where], kept)
        return np.stack([one.kl_nats[:, 0] for one in measured], axis=1)


def _judge(
    record: TraceRecord,
    sides: tuple[_Side, _Side],
    taken: Mapping[int, int],
    substituter: Substituter,
    *,
    n_left_out: int,
    seed: int,
) -> MeasuredSwitching:
    """What both sides say, of prompts and their particles."""
    units = record.sampling.units
    sampling = Sampling(units=None if units is None else tuple(units[number] for number in taken))
    found = [side.compare(sampling, n_placeable=len(substituter.placeable), seed=seed) for side in sides]
    said = [
        f"With {substituter.substitute.describe()} in all layers {found[0][1]}",
        f"In all {found[1][1]}",
        f"{len(taken)} prompts were switched.",
    ]
    if n_left_out:
        said.append(f"{n_left_out} of {record.n_prompts} took no part: no particle, or a window reaches over them.")
    before, after = sides
    return MeasuredSwitching(
        kept=Switching(
            before=before.own,
            after=after.own,
            layers_before=before.n_layers,
            layers_after=after.n_layers,
            random=before.random,
            random_after=after.random,
            prompts=tuple(taken),
            note=" ".join(said),
        ),
        gains=any(one for one, _ in found),
        others=np.stack([before.others, after.others]),
    )
