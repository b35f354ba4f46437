"""Audit of causal tracing: both runs and some cells of a prompt measured again, alone, one hooked forward at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from layertracer._types import Audit
from layertracer.models import Network
from layertracer.tracing._patching.answers import answers_of
from layertracer.tracing._patching.cells import CellPasses, plain_patched, plain_runs
from layertracer.tracing._patching.patch import DonorValues
from layertracer.tracing._patching.readings import Collected
from layertracer.tracing._patching.two_runs import Case
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.rounding import (
    MOST_ROUNDING,
    RELATIVE_NATS,
    jitters_allowed,
    nats_tolerance,
    rounding_moves,
)

_DRAWN = 8
"""What the generators of the audit are for, apart from all others."""
_OF_A_FORWARD, _ALONE = 0.25, 3.0
"""What a cell costs of a forward beside others, since what comes before its position and below its layer is not
computed; and what a forward costs when it is alone: a model's weights are read for one short row."""
_LEAST_CELLS = 2
"""Cells that are worth running a prompt's two runs alone for."""

Cell = tuple[int, int]
"""A layer that has the site, and a position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What of a prompt is measured again.

    Attributes:
        draw: Beside which corruption.
        cells: Which cells.
        n_drawn: How many of these the seed alone has drawn.
    """

    draw: int
    cells: tuple[Cell, ...]
    n_drawn: int


def plan_looks(collected: Collected, *, share: float, seed: int) -> dict[int, Look]:
    """What is measured again of each prompt that is patched, chosen before anything is patched.

    A share of each prompt's arithmetic, drawn by the seed and the prompt's index: where it is worth less than a few
    forwards, those are made of as many of the prompts as it pays for. And in any case, of the last prompt and draw of
    each length and first corrupted position, whose rows come last, the cells at that position in the first layer and in
    the last but one.

    Args:
        collected: The prompts, and which of them are patched.
        share: Share of the arithmetic that this may take, apart from what is looked at in any case; 0 for none at all.
        seed: What draws.
    """
    if not share:
        return {}
    patched = np.flatnonzero(collected.is_patched).tolist()
    prompts, looks = collected.prompts, dict[int, Look]()
    last = {(len(prompts[number].ids), prompts[number].first): number for number in patched}
    for number in patched:
        look = _drawn(collected, number, share=share, seed=seed)
        if number in last.values():
            layers, first = list(collected.windows.of_layer), prompts[number].first
            corners = [(layer, first) for layer in (*layers[-2:-1], layers[0])]
            look = replace(look, draw=collected.n_draws - 1, cells=tuple(dict.fromkeys([*corners, *look.cells])))
        if look.cells:
            looks[number] = look
    return looks


def _drawn(collected: Collected, number: int, *, share: float, seed: int) -> Look:
    """What the seed draws of one prompt."""
    prompt = collected.prompts[number]
    generator = np.random.default_rng([seed, prompt.index, _DRAWN])
    positions = range(prompt.first, len(prompt.ids))
    cells = [(layer, position) for position in positions for layer in collected.windows.of_layer]
    owed = share * collected.n_draws * _OF_A_FORWARD * len(cells) / _ALONE
    is_looked_at = owed >= 2 + _LEAST_CELLS or generator.random() < owed / (2 + _LEAST_CELLS)
    n_cells = min(len(cells), max(_LEAST_CELLS, int(owed) - 2)) if is_looked_at else 0
    draw = int(generator.integers(collected.n_draws))
    which = generator.choice(len(cells), n_cells, replace=False).tolist()
    return Look(draw=draw, cells=tuple(cells[one] for one in which), n_drawn=n_cells)


