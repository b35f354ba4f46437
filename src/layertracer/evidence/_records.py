"""What a validation consists of: readings, effects, agreement, controls, doses, variance, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval, LayerMeasure
from layertracer.evidence._causal_records import CausalRecord

Answer = Literal["yes", "no", "undecided", "not measured"]
"""What comes of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One of the referee's questions, and its answer.

    Attributes:
        question: A name: "threshold", "lens", "causal", "mask", "importance", "controls", "dose", "prompts",
            "templates", "dominant", "running_text", "false_positives", …
        asked: The question in words.
        answer: What comes of it.
        sentence: The answer with its numbers, and what they are over.
        caveat: What must be said beside it; "" where nothing must.
    """

    question: str
    asked: str
    answer: Answer
    sentence: str
    caveat: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleReading:
    """The task particle as one criterion finds it in what one lens reads.

    Attributes:
        lens: "logit", "tuned", "jacobian", "linear", …
        criterion: Name of the criterion.
        layer: Layer of the mean curve; None where none is found.
        interval: Its interval over prompts, or over demonstration sets; None where they are too few.
        share_found: Share of the prompts in which one is found.
        per_prompt: Layer of each prompt; None where none is found.
        false_positive_rate: Share of random targets on which it fires, being the answers of other prompts; NaN where
            that was not measured.
        false_positive_interval: Its interval (Wilson), each prompt counting once; None likewise.
        n_random: How many random targets that is of.
        random_token_rate: Share likewise of tokens drawn from all ordinary ones; NaN likewise.
        random_token_interval: Its interval; None likewise.
        n_random_tokens: How many tokens that is of.
    """

    lens: str
    criterion: str
    layer: int | None
    interval: Interval | None
    share_found: float
    per_prompt: tuple[int | None, ...]
    false_positive_rate: float = float("nan")
    false_positive_interval: Interval | None = None
    n_random: int = 0
    random_token_rate: float = float("nan")
    random_token_interval: Interval | None = None
    n_random_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteEffect:
    """JS divergence by layer at one site, on the task or on running text.

    Attributes:
        site: The site.
        rows: "task" or "text".
        js_bits: Mean over draws, [prompt, layer]; NaN at layers without the site.
        layer: The layer of the largest mean.
        is_clear: Whether it stands out at 95 %.
        contenders: Layers that cannot be told from it.
    """

    site: str
    rows: str
    js_bits: Float64[np.ndarray, "prompt layer"]
    layer: int
    is_clear: bool
    contenders: tuple[int, ...]

    @property
    def mean_js_bits(self) -> Float64[np.ndarray, " layer"]:
        """Mean over the prompts that have a number, [layer]; NaN at layers where none has."""
        is_there = ~np.isnan(self.js_bits)
        total = np.where(is_there, self.js_bits, 0.0).sum(axis=0)
        count = is_there.sum(axis=0)
        means: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return means


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far two things that were measured agree.

    Attributes:
        one: The one, e.g. "js_bits at mixer_output", "particle (logit, rise)".
        other: The other.
        family: Which hypotheses were corrected together: "layers" or "prompts".
        method: "spearman" or "pearson".
        value: The correlation; None where it is not defined (one of them constant, too few units).
        interval: Its interval at 95 %; None where it cannot be told.
        p: Its p-value; None likewise.
        p_holm: After Holm's correction over its family.
        n_units: How many layers or prompts that is of.
        units: "layers" (null hypothesis: circular shifts) or "prompts" (null hypothesis: permutations).
        note: What must be said of it; "" where nothing must.
    """

    one: str
    other: str
    family: str
    method: str
    value: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None
    n_units: int
    units: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The same measurement where nothing, or something else, should be found.

    Attributes:
        name: "arbitrary_labels", "shuffled_demonstrations", "reinitialised_model", "random_directions", …
        measured: What is compared: "particle", "js_bits at mixer_output", …
        expected: What should come out if the finding is real, in a few words.
        layer: The layer found in the control; None where none is.
        share_found: Share of the prompts in which a particle is found in the control; NaN where that is not the point.
        rank_correlation: Of the layers' curve with the true one's; None where it is not defined.
        value: The number that decides, in `unit`.
        true_value: The same number of the true measurement.
        unit: Their unit.
        passed: Whether it came out as expected; None where that cannot be told.
        sentence: The outcome in a sentence with its numbers.
    """

    name: str
    measured: str
    expected: str
    layer: int | None
    share_found: float
    rank_correlation: float | None
    value: float
    true_value: float
    unit: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DoseResponse:
    """The effect by how much is masked.

    Attributes:
        site: The site.
        fractions: Shares of the dimensions masked, ascending.
        js_bits: Mean over prompts and draws.
        layer: By fraction, the layer of the largest mean.
        rank_correlation: Of the layers' order with that at the reference fraction.
        reference: The reference fraction.
        without_dominant: Mean JS at the reference fraction where the dominant dimensions are never masked; None where
            that was not measured.
        only_dominant: Mean JS where they alone are masked; None likewise.
        n_dominant: How many dominant dimensions.
    """

    site: str
    fractions: tuple[float, ...]
    js_bits: Float64[np.ndarray, "fraction layer"]
    layer: tuple[int, ...]
    rank_correlation: Float64[np.ndarray, " fraction"]
    reference: float
    without_dominant: Float64[np.ndarray, " layer"] | None = None
    only_dominant: Float64[np.ndarray, " layer"] | None = None
    n_dominant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceShares:
    """Where the spread of a number comes from, in a crossed design.

    Attributes:
        of: What varies: "particle", "js_bits at mixer_output", …
        shares: By source ("prompts", "demonstrations", "templates", "draws", "rest"), adding up to 1.
        levels: By source, how many there were.
        note: What must be said; few levels say little of a variance.
    """

    of: str
    shares: Mapping[str, float]
    levels: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsNeeded:
    """How many prompts an interval of ±1 layer takes.

    Attributes:
        of: What for: "particle (logit, rise)", …
        n_prompts: How many; None where even the most that can be extrapolated to do not suffice.
        measured: By number of prompts, half the width of the interval in layers.
        note: How it was worked out, and how sure that is.
    """

    of: str
    n_prompts: int | None
    measured: Mapping[int, float]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LensQuality:
    """How well a lens reads a model, on text that it was not fitted on; layer −1, the embeddings, first.

    Attributes:
        lens: Its name.
        kl_nats: KL(final ‖ lens), mean over tokens.
        bias_nats: KL of the mean distributions, final ‖ lens.
        top1: Share of tokens at which the lens has the final output's top token.
        fallback: Layers at which the fitted lens was no better than the logit lens, which is used there.
        n_tokens: Tokens that were reported on.
    """

    lens: str
    kl_nats: Float64[np.ndarray, " row"]
    bias_nats: Float64[np.ndarray, " row"]
    top1: Float64[np.ndarray, " row"]
    fallback: tuple[int, ...]
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """A probe of what leaves a layer, beside a control task.

    Attributes:
        layer: The layer; −1 for the embeddings.
        kind: "linear" or "k_sparse".
        k: Dimensions that it may use; 0 for all.
        accuracy: On held-out prompts.
        interval: Its interval.
        control_accuracy: Of a probe of arbitrary labels, the same for equal words.
        selectivity: The one less the other.
        chance: What guessing would give.
        n_test: Held-out prompts.
    """

    layer: int
    kind: str
    k: int
    accuracy: float
    interval: Interval
    control_accuracy: float
    selectivity: float
    chance: float
    n_test: int


@dataclass(frozen=True, kw_only=True, eq=False)
class EvidenceRecord:
    """Everything that one call of `validate` found.

    Attributes:
        model: What is known of the model, as in a trace's record.
        task: What the prompts were made from, as in a trace's specification.
        n_prompts: How many prompts.
        solved_share: Share of them that the model solves.
        quick: Whether the short form was asked for.
        seed: The seed.
        verdicts: Each question with its answer.
        particles: Task particle by lens and criterion.
        target_prob: By lens, the target's mean probability, layer −1 first.
        effects: JS by site, on the task and on running text.
        importance: Other measures of a layer's importance, by name, on the task.
        text_importance: Likewise on running text; empty where there was none.
        causal: Causal tracing; None where it was not, or could not be, measured.
        causal_reason: Why there is none; "" where there is.
        agreements: All that was compared.
        controls: Measurements where nothing, or something else, should be found.
        doses: Effect by how much is masked.
        variance: Where the spread comes from.
        prompts_needed: How many prompts an interval of ±1 layer takes.
        lenses: How well each lens reads the model.
        probes: What can be read off the stream.
        gradient_fidelity: Correlation of the first-order estimate with the true effect, by what was estimated.
        provenance: As in a trace's record.
        spec: What was asked, as JSON values.
        notes: What must be said.
    """

    model: Mapping[str, Any]
    task: Mapping[str, Any]
    n_prompts: int
    solved_share: float
    quick: bool
    seed: int
    verdicts: tuple[Verdict, ...]
    particles: tuple[ParticleReading, ...]
    target_prob: Mapping[str, Float64[np.ndarray, " row"]]
    effects: tuple[SiteEffect, ...]
    importance: Mapping[str, LayerMeasure]
    text_importance: Mapping[str, LayerMeasure]
    causal: CausalRecord | None
    causal_reason: str
    agreements: tuple[Agreement, ...]
    controls: tuple[Control, ...]
    doses: tuple[DoseResponse, ...]
    variance: tuple[VarianceShares, ...]
    prompts_needed: tuple[PromptsNeeded, ...]
    lenses: tuple[LensQuality, ...]
    probes: tuple[Probing, ...]
    gradient_fidelity: Mapping[str, float]
    provenance: Mapping[str, Any]
    spec: Mapping[str, Any]
    notes: tuple[str, ...] = ()
