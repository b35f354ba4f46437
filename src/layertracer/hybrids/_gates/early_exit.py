"""Early exit: from which layer on the readout gives the model's final answer, and what leaving there saves.

Agreement is not speed. The arithmetic counted here is that of the token that leaves; later tokens attend to keys and
values of all layers, which must be filled in or done without, and a readout costs arithmetic wherever it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from layertracer._types import Interval
from layertracer.advice import EarlyExit
from layertracer.measures import MIN_UNITS, Sampling, bootstrap_mean_curve, count_units, make_generator, wilson
from layertracer.runs import TraceRecord
from layertracer.tracing import LayerFlops

ASKED = (0.9, 0.95, 0.99)
"""Agreement with the final answer that thresholds are chosen for."""
LEAST_PROMPTS = 2 * MIN_UNITS
"""Prompts without which none are kept back."""
_GRID: NDArray[np.float64] = np.array([*(0.02 * step for step in range(1, 50)), 0.99, 0.995, 0.999, 0.9999]).round(4)
"""Thresholds that are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLook:
    """A gate that looks at one layer's readout and leaves there where it is confident enough, on held-out prompts.

    Attributes:
        layer: Where it looks.
        threshold: From which probability of the top token on it leaves.
        leaves: Share of the prompts that leave.
        agreement: Share whose token, wherever it was read, is the full model's.
        agreement_interval: Its interval.
        net_saved: Share of all arithmetic that is saved, the readouts that lead nowhere paid for.
        net_saved_interval: Its interval, over prompts.
    """

    layer: int
    threshold: float
    leaves: float
    agreement: float
    agreement_interval: Interval
    net_saved: float
    net_saved_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredExit:
    """What leaving early gains, as it is kept, and what is said of it.

    Attributes:
        kept: The record.
        one_look: The best gate of one look, chosen on other prompts for 95 % agreement; None where there is none.
        n_chosen_on: Prompts that thresholds were chosen on; 0 where there were too few to keep some back.
        n_held_out: Prompts of which everything is reported.
        unreached: Asked agreements that no threshold reaches on the prompts it would be chosen on.
        oracle_saved: Share of the layers' arithmetic that is saved where each prompt leaves at the layer from which on
            its readout agrees, as if that were known and told for nothing.
        oracle_interval: Its interval, over prompts; None where they are too few.
    """

    kept: EarlyExit
    one_look: OneLook | None
    n_chosen_on: int
    n_held_out: int
    unreached: tuple[float, ...]
    oracle_saved: float
    oracle_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readouts:
    """What readouts say of some prompts.

    Attributes:
        agrees: Whether a layer's top token is the final one, [prompt, layer].
        confidence: Probability of its top token.
        is_right: Whether it is the answer; NaN where none is followed.
        sampling: What of the prompts was sampled.
    """

    agrees: Bool[np.ndarray, "prompt layer"]
    confidence: Float[np.ndarray, "prompt layer"]
    is_right: Float[np.ndarray, "prompt layer"]
    sampling: Sampling

    def of(self, prompts: Int[np.ndarray, " some"]) -> _Readouts:
        """Of some prompts."""
        units = self.sampling.units
        return _Readouts(
            agrees=self.agrees[prompts],
            confidence=self.confidence[prompts],
            is_right=self.is_right[prompts],
            sampling=Sampling(units=None if units is None else tuple(units[one] for one in prompts.tolist())),
        )

    @property
    def stays(self) -> Bool[np.ndarray, "prompt layer"]:
        """Whether it is the final one from a layer on."""
        return np.asarray(np.logical_and.accumulate(self.agrees[:, ::-1], axis=1)[:, ::-1])

    def settled(self) -> Int[np.ndarray, " prompt"]:
        """First layer from which on the readout agrees."""
        return np.asarray(self.stays.argmax(axis=1))

    def exits(self, threshold: float) -> Int[np.ndarray, " prompt"]:
        """First layer whose readout is as confident as that; the last where none is."""
        confident = self.confidence >= threshold
        confident[:, -1] = True
        return np.asarray(confident.argmax(axis=1))


