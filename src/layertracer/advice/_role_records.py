"""What layers do, and what gates over them would gain: regions, early exit, switching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from layertracer._types import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region of layers that behave alike.

    Attributes:
        name: What it does, in a few words.
        first: Its first layer.
        last: Its last.
        first_interval: Interval of where it begins; None for the first region.
        sets_apart: What sets it apart from the region before: measure, and by how much, in words.
    """

    name: str
    first: int
    last: int
    first_interval: Interval | None
    sets_apart: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Divisions:
    """Regions of layers, by change points.

    Attributes:
        regions: In order; a single one where no boundary stands out.
        curves: By measure: one value a layer, as it was divided.
        units: By measure.
        p: By how many of the shuffles of layers the division is matched or bettered.
        note: What must be said of it.
        cka: CKA between what leaves the layers, all pairs, which they were divided by; the curve "cka" has each layer
            with the one before it. None where it took no part.
    """

    regions: tuple[Region, ...]
    curves: Mapping[str, Float64[np.ndarray, " layer"]]
    units: Mapping[str, str]
    p: float
    note: str = ""
    cka: Float64[np.ndarray, "layer layer"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EarlyExit:
    """Leaving after a layer, on held-out prompts.

    Attributes:
        layers: The layers.
        agreement: Share of prompts whose readout there has the top token of the final answer.
        stays: Share whose readout agrees from there on.
        accuracy: Share solved by the readout there.
        full_accuracy: Share solved by the model.
        compute_saved: Share of the layers' arithmetic that leaving there saves.
        thresholds: Confidence thresholds that were chosen on other prompts.
        exit_layer: By threshold: mean layer at which prompts leave.
        threshold_agreement: By threshold: share that agrees with the final answer.
        threshold_accuracy: By threshold: share solved.
        threshold_saved: By threshold: share of the layers' arithmetic saved.
        agreement_interval: For each layer, low and high.
        threshold_agreement_interval: By threshold, low and high; None where there is no threshold.
        threshold_net_saved: By threshold: share of all arithmetic saved, the readouts on the way paid for; negative
            where they cost more than leaving saves. None likewise.
        threshold_net_saved_interval: By threshold, low and high. None likewise.
    """

    layers: tuple[int, ...]
    agreement: Float64[np.ndarray, " layer"]
    stays: Float64[np.ndarray, " layer"]
    accuracy: Float64[np.ndarray, " layer"]
    full_accuracy: float
    compute_saved: Float64[np.ndarray, " layer"]
    thresholds: tuple[float, ...]
    exit_layer: Float64[np.ndarray, " threshold"]
    threshold_agreement: Float64[np.ndarray, " threshold"]
    threshold_accuracy: Float64[np.ndarray, " threshold"]
    threshold_saved: Float64[np.ndarray, " threshold"]
    agreement_interval: Float64[np.ndarray, "layer 2"]
    threshold_agreement_interval: Float64[np.ndarray, "threshold 2"] | None = None
    threshold_net_saved: Float64[np.ndarray, " threshold"] | None = None
    threshold_net_saved_interval: Float64[np.ndarray, "threshold 2"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Switching:
    """Layers substituted only before, or only from, each prompt's particle on, measured.

    Attributes:
        before: What it costs to substitute all placeable layers below each prompt's particle: KL in nats, one a prompt
            that has a particle and is longer than the substitute sees.
        after: From it on.
        layers_before: How many layers were substituted, one a prompt.
        layers_after: Likewise.
        random: KL of as many layers as before, substituted anywhere, one a prompt: mean over draws.
        note: What it says, gains or none.
        random_after: Likewise of as many layers as after.
        prompts: Which prompts of the trace they are; None where that is not kept.
    """

    before: Float64[np.ndarray, " prompt"]
    after: Float64[np.ndarray, " prompt"]
    layers_before: Int64[np.ndarray, " prompt"]
    layers_after: Int64[np.ndarray, " prompt"]
    random: Float64[np.ndarray, " prompt"]
    note: str
    random_after: Float64[np.ndarray, " prompt"] | None = None
    prompts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What gates over layers would gain.

    Attributes:
        early_exit: Leaving early.
        switching: Substituting by the particle; None where no prompt has one.
        is_worth_it: Whether something is gained, by the interval.
        note: The answer in a sentence.
    """

    early_exit: EarlyExit
    switching: Switching | None
    is_worth_it: bool
    note: str
