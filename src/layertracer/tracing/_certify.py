"""A trace in rounds, which stops once one layer is certified to be the most vulnerable.

A round is one prompt, in an order drawn by the seed, with masks (or noise) of its own. Rounds are measured in blocks,
for the sake of the passes, and looked at one by one. A layer that is out is not measured in the blocks that follow.
What is certified, and why that holds whenever it stops, is said in `Certificate` and in decision 0022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from layertracer._errors import TaskError, UsageError
from layertracer._types import Audit, Certificate, Ending, Mask, Method, Noise, Skip, fills_from_runs, name_draws
from layertracer.measures import NONE_FOUND, Rounds, TargetCurves, certify, check_level, least_rounds, race_layers
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import TraceOptions
from layertracer.tracing._plan import plan_prompts, refuse_too_little
from layertracer.tracing._planning.trace_plan import TracePlan
from layertracer.tracing._readings import Readings
from layertracer.tracing._sites.protocol import SITES, layers_with

_FIRST_BLOCK, _BLOCK = 16, 8
"""Prompts of the first block, which are measured in all layers whatever they show, and of the others."""


class BlockRun(Protocol):
    """The measurements of some prompts."""

    @property
    def method(self) -> Method:
        """How the perturbed rows were computed."""

    @property
    def audit(self) -> Audit | None:
        """What was measured again."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it went."""

    def measure(self) -> None:
        """Measure them."""


BeginBlock = Callable[[Sequence[Prompt], TraceOptions, Readings], BlockRun]
"""Makes the run of some prompts, whose numbers go into readings of all of them."""


