"""From what was observed in rounds to what is certified: live, and again whenever a stored run is verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._types import Certificate, Ending, ParticleCertificate
from layertracer.measures._certified.bounds import bound_mean
from layertracer.measures._certified.race import Race, race_means


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What was observed, round by round.

    Attributes:
        js_bits: For each layer the mean JS divergence over the draws, bits, of as many rounds as it was measured in.
        particles: Each prompt's particle; None where it has none.
        order: Which prompt each round had.
        n_prompts: Prompts that there are.
    """

    js_bits: tuple[tuple[float, ...], ...]
    particles: tuple[int | None, ...]
    order: tuple[int, ...]
    n_prompts: int

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.js_bits)

    def table(self) -> Float[np.ndarray, "round layer"]:
        """The observations as one array, NaN where a layer was not measured."""
        values = np.full((len(self.order), self.n_layers), np.nan)
        for layer, observed in enumerate(self.js_bits):
            values[: len(observed), layer] = observed
        return values


def race_layers(rounds: Rounds, *, confidence: float) -> Race:
    """Which layers can still be the most vulnerable one."""
    return race_means(rounds.table(), level=confidence)


def certify(
    rounds: Rounds,
    *,
    confidence: float,
    ending: Ending,
    n_draws: int,
    budget: int | None,
    n_whole: int,
) -> Certificate:
    """All that is certain after some rounds.

    Laws: a function of what was observed alone, whatever the batches and the blocks it was measured in.

    Args:
        rounds: What was observed.
        confidence: Of each statement.
        ending: Why the rounds ended.
        n_draws: Draws of each cell.
        budget: What was allowed.
        n_whole: Prompts that were measured in all layers.

    Raises:
        UsageError: If an observation or the confidence is out of range, or a layer was left out too early.
    """
    race = race_layers(rounds, confidence=confidence)
    has_site = [bool(observed) for observed in rounds.js_bits]
    # As many intervals as layers hold at once: each has its share of the error.
    each = 1 - (1 - confidence) / max(1, sum(has_site))
    ends = [bound_mean(np.array(one), level=each) if one else (None, None) for one in rounds.js_bits]
    return Certificate(
        layer=race.winner if rounds.order else None,
        confidence=confidence,
        contenders=race.contenders,
        ending=ending,
        n_cells=n_draws * sum(map(len, rounds.js_bits)),
        n_total=n_draws * sum(has_site) * rounds.n_prompts,
        budget=budget,
        n_whole=n_whole,
        order=rounds.order,
        n_prompts=rounds.n_prompts,
        js_bits=rounds.js_bits,
        low_js_bits=tuple(low for low, _ in ends),
        high_js_bits=tuple(high for _, high in ends),
        particles=rounds.particles,
        particle=certify_particle(rounds.particles, n_layers=rounds.n_layers, confidence=confidence),
    )


def certify_particle(particles: Sequence[int | None], *, n_layers: int, confidence: float) -> ParticleCertificate:
    """What is certain of where most prompts have their particle.

    Args:
        particles: Each prompt's, in the order in which they were read.
        n_layers: Layers of the model.
        confidence: Of each statement.

    Example:
        >>> certify_particle([2] * 40, n_layers=3, confidence=0.95).layer
        2
    """
    places = np.array([n_layers if one is None else one for one in particles], dtype=np.int64)
    is_there = (places[:, None] == np.arange(n_layers + 1)).astype(np.float64)
    race = race_means(is_there, level=confidence)
    each = 1 - (1 - confidence) / n_layers
    by_then = [bound_mean(shares, level=each) for shares in np.cumsum(is_there, axis=1)[:, :-1].T]
    winner = race.winner
    return ParticleCertificate(
        layer=None if winner is None or winner == n_layers else winner,
        contenders=tuple(None if one == n_layers else one for one in race.contenders),
        share_low=tuple(low for low, _ in by_then),
        share_high=tuple(high for _, high in by_then),
    )
