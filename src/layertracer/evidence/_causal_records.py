"""What causal tracing found: every cell of layer and position, what was left out, and effects with their intervals.

Probabilities are of the answer's followed token, see `Sample`. A *cell* is one layer and one position of one prompt, at
which a value of the one run is put into the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from layertracer._types import Audit, Interval

Corruption = Literal["noise", "swap"]
"""How the corrupted run comes about: noise on the subject's embeddings, or the contrast prompt."""

Direction = Literal["denoise", "noise"]
"""Clean values into the corrupted run, or corrupted ones into the clean run."""

TokenRole = Literal["first_subject", "middle_subject", "last_subject", "first_subsequent", "further", "last"]
"""What a position is to its prompt; where one is several of these, the last named of them that it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedSample:
    """A sample that could not be used, and why.

    Attributes:
        prompt: Its index, as given.
        reason: "unsolved", "small_effect", "lengths_differ", "no_subject", "no_contrast", "no_answer", "too_long", …
        explanation: The same in a sentence, with its numbers.
    """

    prompt: int
    reason: str
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitDifference:
    """log P(answer) − log P(contrast answer), nats; NaN where there is no contrast answer.

    Attributes:
        clean: Of the clean run.
        corrupted: Of the corrupted run, the mean over draws.
        restored: With one cell patched, the mean over draws.
    """

    clean: Float32[np.ndarray, " prompt"]
    corrupted: Float32[np.ndarray, " prompt"]
    restored: Float32[np.ndarray, "prompt layer position"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoleEffects:
    """Mean effect by layer and by what a position is to its prompt, over the prompts that have such a position.

    Attributes:
        roles: The roles, in order.
        mean: Mean over prompts of each one's mean over its positions of that role.
        low: Lower end of its interval at 95 %, resampling prompts; NaN where they are too few.
        high: Upper end.
        n_prompts: How many prompts have a position of each role.
    """

    roles: tuple[str, ...]
    mean: Float64[np.ndarray, "role layer"]
    low: Float64[np.ndarray, "role layer"]
    high: Float64[np.ndarray, "role layer"]
    n_prompts: Int64[np.ndarray, " role"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CausalRecord:
    """Everything that one call of `causal_trace` found.

    Attributes:
        model: What is known of the model, as in a trace's record.
        corrupt: How the corrupted run came about.
        direction: What was put into what.
        site: Where inside the layer.
        window: How many layers were patched together.
        n_draws: Draws of noise; 1 with "swap".
        noise_scale: Standard deviation of the noise, in those of the subjects' embeddings; None with "swap".
        noise_std: The same in the embeddings' own units; None with "swap".
        seed: Seed of the noise, the resamples, and of what the audit draws.
        clean_prob: The answer's probability in the clean run; NaN where the sample is excluded before it ran.
        corrupted_prob: In the corrupted run, the mean over draws.
        restored_prob: With the values of one cell put from one run into the other, the mean over draws; NaN where
            nothing was corrupted before or at it, beyond a prompt's end, and in excluded samples.
        logit_difference: log P(answer) − log P(contrast answer) of the same runs; None where no sample has a contrast
            answer.
        subject_spans: First and last but one positions of what is corrupted, [prompt, 2]; −1 where there is none.
        lengths: Tokens of each prompt.
        token_texts: Text of every token, one tuple a prompt; empty where there is no tokenizer.
        excluded: Samples that could not be used, in order.
        by_role: Mean indirect effect by layer and role.
        recovery_by_role: Mean recovery likewise; of logit differences where all samples have them.
        total_effect_interval: Interval of the mean total effect, over prompts; None where they are too few.
        audit: What was measured again the plain way.
        method: How cells were computed: "ladder" or "plain".
        provenance: As in a trace's record.
        spec: What was asked, as JSON values.
        notes: What must be said.
    """

    model: Mapping[str, Any]
    corrupt: str
    direction: str
    site: str
    window: int
    n_draws: int
    noise_scale: float | None
    noise_std: float | None
    seed: int
    clean_prob: Float32[np.ndarray, " prompt"]
    corrupted_prob: Float32[np.ndarray, " prompt"]
    restored_prob: Float32[np.ndarray, "prompt layer position"]
    logit_difference: LogitDifference | None
    subject_spans: Int64[np.ndarray, "prompt 2"]
    lengths: Int64[np.ndarray, " prompt"]
    token_texts: tuple[tuple[str, ...], ...]
    excluded: tuple[ExcludedSample, ...]
    by_role: RoleEffects
    recovery_by_role: RoleEffects
    total_effect_interval: Interval | None
    audit: Audit
    method: str
    provenance: Mapping[str, Any]
    spec: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return int(self.restored_prob.shape[1])

    @property
    def total_effect(self) -> Float32[np.ndarray, " prompt"]:
        """Clean less corrupted probability."""
        effect: np.ndarray = self.clean_prob - self.corrupted_prob
        return effect

    @property
    def indirect_effect(self) -> Float32[np.ndarray, "prompt layer position"]:
        """What the patch of one cell does: restored − corrupted; with direction "noise", clean − restored."""
        effect: np.ndarray = self.restored_prob - self.corrupted_prob[:, None, None]
        if self.direction == "noise":
            effect = self.clean_prob[:, None, None] - self.restored_prob
        return effect

    @property
    def recovery(self) -> Float32[np.ndarray, "prompt layer position"]:
        """(restored − corrupted) / (clean − corrupted); of logit differences where all samples have them."""
        part = self.logit_difference
        if part is None or np.isnan(part.clean[~np.isnan(self.clean_prob)]).any():
            clean, corrupted, restored = self.clean_prob, self.corrupted_prob, self.restored_prob
        else:
            clean, corrupted, restored = part.clean, part.corrupted, part.restored
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = (restored - corrupted[:, None, None]) / (clean - corrupted)[:, None, None]
        return np.where(np.isfinite(shares), shares, np.nan).astype(np.float32)