def measure_early_exit(record: TraceRecord, flops: LayerFlops, *, seed: int = 0) -> MeasuredExit:
    """What leaving a model early gains, by layer and by confidence threshold.

    Half of the prompts (whole sets of demonstrations) choose the thresholds: the least from which on at least the asked
    share agrees with the final answer. All that is reported is of the other half.

    Laws: after the last layer all agree and nothing is saved; agreement from a layer on never falls with depth.

    Args:
        record: A trace.
        flops: Of the model, for prompts of about this length.
        seed: What divides the prompts, and resamples them.
    """
    all_prompts = _read(record)
    chosen_on, held_out = _halves(all_prompts, seed)
    own, tuning = all_prompts.of(held_out), all_prompts.of(chosen_on)
    found = {asked: _choose_threshold(tuning, asked) for asked in ASKED} if len(chosen_on) else {}
    thresholds = sorted({one for one in found.values() if one is not None})
    costs = _Costs(flops)
    oracle = costs.saved[own.settled()]
    return MeasuredExit(
        kept=_record_of(own, thresholds, costs, seed=seed),
        one_look=_look_once(tuning, own, costs, seed=seed) if len(chosen_on) else None,
        n_chosen_on=len(chosen_on),
        n_held_out=len(held_out),
        unreached=tuple(asked for asked, one in found.items() if one is None),
        oracle_saved=float(oracle.mean()),
        oracle_interval=_mean_interval(oracle, own.sampling, seed),
    )


def _read(record: TraceRecord) -> _Readouts:
    top = record.top_ids[:, :, 0]
    is_right = (record.target_rank == 1).astype(np.float64)
    return _Readouts(
        agrees=top == top[:, -1:],
        confidence=record.top_prob[:, :, 0].astype(np.float64),
        is_right=is_right if record.spec.target == "answer" else np.full_like(is_right, np.nan),
        sampling=record.sampling,
    )


