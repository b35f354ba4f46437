"""What a comparison finds: frozen dataclasses of numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.measures import KindContrast

Quantity = Literal["mean_js_bits", "max_js_bits", "vulnerable_depth", "particle_depth"]
"""What is compared between models: JS divergence in bits, or relative depth in (0, 1]."""

Claim = Literal["deep_particles", "larger_is_more_robust"]
"""Task particles lie deep whatever the size and the mixer; larger models are more robust."""

Outcome = Literal["supported", "contradicted", "undecided"]
"""What these data say of a claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval over prompts and draws; None where there is one prompt or one random draw."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthCurve:
    """A mean curve over relative depth, with its interval at each depth: over prompts, for JS over draws too.

    Attributes:
        depth: Relative depths, ascending, shape [depth].
        mean: Mean over prompts; NaN where there is no value; shape [depth].
        low: Lower end of the interval, shape [depth]; NaN where there is none.
        high: Upper end, shape [depth]; likewise.
    """

    depth: Float[np.ndarray, " depth"]
    mean: Float[np.ndarray, " depth"]
    low: Float[np.ndarray, " depth"]
    high: Float[np.ndarray, " depth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleDepth:
    """Where one model's task particle lies, by one onset criterion through one lens.

    Attributes:
        lens: How layers are read, e.g. "logit".
        criterion: Name of the criterion, with the parameters that are not at their defaults.
        is_headline: Whether the verdict's headline rests on it: the first criterion asked for, else the runs' own.
        layer: Layer of the mean curve; None where none is found.
        depth: Its relative depth.
        interval: Interval of the depth over resamples of the prompts that find a layer; None where there is no layer,
            or too few prompts or resamples that find one.
        interval_share_found: Share of the resamples that find a layer.
        share_found: Share of the prompts on whose own curve a layer is found.
        share_deep: Share of the resamples that find a layer in which it lies deeper than `deep_depth`; None where none
            finds one.
    """

    lens: str
    criterion: str
    is_headline: bool
    layer: int | None
    depth: float | None
    interval: Interval | None
    interval_share_found: float
    share_found: float
    share_deep: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VulnerableDepth:
    """Where a model breaks most easily, and whether any layer stands out.

    Attributes:
        layer: The layer of the largest mean JS divergence.
        depth: Its relative depth.
        interval: From the first to the last of the contenders, in depth; None where few prompts or few
            random draws tell nothing.
        stability: Share of the resamples of prompts and draws in which it stays the largest.
        contenders: The layers that cannot be told from the largest.
    """

    layer: int
    depth: float
    interval: Interval | None
    stability: float
    contenders: tuple[int, ...]

    @property
    def is_clear(self) -> bool:
        """Whether the layer stands out; never where there is no interval."""
        return self.interval is not None and len(self.contenders) == 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSummary:
    """One model on relative depth.

    Attributes:
        label: Short name that tells it from the others.
        name: Name in the run.
        family: Within this family its size is compared with others'.
        fingerprint: Hash of its weights, as in its run.
        identity: Fingerprint, number of parameters and of layers that it counts under: equal for runs of one model,
            also where one of them is of an older version.
        n_parameters: Number of parameters.
        n_layers: Number of layers.
        mixers: Number of layers of every kind of mixer, most frequent first.
        n_prompts: Prompts that its numbers rest on.
        solved_share: Share of its finished prompts of which it gives the whole answer; None where none has an answer,
            or it is not known.
        begins_share: Share of those where its top token is the first followed one of the answer; None as above.
        mean_js: Mean JS divergence over layers that have the site, bits; None where no layer has it.
        max_js: Largest mean JS divergence of a layer, bits.
        vulnerable: Where that layer lies.
        profile: JS divergence on the grid of depths that all models share, bits.
        js_curve: JS divergence of its own layers, bits; NaN where a layer has not the site.
        target_curve: Probability of the target after each of its layers, through the logit lens.
        particles: Its task particle by every criterion.
    """

    label: str
    name: str
    family: str
    fingerprint: str
    identity: tuple[str, int, int]
    n_parameters: int
    n_layers: int
    mixers: Mapping[str, int]
    n_prompts: int
    solved_share: float | None
    begins_share: float | None
    mean_js: Estimate | None
    max_js: Estimate | None
    vulnerable: VulnerableDepth | None
    profile: DepthCurve | None
    js_curve: DepthCurve | None
    target_curve: DepthCurve
    particles: tuple[ParticleDepth, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far two models are apart in one quantity: second minus first.

    Attributes:
        quantity: What is compared.
        lens: Lens of a particle's depth; None for other quantities.
        criterion: Criterion of a particle's depth; None for other quantities.
        first: Value of the first model on the prompts of this pair; None where there is none.
        second: Value of the second model.
        value: second - first; None where either is missing.
        interval: Interval over resamples of prompts and of draws in which both have a value; None where there is none:
            too few prompts, one random draw, or, for the vulnerable layer, no layer that stands out in either model.
        share_found: Share of the resamples in which both have a value.
    """

    quantity: Quantity
    lens: str | None
    criterion: str | None
    first: float | None
    second: float | None
    value: float | None
    interval: Interval | None
    share_found: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairDifference:
    """Two models compared.

    Attributes:
        first: Label of the first model.
        second: Label of the second model.
        is_paired: Whether both are resampled over the same prompts; otherwise each over its own, independently. Draws
            are resampled too: together where both models have the same width and the same masks, else independently.
        n_shared: Prompts that both finished.
        n_first: Prompts of the first model that the numbers rest on.
        n_second: Prompts of the second model that the numbers rest on.
        differences: One for each quantity.
        profile: Difference of the JS divergence at each depth of the common grid, bits; None where a model has none.
    """

    first: str
    second: str
    is_paired: bool
    n_shared: int
    n_first: int
    n_second: int
    differences: tuple[Difference, ...]
    profile: DepthCurve | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingTrend:
    """How a quantity changes with the number of parameters, within families.

    Attributes:
        quantity: What is followed.
        lens: Lens of a particle's depth; None for other quantities.
        criterion: Criterion of a particle's depth; None for other quantities.
        n_models: Models that have a value, in families with at least two sizes.
        n_sizes: Sizes that are compared with another one of their family; several models of one size are one.
        n_families: Families with at least two sizes.
        n_prompts: Prompts of the model with the fewest.
        is_paired: Whether all models are resampled over the same prompts.
        slope: Slope of the logarithm over the logarithm of the number of parameters; None where there is none.
        interval: Interval of the slope over resamples of prompts, of draws and of the models of one size.
        tau: Kendall's tau-b over sizes; positive where larger models have higher values.
        p_value: Exact two-sided p-value of tau.
        least_p_value: The smallest p-value that so many sizes allow.
        note: What is missing, and why; None where nothing is.
    """

    quantity: Quantity
    lens: str | None
    criterion: str | None
    n_models: int
    n_sizes: int
    n_families: int
    n_prompts: int
    is_paired: bool
    slope: float | None
    interval: Interval | None
    tau: float | None
    p_value: float | None
    least_p_value: float | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerContrast:
    """Kinds of mixers inside one hybrid, at equal depth.

    Attributes:
        label: Label of the model.
        contrast: One kind against the others.
    """

    label: str
    contrast: KindContrast


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What these data say of a claim.

    Attributes:
        claim: The claim.
        statement: The claim in words.
        is_headline: Whether this is the verdict on the claim; others show what another criterion, lens or measure says.
        quantity: What the verdict rests on; None for a headline that joins several.
        lens: Lens of a particle's depth; None otherwise.
        criterion: Criterion of a particle's depth; None otherwise.
        outcome: "supported", "contradicted" or "undecided".
        reason: One or two sentences: why.
        statistic_name: What the statistic is.
        statistic: Its value; None where there is none.
        interval: Its interval; None where there is none.
        p_value: p-value of the test, where there is one.
        n_models: Different models that count.
        n_sizes: Different sizes among them; for a trend, those that are compared with another one of their family.
        n_prompts: Prompts of the counted model with the fewest; 0 where no model counts.
    """

    claim: Claim
    statement: str
    is_headline: bool
    quantity: Quantity | None
    lens: str | None
    criterion: str | None
    outcome: Outcome
    reason: str
    statistic_name: str
    statistic: float | None
    interval: Interval | None
    p_value: float | None
    n_models: int
    n_sizes: int
    n_prompts: int


def plain(value: Any) -> Any:
    """A result as JSON values: arrays as lists, NaN as None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
