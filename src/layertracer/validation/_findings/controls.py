"""Whether controls came out as they should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from layertracer._types import Site
from layertracer.evidence import Control
from layertracer.measures import (
    NONE_FOUND,
    Correlation,
    OnsetCriterion,
    Rise,
    TargetCurves,
    correlate_layers,
    paired_change,
)
from layertracer.validation._findings.agreements import js_name
from layertracer.validation._findings.effects import js_of
from layertracer.validation._findings.particles import curves_of_readings, curves_of_trace
from layertracer.validation._stages.keeping import Found

ARBITRARY, SHUFFLED = "arbitrary_labels", "shuffled_demonstrations"
REINITIALISED, DIRECTIONS = "reinitialised_model", "random_directions"
CONTROLS = (ARBITRARY, SHUFFLED, REINITIALISED, DIRECTIONS)

_HALF = 0.5
_MOST_P = 0.05

_WITH: Mapping[str, str] = {
    ARBITRARY: "With answers exchanged among the prompts, and among the demonstrations",
    SHUFFLED: "With the answers of the demonstrations exchanged",
    REINITIALISED: "With weights drawn anew",
}
_EXPECTED: Mapping[str, str] = {
    ARBITRARY: "a particle in fewer prompts: there is no such answer to be found",
    SHUFFLED: "a particle in fewer prompts, if the demonstrations are what tells the task",
    REINITIALISED: "a particle in fewer prompts: nothing was learnt",
}


def judge_controls(
    trace: Found, found: Mapping[str, Found], *, units: Sequence[int] | None, seed: int
) -> tuple[Control, ...]:
    """Every control that was measured, with its outcome.

    Args:
        trace: The joint trace.
        found: What the stages of the controls found, by name; those of which nothing was measured are left out.
        units: What of the prompts would be taken anew together.
        seed: Seed of the resamples.
    """
    controls: list[Control] = []
    for name in CONTROLS:
        if name not in found or found[name].why_not:
            continue
        if name == DIRECTIONS:
            controls += _directions(trace, found[name], units=units, seed=seed)
            continue
        curves = curves_of_trace if name == REINITIALISED else curves_of_readings
        controls.append(_particle(name, curves_of_trace(trace), curves(found[name])))
        if name == REINITIALISED:
            controls += _new_weights(trace, found[name], units=units, seed=seed)
    return tuple(controls)


def _particle(name: str, true: TargetCurves, control: TargetCurves) -> Control:
    """Whether a particle is found in fewer prompts."""
    criterion: OnsetCriterion = Rise()
    n = len(control.log_prob)
    first = TargetCurves(
        log_prob=true.log_prob[:n], embedding_log_prob=true.embedding_log_prob[:n], top1_share=true.top1_share[:n]
    )
    here, there = _found(criterion, control), _found(criterion, first)
    change, interval = paired_change(here, there)
    layer = int(criterion.find(control.mean()))
    passed = True if interval.high < 0 else False if change >= 0 and there.any() else None
    told = "" if passed is not None else "; that is too few to tell" if there.any() else "; there is nothing to compare"
    return Control(
        name=name,
        measured="particle",
        expected=_EXPECTED[name],
        layer=None if layer == NONE_FOUND else layer,
        share_found=float(here.mean()),
        rank_correlation=None,
        value=float(here.mean()),
        true_value=float(there.mean()),
        unit="share of prompts",
        passed=passed,
        sentence=f"{_WITH[name]}, Rise finds a particle in {int(here.sum())} of {n} prompts, against "
        f"{int(there.sum())} without (change {change:+.2f}, 95 % interval {interval.low:+.2f} to "
        f"{interval.high:+.2f}){told}.",
    )


def _found(criterion: OnsetCriterion, curves: TargetCurves) -> Bool[np.ndarray, " prompt"]:
    return np.asarray(criterion.find(curves) != NONE_FOUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """JS by layer of a control beside the true one, on the same prompts.

    Attributes:
        own: Of the control.
        true: Of the trace.
        found: Their correlation over layers.
    """

    own: Float64[np.ndarray, "prompt layer"]
    true: Float64[np.ndarray, "prompt layer"]
    found: Correlation

    @property
    def layer(self) -> int:
        """The layer of the control's largest mean."""
        return int(np.nanargmax(self.own.mean(axis=0)))

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the correlation's interval; all that it can be where there is none."""
        interval = self.found.interval
        return (-1.0, 1.0) if interval is None else (interval.low, interval.high)

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the layers agree more than curves do that are merely smooth."""
        return self.found.p is not None and self.found.p <= _MOST_P

    @property
    def words(self) -> str:
        """The correlation in words."""
        if self.found.value is None:
            return f"the rank correlation of the layers is not defined ({self.found.note})"
        low, high = self.ends
        told = f", 95 % interval {low:+.2f} to {high:+.2f}" if self.found.interval is not None else ""
        p = "" if self.found.p is None else f", p {self.found.p:.2g}"
        return (
            f"the rank correlation of the layers is {self.found.value:+.2f}{told}{p}, over {self.found.n_units} layers "
            f"and {len(self.own)} prompts"
        )


def _order(trace: Found, control: Found, site: Site, *, units: Sequence[int] | None, seed: int) -> _Order:
    own = js_of(control, site)
    true = js_of(trace, site)[: len(own)]
    first = None if units is None else list(units)[: len(own)]
    return _Order(own=own, true=true, found=correlate_layers(own, true, units=first, seed=seed))


def _new_weights(trace: Found, control: Found, **settings: Any) -> Iterator[Control]:
    """Whether layers have another order of JS where nothing was learnt."""
    for site in control.facts["sites"]:
        if site not in trace.facts["sites"]:
            continue
        order = _order(trace, control, site, **settings)
        low, high = order.ends
        yield Control(
            name=REINITIALISED,
            measured=js_name(site),
            expected="another order of layers: one that comes of the form alone was not learnt",
            layer=order.layer,
            share_found=float("nan"),
            rank_correlation=order.found.value,
            value=float("nan") if order.found.value is None else order.found.value,
            true_value=1.0,
            unit="correlation",
            passed=True if high < _HALF else False if low > _HALF and order.is_beyond_chance else None,
            sentence=f"{_WITH[REINITIALISED]}, at {site}, {order.words}; the largest effect is at layer {order.layer}, "
            f"in truth at {trace.facts['sites'][site]['layer']}.",
        )


def _directions(trace: Found, control: Found, **settings: Any) -> Iterator[Control]:
    """Whether random directions of equal norm find the same layers as masks."""
    for name in control.arrays:
        site = name.removeprefix("js_bits.")
        order, said = _order(trace, control, site, **settings), trace.facts["sites"][site]
        low, high = order.ends
        is_there = order.layer in said["contenders"]
        agrees = is_there and low > 0 and order.is_beyond_chance
        passed = True if agrees else False if high < _HALF and not is_there else None
        value, true = (float(curve.mean(axis=0)[said["layer"]]) for curve in (order.own, order.true))
        yield Control(
            name=DIRECTIONS,
            measured=js_name(site),
            expected="the same layers: what a mask finds is the layer's and not the mask's",
            layer=order.layer,
            share_found=float("nan"),
            rank_correlation=order.found.value,
            value=value,
            true_value=true,
            unit="bits",
            passed=passed,
            sentence=f"At {site}, Gaussian directions as long as what the mask takes away give {value:.3f} bits at "
            f"layer {said['layer']}, the mask {true:.3f}; {order.words}; their largest effect is at layer "
            f"{order.layer}, {'one of' if is_there else 'none of'} the mask's contenders.",
        )
