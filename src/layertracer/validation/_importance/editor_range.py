"""Layers that causal tracing would give an editor of facts, such as MEMIT.

MEMIT spreads an edit over the MLPs that causal tracing finds to carry a fact at the subject's last token (Meng et al.
2023). That edits work best where tracing points is disputed (Hase et al. 2023): this is the range that the method would
take, not advice to take it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.evidence import CausalRecord, sampling_of, units_of
from layertracer.measures import MIN_UNITS, Sampling, count_units, resample_mean_curves

NEAR_PEAK = 0.5
"""Share of the largest effect that a layer of the range has at least; its layers follow one another."""
_N_RESAMPLES, _LEVEL = 2000, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class EditorRange:
    """The layers that an editor would take.

    Attributes:
        first: The first of them; None where it is undecided.
        last: The last; likewise.
        peak: The layer of the largest mean effect; likewise.
        first_interval: Interval of the first over prompts; None where prompts are too few.
        last_interval: Likewise of the last.
        peak_interval: Likewise of the peak.
        n_prompts: How many prompts that is of.
        sentence: All of it in a sentence.
    """

    first: int | None
    last: int | None
    peak: int | None
    first_interval: Interval | None
    last_interval: Interval | None
    peak_interval: Interval | None
    n_prompts: int
    sentence: str


def editor_range(causal: CausalRecord, *, seed: int = 0) -> EditorRange:
    """The layers around the largest mean effect at the subject's last token whose effect is near it.

    The mean indirect effect of `mlp_output` at the last token of the subject, over prompts; the range is the layers
    about the peak, one after another, with at least `NEAR_PEAK` of its effect. It is undecided where prompts are too
    few, where the peak's effect cannot be told from 0, or where resampling prompts moves the peak out of the range in
    more than one resample in twenty.

    Args:
        causal: A causal trace at the site `mlp_output`.
        seed: Draws the resamples.

    Raises:
        UsageError: If the trace is of another site.
    """
    if causal.site != "mlp_output":
        raise UsageError(
            f"The range of an editor is read from MLPs, and this causal trace is of site={causal.site!r}. Trace with "
            "site='mlp_output'."
        )
    effects, sampling = _at_last_subject(causal)
    n, n_units = len(effects), count_units(sampling, len(effects))
    if n_units < MIN_UNITS:
        alike = "" if n_units == n else f" are of {n_units} different ones, which"
        return _undecided(n, f"{n} prompts{alike} are too few for an interval ({MIN_UNITS} at least)")
    first, peak, last = _range(effects.mean(axis=0))
    means = resample_mean_curves(effects, n_resamples=_N_RESAMPLES, seed=seed, sampling=sampling)
    ranges = np.array([_range(mean) for mean in means])
    intervals = [_interval(column) for column in ranges.T]
    low = float(np.quantile(means[:, peak], (1 - _LEVEL) / 2))
    if not low > 0:
        return _undecided(
            n, f"the largest mean effect, at layer {peak}, cannot be told from 0 over {n} prompts", intervals
        )
    moved = float(((ranges[:, 1] < first) | (ranges[:, 1] > last)).mean())
    if moved > 1 - _LEVEL:
        return _undecided(n, f"the peak leaves the range in {moved:.0%} of the resamples of {n} prompts", intervals)
    return EditorRange(
        first=first,
        last=last,
        peak=peak,
        first_interval=intervals[0],
        last_interval=intervals[2],
        peak_interval=intervals[1],
        n_prompts=n,
        sentence=(
            f"An editor such as MEMIT would take layers {first} to {last}: there the mean effect of restoring the MLP "
            f"at the subject's last token is at least {NEAR_PEAK:.0%} of its peak at layer {peak} (95 %, {n} prompts: "
            f"first {_said(intervals[0])}, last {_said(intervals[2])}, peak {_said(intervals[1])})."
        ),
    )


def _at_last_subject(causal: CausalRecord) -> tuple[Float64[np.ndarray, "prompt layer"], Sampling]:
    """The indirect effect of each layer at the subject's last token, of the prompts that have one; 0 without an MLP.

    And what of these prompts would be taken anew together.
    """
    effects, ends = causal.indirect_effect, causal.subject_spans[:, 1]
    rows = [row for row, end in enumerate(ends.tolist()) if end > 0 and not np.isnan(effects[row, :, end - 1]).all()]
    kept = np.array([effects[row, :, ends[row] - 1] for row in rows], dtype=np.float64)
    kept = kept.reshape(len(rows), causal.n_layers)
    lack_it = np.isnan(kept).all(axis=0)
    return np.where(lack_it, 0.0, kept), sampling_of(units_of(causal), np.array(rows, dtype=np.int64))


def _range(mean: Float64[np.ndarray, " layer"]) -> tuple[int, int, int]:
    """First layer, peak and last layer of the range."""
    peak = int(mean.argmax())
    is_near = mean >= NEAR_PEAK * mean[peak]
    first, last = peak, peak
    while first > 0 and is_near[first - 1]:
        first -= 1
    while last + 1 < len(mean) and is_near[last + 1]:
        last += 1
    return first, peak, last


def _interval(layers: Int[np.ndarray, " resample"]) -> Interval:
    low, high = np.quantile(layers, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="closest_observation")
    return Interval(low=float(low), high=float(high), level=_LEVEL)


def _said(interval: Interval) -> str:
    return f"{interval.low:.0f} to {interval.high:.0f}"


def _undecided(n: int, reason: str, intervals: list[Interval] | None = None) -> EditorRange:
    first, peak, last = intervals or (None, None, None)
    return EditorRange(
        first=None,
        last=None,
        peak=None,
        first_interval=first,
        last_interval=last,
        peak_interval=peak,
        n_prompts=n,
        sentence=f"Which layers an editor such as MEMIT would take is undecided: {reason}.",
    )