@dataclass(slots=True, kw_only=True)
class RoundsRun:
    """The measurements of a trace until one layer is certified, as far as they are done.

    Attributes:
        model: The model.
        prompts: All prompts.
        options: What is traced and how.
        all_readings: Where the numbers go, those of all prompts.
        begin: Makes the run of a block.
        on_plan: Called with the plan of a trace of all prompts, which is the most that it may take.
        plan: That plan.
    """

    model: TracedModel
    prompts: Sequence[Prompt]
    options: TraceOptions
    all_readings: Readings
    begin: BeginBlock
    on_plan: Callable[[TracePlan], None] | None = None
    plan: TracePlan | None = None
    _blocks: list[BlockRun] = field(init=False, default_factory=list)
    _ending: Ending | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Refuse what cannot be certified, before anything runs."""
        _refuse_uncertifiable(self.options, n_prompts=len(self.prompts))
        self.options = replace(self.options, by_prompt=_has_random_draws(self.options))
        if self.options.budget is not None and self.options.budget < self._cells_of(self._layers):
            raise UsageError(
                f"budget={self.options.budget} is less than one prompt takes: {self._cells_of(self._layers)} cells, "
                f"{len(self._layers)} layers with {self._n_draws} draws each. A budget counts cells: prompts × draws × "
                "layers."
            )

    @property
    def readings(self) -> Readings:
        """The numbers of the prompts that were measured in all layers: those that a record can hold side by side."""
        finished = np.zeros(len(self.prompts), bool)
        finished[list(self._order[: self._n_whole()])] = True
        return replace(self.all_readings, finished=finished)

    @property
    def site_rms(self) -> list[Tensor | None]:
        """Nothing: no draw masks the same dimensions in all prompts."""
        return [None]

    @property
    def method(self) -> Method:
        """How the perturbed rows were computed in the end."""
        return self._blocks[-1].method if self._blocks else self.model.self_check.method

    @property
    def audit(self) -> Audit | None:
        """What was measured again, in all blocks together."""
        return _sum_audits([block.audit for block in self._blocks if block.audit is not None])

    @property
    def is_finished(self) -> bool:
        """Whether the rounds have come to their end."""
        return self._ending is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it went."""
        said = [note for block in self._blocks for note in block.notes]
        return (*dict.fromkeys(said), *self._said_of_tables())

    @property
    def certificate(self) -> Certificate | None:
        """What is certain so far; None before the first round."""
        rounds = self._rounds()
        if not rounds.order:
            return None
        return certify(
            rounds,
            confidence=self.options.confidence,
            ending=self._ending or "stopped",
            n_draws=self._n_draws,
            budget=self.options.budget,
            n_whole=self._n_whole(),
        )

    def measure(self) -> None:
        """Measure block after block, until one layer is certified, or the prompts or the budget are spent."""
        planned = plan_prompts(self.model, self.prompts, self.options)
        self.plan = planned.plan
        if self.on_plan is not None:
            self.on_plan(planned.plan)
        refuse_too_little(planned)
        layers = self._layers
        while self._ending is None:
            n_done = len(self._rounds().order)
            size = self._size_of_block(n_done, self._cells_of(layers))
            if not size:
                self._ending = "prompts" if n_done == len(self.prompts) else "budget"
                break
            self._measure_block(sorted(self._order[n_done : n_done + size]), layers)
            race = race_layers(self._rounds(), confidence=self.options.confidence)
            layers = race.contenders
            if race.winner is not None:
                self._ending = "certified"

    def _measure_block(self, indices: Sequence[int], layers: Sequence[int]) -> None:
        # Each block draws anew what is measured again.
        options = replace(self.options, layers=tuple(layers), seed=self.options.seed + len(self._blocks))
        block = self.begin([self.prompts[index] for index in indices], options, self.all_readings)
        self._blocks.append(block)
        block.measure()

    def _size_of_block(self, n_done: int, cells_of_prompt: int) -> int:
        size = min(_BLOCK if n_done else _FIRST_BLOCK, len(self.prompts) - n_done)
        if self.options.budget is None:
            return size
        spent = int((~np.isnan(self.all_readings.js_bits[list(self._order[:n_done])])).sum())
        return min(size, (self.options.budget - spent) // cells_of_prompt)

    @property
    def _order(self) -> tuple[int, ...]:
        """The prompts' numbers in the order of the rounds."""
        generator = np.random.default_rng([self.options.seed, len(self.prompts)])
        return tuple(generator.permutation(len(self.prompts)).tolist())

    @property
    def _layers(self) -> tuple[int, ...]:
        return tuple(layers_with(self.options.perturbations[0].site, self.model.network))

    @property
    def _n_draws(self) -> int:
        return self.options.perturbations[0].n_draws

    def _cells_of(self, layers: Sequence[int]) -> int:
        return len(layers) * self._n_draws

    def _rounds(self) -> Rounds:
        """What was observed: the prompts that are finished, up to the first in the order that is not."""
        order, finished = self._order, self.all_readings.finished
        n_done = next((place for place, one in enumerate(order) if not finished[one]), len(order))
        read = list(order[:n_done])
        js_bits = self.all_readings.js_bits[read].astype(np.float64).mean(axis=1)
        n_measured = (~np.isnan(js_bits)).sum(axis=0).tolist()
        return Rounds(
            js_bits=tuple(tuple(js_bits[:n, layer].tolist()) for layer, n in enumerate(n_measured)),
            particles=self._particles(read),
            order=tuple(read),
            n_prompts=len(order),
        )

    def _particles(self, read: Sequence[int]) -> tuple[int | None, ...]:
        """The onset in each prompt's own curve."""
        log_prob, rank = self.all_readings.of_all_continuations("logit")
        rows = list(read)
        curves = TargetCurves(
            log_prob=log_prob[rows, 1:],
            embedding_log_prob=log_prob[rows, 0],
            top1_share=(rank[rows] == 1).astype(np.float32),
        )
        found = self.options.onset.find(curves).tolist() if rows else []
        return tuple(None if layer == NONE_FOUND else layer for layer in found)

    def _n_whole(self) -> int:
        """Rounds in which all layers were measured: the first ones."""
        observed = [len(one) for one in self._rounds().js_bits if one]
        return min(observed, default=0)

    def _said_of_tables(self) -> tuple[str, ...]:
        n_whole, n_read = self._n_whole(), len(self._rounds().order)
        if not n_read:
            return ()
        kept = "those of the certificate hold whenever it stops"
        if n_whole == n_read:
            why = f"How many prompts were read ({n_read}) was not fixed beforehand"
            return (f"{why}, so that intervals may hold less often than they say; {kept}.",)
        which = f"the {n_whole} prompts that were measured in all layers, of {n_read} that were read"
        why = "How many they are was not fixed beforehand, so that intervals may hold less often than they say"
        return (f"All but the certificate rests on {which}. {why}; {kept}.",)


def _has_random_draws(options: TraceOptions) -> bool:
    return name_draws(options.perturbations[0].to_dict()) != "given"


def _refuse_uncertifiable(options: TraceOptions, *, n_prompts: int) -> None:
    """Raise where the rounds would not be independent draws, or too few to certify anything.

    Raises:
        UsageError: If that is so of what is done to the layers, or the confidence is none.
        TaskError: If there are too few prompts.
    """
    check_level(options.confidence)
    perturbation = options.perturbations[0]
    if options.further:
        raise UsageError(
            f"until='certified' takes one perturbation, got {len(options.perturbations)}. Certify one site at a time."
        )
    if not isinstance(perturbation, Mask | Noise | Skip):
        raise UsageError(
            f"until='certified' knows masks, noise and skipped layers, got {type(perturbation).__name__}: it must give "
            "every prompt draws of its own. Use one of these, or trace all prompts (without until)."
        )
    if fills_from_runs(perturbation):
        raise UsageError(
            "until='certified' takes masks filled with zero: a mean or values from elsewhere would come from the other "
            "prompts, and the rounds must not depend on one another. Use fill='zero'."
        )
    if SITES[perturbation.site].joins == "cache" and _has_random_draws(options):
        raise UsageError(
            "until='certified' cannot give every prompt masks of its own at the site 'state'. Use another site, or "
            "trace all prompts (without until)."
        )
    least = least_rounds(options.confidence)
    if n_prompts < least:
        raise TaskError(
            f"until='certified' needs {least} prompts or more to certify anything with a confidence of "
            f"{options.confidence:g}, got {n_prompts} (copies of a prompt count once). Give more (hundreds, usually), "
            "or trace without it."
        )


def _sum_audits(audits: Sequence[Audit]) -> Audit | None:
    if not audits:
        return None
    nats = [one.worst_nats for one in audits if one.worst_nats is not None]
    bits = [one.worst_bits for one in audits if one.worst_bits is not None]
    return Audit(
        share=audits[0].share,
        n_cells=sum(one.n_cells for one in audits),
        n_forwards=sum(one.n_forwards for one in audits),
        n_drawn=sum(one.n_drawn for one in audits),
        worst_nats=max(nats, default=None),
        worst_bits=max(bits, default=None),
        notes=tuple(dict.fromkeys(note for one in audits for note in one.notes)),
    )