@dataclass(slots=True, kw_only=True)
class CausalAuditor:
    """The audit of one way of measuring.

    Attributes:
        passes: How cells are computed.
        collected: Where the numbers are.
        share: Share of the arithmetic that is measured again.
        looks: What of each prompt is.
    """

    passes: CellPasses
    collected: Collected
    share: float
    looks: dict[int, Look] = field(default_factory=dict)
    _n_cells: int = field(init=False, default=0)
    _n_forwards: int = field(init=False, default=0)
    _n_drawn: int = field(init=False, default=0)
    _n_rounded: int = field(init=False, default=0)
    _worst: float | None = field(init=False, default=None)

    def result(self, notes: Sequence[str]) -> Audit:
        """What was found so far."""
        said = list(notes)
        if not self.share:
            said.append("Nothing was measured again: the audit was turned off.")
        if self._n_rounded:
            said.append(
                f"{self._n_rounded} cells differ by more than usual, and no more than rounding explains: the model's "
                "numbers move as much when what enters its first layer is rounded otherwise."
            )
        return Audit(
            share=self.share,
            n_cells=self._n_cells,
            n_forwards=self._n_forwards,
            n_drawn=self._n_drawn,
            worst_nats=self._worst,
            notes=tuple(said),
        )

    def look_at(self, number: int) -> None:
        """Measure again what is to be of a prompt, all of whose cells are there.

        Raises:
            Disagreement: If something differs by more than rounding explains.
        """
        look = self.looks.get(number)
        if look is None:
            return
        case = Case(number, self.collected.prompts[number], look.draw)
        length, first = len(case.prompt.ids), case.prompt.first
        corruption, network = self.passes.corruption, self.passes.network
        donors = DonorValues(site=self.passes.site, first=first, length=length)
        runs = corruption.two_runs([case])
        stored = self.collected.clean[number], self.collected.corrupted[number, look.draw]
        base, donor = reversed(stored) if corruption.options.direction == "denoise" else stored

        def both_runs() -> np.ndarray:
            fresh = replace(donors, kept={})
            said = plain_runs(network, runs, fresh)
            donors.kept.update(fresh.kept)
            return np.concatenate([answers_of(logits[:, 0], [case.prompt]) for logits in said])

        def patched(cell: Cell) -> np.ndarray:
            patch = self.passes.patch({cell[1]: donors}, length=length)
            logits = plain_patched(network, runs.base, patch, self.passes.windows.of_layer[cell[0]])
            return answers_of(logits[:, 0], [case.prompt])

        self._compare(case, "its two runs", np.stack([base, donor]), both_runs, n_forwards=2)
        for cell in look.cells:
            stored_cell = self.collected.cell(case, *cell)[None]
            where = f"the cell at layer {cell[0]} and position {cell[1]}"
            self._compare(case, where, stored_cell, partial(patched, cell), n_forwards=1)
        self._n_drawn += look.n_drawn

    def check_base(self, cases: Sequence[Case], base: np.ndarray | None) -> None:
        """Hold the base rows beside some cells, which are computed anyway, against the base run in one piece.

        Raises:
            Disagreement: If they differ by more than rounding explains.
        """
        if base is None:
            return
        denoise = self.passes.corruption.options.direction == "denoise"
        for case, own in zip(cases, base, strict=True):
            whole = self.collected.corrupted[case.number, case.draw] if denoise else self.collected.clean[case.number]
            if not (_difference(own, whole) <= MOST_ROUNDING * _allowed(self.passes.network, whole)).all():
                raise Disagreement(
                    f"prompt {case.prompt.index} had an answer whose log-probability is {whole[0]:.4g} nats in one "
                    f"piece and {own[0]:.4g} beside its cells"
                )

    def _compare(
        self, case: Case, what: str, stored: np.ndarray, measure: Callable[[], np.ndarray], *, n_forwards: int
    ) -> None:
        """Hold numbers [run, 2] against those that are measured alone."""
        network = self.passes.network
        alone = measure()
        difference, allowed = _difference(stored, alone), _allowed(network, alone)
        self._n_cells += len(stored)
        self._n_forwards += n_forwards
        self._worst = max(self._worst or 0.0, float(difference.max()))
        if (difference <= allowed).all():
            return
        if (difference <= MOST_ROUNDING * allowed).all():
            moves = [float(_difference(measure(), alone).max()) for _ in rounding_moves(network)]
            measure()  # what was copied meanwhile was rounded otherwise
            if difference.max() <= jitters_allowed(network) * max(moves):
                self._n_rounded += 1
                return
        raise Disagreement(
            f"prompt {case.prompt.index} had log-probabilities in {what} that differ by {difference.max():.4g} nats "
            "beside others and alone"
        )


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Absolute differences, 0 where both are missing or infinite alike, and infinite where one of them is."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.abs(one - other)
    found: np.ndarray = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return found


def _allowed(network: Network, of: np.ndarray) -> np.ndarray:
    allowed: np.ndarray = nats_tolerance(network) + RELATIVE_NATS * np.abs(np.nan_to_num(of, neginf=0.0))
    return allowed
