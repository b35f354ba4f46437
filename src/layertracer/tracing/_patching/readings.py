"""Numbers of causal tracing, as far as they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64

from layertracer._types import Audit, Method
from layertracer.tracing._patching.cells import FoundCells, Windows
from layertracer.tracing._patching.prompts import CausalPrompt
from layertracer.tracing._patching.two_runs import Case


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptCells:
    """What is finished of one prompt.

    Attributes:
        restored_prob: The answer's probability with the values of one cell put from one run into the other, the mean
            over draws, [layer, position]; NaN where nothing was patched.
        restored_difference: log P(answer) − log P(contrast answer) likewise, nats; NaN without a contrast answer, too.
        clean_log_prob: Log-probability of the answer in the clean run, nats.
        corrupted_log_prob: In each corrupted run, [draw].
        clean_contrast_log_prob: Of the contrast answer; NaN without.
        corrupted_contrast_log_prob: Likewise, [draw].
    """

    restored_prob: Float32[np.ndarray, "layer position"]
    restored_difference: Float32[np.ndarray, "layer position"]
    clean_log_prob: float
    corrupted_log_prob: Float64[np.ndarray, " draw"]
    clean_contrast_log_prob: float
    corrupted_contrast_log_prob: Float64[np.ndarray, " draw"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CausalReadings:
    """All cells of all prompts, in the order in which these were given.

    Attributes:
        clean_log_prob: Log-probability of the answer in the clean run, nats.
        corrupted_log_prob: In each corrupted run.
        clean_contrast_log_prob: Of the contrast answer; NaN where there is none.
        corrupted_contrast_log_prob: Likewise in each corrupted run.
        restored_prob: The answer's probability with the values of one cell put from one run into the other, the mean
            over draws; NaN before the first corrupted position, beyond a prompt's end, in layers without the site, and
            in prompts that are not patched.
        restored_difference: log P(answer) − log P(contrast answer) likewise, nats.
        is_patched: Whether the corruption did enough to a prompt for its cells to be asked for.
        noise_std: Standard deviation of the noise, in the embeddings' own units; None with a swap.
        audit: What was measured again the plain way.
        method: "ladder" where cells share passes, "plain" where each is a forward of its own.
        notes: What must be said.
        finished: Which prompts are finished.
    """

    clean_log_prob: Float64[np.ndarray, " prompt"]
    corrupted_log_prob: Float64[np.ndarray, "prompt draw"]
    clean_contrast_log_prob: Float64[np.ndarray, " prompt"]
    corrupted_contrast_log_prob: Float64[np.ndarray, "prompt draw"]
    restored_prob: Float32[np.ndarray, "prompt layer position"]
    restored_difference: Float32[np.ndarray, "prompt layer position"]
    is_patched: Bool[np.ndarray, " prompt"]
    noise_std: float | None
    audit: Audit
    method: Method
    notes: tuple[str, ...]
    finished: Bool[np.ndarray, " prompt"]


class CausalInterrupted(KeyboardInterrupt):
    """Causal tracing that was stopped by hand.

    Attributes:
        readings: What was finished.
    """

    def __init__(self, readings: CausalReadings) -> None:
        n_done = int(readings.finished.sum())
        super().__init__(f"interrupted after {n_done} of {len(readings.finished)} prompts")
        self.readings = readings


OnFinished = Callable[[int, PromptCells], None]
"""Told a prompt's index and what was found of it; once more where everything is measured anew another way."""

OnCells = Callable[[int, int], None]
"""Told how many cells are done, and of how many."""


