"""What a trace that stops by itself is sure of, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Until = Literal["certified"]
"""When a trace stops before its prompts are spent."""

Ending = Literal["certified", "prompts", "budget", "stopped"]
"""Why the rounds ended: one layer was left; prompts or budget were spent; or the trace was stopped or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleCertificate:
    """At which layer most prompts have their task particle, each prompt by its own curve.

    Attributes:
        layer: The layer at which more prompts of the population have it than at any other one, and than have none;
            None where that is not certified, or "none" is what most have (`contenders` tells).
        contenders: The answers that can still be the most frequent one: layers, and None for "no layer"; None last.
        share_low: For each layer the lower end of the share of prompts whose particle is at or before it.
        share_high: The upper end. All of them hold at once, at every round, with the certificate's confidence.
    """

    layer: int | None
    contenders: tuple[int | None, ...]
    share_low: tuple[float, ...]
    share_high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Which layer is the most vulnerable one, sure enough to stop; or which ones can still be it.

    A round is one prompt, with masks (or noise) of its own: its mean over the draws is one observation of each layer.
    What is certified is of the *population* that the prompts are independent draws of (the task's
    own sets of demonstrations and templates, any masks of this kind), not of the list of prompts: prompts are read in
    an order drawn by the seed, copies of one once. Three statements are made, each with the confidence by itself and
    whenever one stops: `layer`; the ends of all layers' means at once; and `particle`.

    Attributes:
        layer: The layer whose mean JS divergence is larger than that of every other one; None where that is not
            certified. Of two layers with equal means none is certified, but for the error allowed.
        confidence: Of each statement.
        contenders: The layers that can still be it, ascending; `layer` alone where there is one.
        ending: Why the rounds ended.
        n_cells: Cells that were measured: prompts × draws × layers.
        n_total: Cells that a whole trace of all prompts has.
        budget: Cells that it was to take at most; None without a limit.
        n_whole: Prompts that were measured in all layers. They are the prompts of the trace: its tables, and all that
            is computed of them, rest on these alone.
        order: The prompts that were read, by their numbers in the task without copies, in the order of the
            rounds.
        n_prompts: Prompts that there were, copies of one counted once.
        js_bits: For each layer the observations, as many as rounds in which it was measured: the mean JS divergence
            over the draws of each prompt, bits. Empty for layers without the site.
        low_js_bits: For each layer the lower end of the population's mean; None without the site.
        high_js_bits: The upper end.
        particles: The particle of every prompt that was read, in the order of the rounds.
        particle: What is certain of it.
    """

    layer: int | None
    confidence: float
    contenders: tuple[int, ...]
    ending: Ending
    n_cells: int
    n_total: int
    budget: int | None
    n_whole: int
    order: tuple[int, ...]
    n_prompts: int
    js_bits: tuple[tuple[float, ...], ...]
    low_js_bits: tuple[float | None, ...]
    high_js_bits: tuple[float | None, ...]
    particles: tuple[int | None, ...]
    particle: ParticleCertificate

    @property
    def n_rounds(self) -> int:
        """Number of rounds: prompts that were read."""
        return len(self.order)

    @property
    def rounds_by_layer(self) -> tuple[int, ...]:
        """For each layer the number of rounds in which it was measured: unequal where layers were dropped."""
        return tuple(map(len, self.js_bits))

    @property
    def mean_js_bits(self) -> tuple[float | None, ...]:
        """For each layer the mean of its observations, bits, over its own rounds; None without the site."""
        return tuple(sum(one) / len(one) if one else None for one in self.js_bits)
