"""The task particle by lens and criterion, and how often each criterion fires on tokens that are not the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from layertracer._types import Interval
from layertracer.evidence import ParticleReading
from layertracer.measures import (
    NONE_FOUND,
    ONSET_NAMES,
    Sampling,
    TargetCurves,
    find_task_particle,
    onset_from_name,
    wilson,
)
from layertracer.validation._stages.keeping import Found
from layertracer.validation._stages.readings import LOGIT

CRITERIA: tuple[str, ...] = ONSET_NAMES
"""All criteria, at their defaults."""


def curves_of_trace(trace: Found) -> TargetCurves:
    """The target's curves as the trace read them through the logit lens, [prompt, layer]."""
    return TargetCurves(
        log_prob=trace.arrays["target_log_prob"],
        embedding_log_prob=trace.arrays["embedding_log_prob"],
        top1_share=(trace.arrays["target_rank"] == 1).astype(np.float64),
    )


def curves_of_readings(found: Found) -> TargetCurves:
    """The answer's curves as a lens read them, [prompt, layer]."""
    log_prob, is_top = found.arrays["log_prob"], found.arrays["is_top"]
    return TargetCurves(log_prob=log_prob[:, 1:], embedding_log_prob=log_prob[:, 0], top1_share=is_top[:, 1:])


def find_particles(
    trace: Found, readings: Mapping[str, Found], *, units: Sequence[int] | None, seed: int
) -> tuple[ParticleReading, ...]:
    """Every criterion on what every lens reads; the logit lens as the trace read it.

    Args:
        trace: The joint trace.
        readings: What lenses read, by name, without those of which nothing could be measured.
        units: What would be taken anew together.
        seed: Seed of the resamples.
    """
    sampling = Sampling(units=None if units is None else tuple(units))
    found = []
    for lens in (LOGIT, *(name for name in readings if name != LOGIT)):
        curves = curves_of_trace(trace) if lens == LOGIT else curves_of_readings(readings[lens])
        for name in CRITERIA:
            particle = find_task_particle(curves, onset_from_name(name), seed=seed, sampling=sampling)
            reading = ParticleReading(
                lens=lens,
                criterion=name,
                layer=particle.layer,
                interval=particle.interval,
                share_found=particle.share_found,
                per_prompt=particle.per_prompt,
                **_false_positives(readings.get(lens), name),
            )
            found.append(reading)
    return tuple(found)


def _false_positives(found: Found | None, criterion: str) -> dict[str, Any]:
    """How often a criterion fires on random targets, over prompts; nothing where none were read."""
    if found is None:
        return {}
    fired, is_other, is_there = fire_on_random(found, criterion)
    rates = {"false_positive": is_other, "random_token": is_there & ~is_other}
    numbers: dict[str, Any] = {"n_random": int((is_there & is_other).sum())}
    numbers["n_random_tokens"] = int((is_there & ~is_other).sum())
    for name, which in rates.items():
        of = which & is_there
        if of.any():
            rate = float(fired[of].mean())
            numbers[f"{name}_rate"] = rate
            numbers[f"{name}_interval"] = over_prompts(rate, int(of.any(axis=1).sum()))
    return numbers


def over_prompts(rate: float, n_prompts: int) -> Interval:
    """Wilson's interval of a share of targets, each prompt counting as one observation of it.

    The targets of a prompt are read from the same distributions, and so count once together: wider than their number
    would have it, and never too narrow.
    """
    found = rate * n_prompts
    below, above = wilson(math.floor(found), n_prompts), wilson(math.ceil(found), n_prompts)
    return Interval(low=below.low, high=above.high, level=below.level)


def fire_on_random(
    found: Found, criterion: str
) -> tuple[Bool[np.ndarray, "prompt target"], Bool[np.ndarray, "prompt target"], Bool[np.ndarray, "prompt target"]]:
    """Whether a criterion fires on each random target, which are other prompts' answers, and which are there at all."""
    log_prob, is_top = found.arrays["random_log_prob"], found.arrays["random_is_top"]
    is_there = np.isfinite(log_prob).all(axis=2) | (log_prob == -np.inf).any(axis=2)
    filled = np.where(np.isnan(log_prob), 0.0, log_prob)
    curves = TargetCurves(log_prob=filled[..., 1:], embedding_log_prob=filled[..., 0], top1_share=is_top[..., 1:])
    layers: Int[np.ndarray, "prompt target"] = onset_from_name(criterion).find(curves)
    place = np.arange(log_prob.shape[1])
    return (layers != NONE_FOUND) & is_there, (place < found.arrays["n_others"][:, None]) & is_there, is_there


def mean_target_prob(trace: Found, readings: Mapping[str, Found]) -> dict[str, Float[np.ndarray, " row"]]:
    """By lens, the target's mean probability, from the embeddings on."""
    curves = {name: curves_of_readings(found) for name, found in readings.items() if name != LOGIT}
    curves = {LOGIT: curves_of_trace(trace), **curves}
    return {name: np.concatenate((one.mean().embedding_prob[None], one.mean().prob)) for name, one in curves.items()}