@dataclass(slots=True, kw_only=True)
class Collected:
    """What is collected of prompts while they run.

    Attributes:
        prompts: The prompts.
        windows: Which layers are patched together.
        n_layers: Layers of the model.
        n_draws: Corrupted runs of each prompt.
    """

    prompts: Sequence[CausalPrompt]
    windows: Windows
    n_layers: int
    n_draws: int
    clean: Float64[np.ndarray, "prompt 2"] = field(init=False)
    corrupted: Float64[np.ndarray, "prompt draw 2"] = field(init=False)
    is_patched: Bool[np.ndarray, " prompt"] = field(init=False)
    finished: Bool[np.ndarray, " prompt"] = field(init=False)
    _cells: dict[int, Float64[np.ndarray, "draw layer position 2"]] = field(init=False, default_factory=dict)
    _means: dict[int, tuple[np.ndarray, np.ndarray]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make room."""
        n_prompts = len(self.prompts)
        self.clean = np.full((n_prompts, 2), np.nan)
        self.corrupted = np.full((n_prompts, self.n_draws, 2), np.nan)
        self.is_patched = np.zeros(n_prompts, dtype=bool)
        self.finished = np.zeros(n_prompts, dtype=bool)

    def forget(self) -> None:
        """Begin anew."""
        self._cells.clear()
        self._means.clear()
        self.__post_init__()

    def choose_patched(self, min_total_effect: float) -> None:
        """Choose the prompts to which the corruption does enough."""
        effect = np.exp(self.clean[:, 0]) - np.exp(self.corrupted[:, :, 0]).mean(axis=1)
        self.is_patched = np.abs(effect) >= min_total_effect

    def fill(self, cases: Sequence[Case], found: FoundCells) -> None:
        """Take in what one position says of some cases."""
        number_of = {layers: number for number, layers in enumerate(found.windows)}
        for row, case in enumerate(cases):
            cells = self._room(case)
            for layer, layers in self.windows.of_layer.items():
                if layers in number_of:
                    cells[case.draw, layer, found.position] = found.patched[number_of[layers], row]

    def _room(self, case: Case) -> np.ndarray:
        shape = self.n_draws, self.n_layers, len(case.prompt.ids), 2
        return self._cells.setdefault(case.number, np.full(shape, np.nan))

    def cell(self, case: Case, layer: int, position: int) -> np.ndarray:
        """Log-probabilities of answer and contrast answer in one cell of an unfinished prompt, [2]."""
        found: np.ndarray = self._cells[case.number][case.draw, layer, position]
        return found

    def finish(self, number: int) -> PromptCells:
        """Take a prompt for finished, and what was found of it."""
        prompt = self.prompts[number]
        cells = self._cells.pop(number, None)
        if cells is None:
            nothing = np.full((self.n_layers, len(prompt.ids)), np.nan, dtype=np.float32)
            self._means[number] = nothing, nothing
        else:
            # Where neither answer has a probability there is no difference either.
            with np.errstate(invalid="ignore"):
                difference = (cells[..., 0] - cells[..., 1]).mean(axis=0)
            self._means[number] = np.exp(cells[..., 0]).mean(axis=0).astype(np.float32), difference.astype(np.float32)
        self.finished[number] = True
        prob, difference = self._means[number]
        return PromptCells(
            restored_prob=prob,
            restored_difference=difference,
            clean_log_prob=float(self.clean[number, 0]),
            corrupted_log_prob=self.corrupted[number, :, 0],
            clean_contrast_log_prob=float(self.clean[number, 1]),
            corrupted_contrast_log_prob=self.corrupted[number, :, 1],
        )

    def readings(
        self, *, noise_std: float | None, audit: Audit, method: Method, notes: Sequence[str]
    ) -> CausalReadings:
        """Everything that is there."""
        shape = len(self.prompts), self.n_layers, max(len(prompt.ids) for prompt in self.prompts)
        prob, difference = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
        for number, (own_prob, own_difference) in self._means.items():
            prob[number, :, : own_prob.shape[1]] = own_prob
            difference[number, :, : own_prob.shape[1]] = own_difference
        return CausalReadings(
            clean_log_prob=self.clean[:, 0],
            corrupted_log_prob=self.corrupted[:, :, 0],
            clean_contrast_log_prob=self.clean[:, 1],
            corrupted_contrast_log_prob=self.corrupted[:, :, 1],
            restored_prob=prob,
            restored_difference=difference,
            is_patched=self.is_patched,
            noise_std=noise_std,
            audit=audit,
            method=method,
            notes=tuple(notes),
            finished=self.finished,
        )
