"""The task particle by lens and criterion, and how often each criterion fires on tokens that are not the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from layertracer.evidence import ParticleReading
from layertracer.measures import (
    ONSET_NAMES,
    Sampling,
    TargetCurves,
    find_task_particle,
    fire_rates,
    onset_from_name,
)
from layertracer.validation._stages.keeping import Found
from layertracer.validation._stages.readings import LOGIT, N_OTHERS

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
    """How often a criterion fires on random targets, over prompts; nothing where none were read.

    Of a prompt as many targets count as the one with fewest has.
    """
    if found is None or len(found.arrays["n_others"]) < 2:
        return {}
    n_others, n_kept = found.arrays["n_others"], found.arrays["random_log_prob"].shape[1] - N_OTHERS
    kinds = {
        "false_positive": ([list(range(int(n_others.min())))] * len(n_others), "n_random"),
        "random_token": ([list(range(int(n), int(n) + n_kept)) for n in n_others], "n_random_tokens"),
    }
    numbers: dict[str, Any] = {}
    for name, (places, counted) in kinds.items():
        curves = _curves_at(found, np.array(places, dtype=np.int64))
        if curves is not None:
            rate = fire_rates(curves, {criterion: onset_from_name(criterion)})[criterion]
            numbers |= {f"{name}_rate": rate.rate, f"{name}_interval": rate.interval, counted: rate.n_curves}
    return numbers


def _curves_at(found: Found, places: Int[np.ndarray, "prompt token"]) -> TargetCurves | None:
    """Curves of some random targets of every prompt; None where there are none, or not so many."""
    if not places.size:
        return None
    log_prob, is_top = (
        np.take_along_axis(found.arrays[name], places[:, :, None], axis=1)
        for name in ("random_log_prob", "random_is_top")
    )
    if np.isnan(log_prob).any():
        return None
    return TargetCurves(log_prob=log_prob[..., 1:], embedding_log_prob=log_prob[..., 0], top1_share=is_top[..., 1:])


def mean_target_prob(trace: Found, readings: Mapping[str, Found]) -> dict[str, Float[np.ndarray, " row"]]:
    """By lens, the target's mean probability, from the embeddings on."""
    curves = {name: curves_of_readings(found) for name, found in readings.items() if name != LOGIT}
    curves = {LOGIT: curves_of_trace(trace), **curves}
    return {name: np.concatenate((one.mean().embedding_prob[None], one.mean().prob)) for name, one in curves.items()}