def _halves(readouts: _Readouts, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Prompts to choose on, and those that are held out: no set of demonstrations is in both."""
    n_prompts = len(readouts.agrees)
    units = np.arange(n_prompts) if readouts.sampling.units is None else np.asarray(readouts.sampling.units)
    distinct = np.unique(units)
    if len(distinct) < LEAST_PROMPTS:
        return np.zeros(0, np.intp), np.arange(n_prompts)
    chosen = make_generator(seed).permutation(distinct)[: len(distinct) // 2]
    is_chosen = np.isin(units, chosen)
    return np.flatnonzero(is_chosen), np.flatnonzero(~is_chosen)


def _choose_threshold(tuning: _Readouts, asked: float) -> float | None:
    """The least threshold from which on at least the asked share agrees with the final answer.

    None where there is none at which any prompt leaves.
    """
    rows, last = np.arange(len(tuning.agrees)), tuning.agrees.shape[1] - 1
    exits = [tuning.exits(one) for one in _GRID]
    agreement = np.array([tuning.agrees[rows, one].mean() for one in exits])
    reached = np.logical_and.accumulate((agreement >= asked)[::-1])[::-1]
    least = int(reached.argmax())
    return float(_GRID[least]) if reached.any() and bool((exits[least] < last).any()) else None


@dataclass(frozen=True, slots=True)
class _Costs:
    """What reading as far as a layer takes."""

    flops: LayerFlops

    @property
    def saved(self) -> Float[np.ndarray, " layer"]:
        """Share of the layers' arithmetic that leaving after each layer saves."""
        upward = self.flops.layers.cumsum()
        return np.asarray(np.maximum(1 - upward / upward[-1], 0.0))

    def net(self, exits: Int[np.ndarray, " prompt"], looks: Int[np.ndarray, " prompt"]) -> Float[np.ndarray, " prompt"]:
        """Share of all arithmetic that prompts save which leave after these layers, after so many readouts."""
        upward, readout = self.flops.layers.cumsum(), self.flops.readout
        return np.asarray(1 - (upward[exits] + looks * readout) / (upward[-1] + readout))


def _record_of(own: _Readouts, thresholds: Sequence[float], costs: _Costs, *, seed: int) -> EarlyExit:
    n_prompts, n_layers = own.agrees.shape
    rows = np.arange(n_prompts)
    exits = np.array([own.exits(one) for one in thresholds], dtype=np.intp).reshape(len(thresholds), n_prompts)
    agree = own.agrees[rows, exits]
    net = np.array([costs.net(one, one + 1) for one in exits]).reshape(len(thresholds), n_prompts)
    has_any = bool(thresholds)
    return EarlyExit(
        layers=tuple(range(n_layers)),
        agreement=own.agrees.mean(axis=0),
        stays=own.stays.mean(axis=0),
        accuracy=own.is_right.mean(axis=0),
        full_accuracy=float(own.is_right[:, -1].mean()),
        compute_saved=costs.saved,
        thresholds=tuple(thresholds),
        exit_layer=exits.mean(axis=1),
        threshold_agreement=agree.mean(axis=1),
        threshold_accuracy=own.is_right[rows, exits].mean(axis=1),
        threshold_saved=costs.saved[exits].mean(axis=1),
        agreement_interval=_share_intervals(own.agrees, own.sampling, seed),
        threshold_agreement_interval=_share_intervals(agree.T, own.sampling, seed) if has_any else None,
        threshold_net_saved=net.mean(axis=1) if has_any else None,
        threshold_net_saved_interval=_mean_intervals(net.T, own.sampling, seed) if has_any else None,
    )


def _share_intervals(
    hits: Bool[np.ndarray, "prompt item"], sampling: Sampling, seed: int
) -> Float[np.ndarray, "item 2"]:
    """Interval of each share; where prompts share demonstrations, as wide at the least as over sets of them."""
    intervals = [wilson(int(n_hits), len(hits)) for n_hits in hits.sum(axis=0)]
    found = np.array([(one.low, one.high) for one in intervals]).reshape(-1, 2)
    if sampling.units is None:
        return found
    by_set = _mean_intervals(hits.astype(np.float64), sampling, seed)
    return np.stack([np.minimum(found[:, 0], by_set[:, 0]), np.maximum(found[:, 1], by_set[:, 1])], axis=1)


def _mean_intervals(
    values: Float[np.ndarray, "prompt item"], sampling: Sampling, seed: int
) -> Float[np.ndarray, "item 2"]:
    """Interval of each mean over prompts."""
    return np.stack(bootstrap_mean_curve(values, seed=seed, sampling=sampling), axis=1)


def _mean_interval(values: Float[np.ndarray, " prompt"], sampling: Sampling, seed: int) -> Interval | None:
    """Interval of a mean over prompts; None where they are too few."""
    if count_units(sampling, len(values)) < MIN_UNITS:
        return None
    ((low, high),) = _mean_intervals(values[:, None], sampling, seed)
    return Interval(low=float(low), high=float(high))


def _look_once(tuning: _Readouts, own: _Readouts, costs: _Costs, *, seed: int) -> OneLook | None:
    """The gate that saves most on prompts that it is chosen on, at 95 % agreement there, on the others."""
    best: tuple[float, int, float] | None = None
    for layer in range(tuning.agrees.shape[1] - 1):
        for threshold in _GRID.tolist():
            net, agrees, _ = _of_one_look(tuning, layer, threshold, costs)
            if agrees.mean() >= ASKED[1] and (best is None or net.mean() > best[0]):
                best = float(net.mean()), layer, threshold
    if best is None or best[0] <= 0:
        return None
    _, layer, threshold = best
    net, agrees, leaves = _of_one_look(own, layer, threshold, costs)
    (agreement,) = _share_intervals(agrees[:, None], own.sampling, seed)
    saved = _mean_interval(net, own.sampling, seed)
    assert saved is not None  # enough prompts are held out where others are chosen on
    return OneLook(
        layer=layer,
        threshold=threshold,
        leaves=float(leaves.mean()),
        agreement=float(agrees.mean()),
        agreement_interval=Interval(low=float(agreement[0]), high=float(agreement[1])),
        net_saved=float(net.mean()),
        net_saved_interval=saved,
    )


def _of_one_look(
    readouts: _Readouts, layer: int, threshold: float, costs: _Costs
) -> tuple[Float[np.ndarray, " prompt"], Bool[np.ndarray, " prompt"], Bool[np.ndarray, " prompt"]]:
    """Of each prompt: what it saves, whether its token is the full model's, and whether it leaves."""
    leaves = readouts.confidence[:, layer] >= threshold
    exits = np.where(leaves, layer, readouts.agrees.shape[1] - 1)
    net = costs.net(exits, np.where(leaves, 1, 2))
    return net, readouts.agrees[:, layer] | ~leaves, leaves
