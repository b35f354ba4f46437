"""Divisions of a traced model's layers: regions that behave alike, with names and intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer.advice import Divisions, Region
from layertracer.hybrids._divisions.region_names import WORDS, name_regions, spans_of, tell_apart
from layertracer.measures import MIN_UNITS, LayerDivision, divide_layers
from layertracer.runs import TraceRecord
from layertracer.tracing import LayerProfile

ERROR_RATE = 0.05
"""How often layers in a random order would be divided."""
_NOT_DIVIDED = "no division beats those of the layers in random orders"


def find_divisions(
    record: TraceRecord, profile: LayerProfile | None = None, *, n_resamples: int = 999, seed: int = 0
) -> Divisions:
    """Regions of a model's layers, by change points of what was measured of its layers.

    The measures are the readout's entropy, the JS divergence of the trace's first perturbation (mean over draws), the
    target's gain in log-probability, and, with a profile of the same prompts, KL(final ‖ readout) and CKA between
    layers. A trace out of a run folder will do; without a profile two of the five are missing, and `note` says so.

    Laws: one region where no division beats those of the layers in random orders; permuting prompts changes nothing.

    Args:
        record: A trace.
        profile: `profile_layers` of the same prompts, in the same order.
        n_resamples: How many shuffles of the layers, and how many resamples of the prompts.
        seed: What shuffles and resamples.

    Raises:
        UsageError: If the trace has no finished prompt, or the profile is of other prompts.
    """
    _check(record, profile)
    curves = _curves_of(record, profile)
    found = divide_layers(
        curves,
        None if profile is None else profile.hsic,
        level=1 - ERROR_RATE,
        n_resamples=n_resamples,
        seed=seed,
        sampling=record.sampling,
    )
    missing = () if profile is not None else ("kl_nats", "cka")
    note = _note_on(found, missing, n_resamples=n_resamples)
    return Divisions(
        regions=_regions_of(found, record.n_layers),
        curves=found.curves,
        units={name: WORDS[name].unit for name in found.curves},
        p=found.p,
        note=" ".join([note, *(() if profile is None else profile.notes)]),
        cka=found.cka,
    )


def _check(record: TraceRecord, profile: LayerProfile | None) -> None:
    if not record.n_prompts:
        raise UsageError("The trace finished no prompt, so that there is nothing to divide its layers by. Trace again.")
    if profile is not None and profile.kl_nats.shape != (record.n_prompts, record.n_layers):
        n_prompts, n_layers = profile.kl_nats.shape
        raise UsageError(
            f"The profile is of {n_prompts} prompts and {n_layers} layers, the trace of {record.n_prompts} and "
            f"{record.n_layers}. Profile the prompts that were traced, with the same model."
        )


def _curves_of(record: TraceRecord, profile: LayerProfile | None) -> dict[str, Float[np.ndarray, "prompt layer"]]:
    """The measures, one curve a prompt."""
    path = np.column_stack([record.embedding_log_prob, record.target_log_prob]).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a target that cannot come: not finite, and left out with that reason
        gain = np.diff(path, axis=1)
    curves = {
        "gain_nats": gain,
        "js_bits": record.js_bits.mean(axis=1, dtype=np.float64),
        "entropy_bits": record.entropy_bits.astype(np.float64),
    }
    return curves if profile is None else {**curves, "kl_nats": profile.kl_nats}


def _regions_of(found: LayerDivision, n_layers: int) -> tuple[Region, ...]:
    spans = spans_of(found, n_layers)
    if len(spans) == 1:
        return (
            Region(
                name="one region",
                first=0,
                last=n_layers - 1,
                first_interval=None,
                sets_apart=f"nothing: {_NOT_DIVIDED if found.curves else 'there is no measure to divide layers by'}",
            ),
        )
    names, apart = name_regions(found, spans), tell_apart(found, spans)
    return tuple(
        Region(name=name, first=first, last=last, first_interval=interval, sets_apart=said)
        for (first, last), name, interval, said in zip(spans, names, (None, *found.intervals), apart, strict=True)
    )


def _note_on(found: LayerDivision, missing: tuple[str, ...], *, n_resamples: int) -> str:
    """What must be said of a division."""
    rate = f"layers in a random order would be divided in {ERROR_RATE:.0%} of cases"
    said = [f"p = {found.p:.3g} beside {n_resamples} shuffles of the layers; {rate}."] if found.curves else []
    if found.n_regions > 1:
        said.append(f"The regions account for {found.explained:.0%} of what varies over layers.")
        if found.line_explained >= found.explained:
            said.append(
                f"Straight lines over depth account for {found.line_explained:.0%}: the layers change steadily, and "
                "boundaries cut a slope."
            )
        if all(interval is None for interval in found.intervals):
            said.append(f"Fewer than {MIN_UNITS} prompts, or sets of demonstrations: boundaries have no intervals.")
    elif found.p > ERROR_RATE:
        said.append("No division of the layers stands out.")
    said += [f"{WORDS[name].subject} took no part: {reason}." for name, reason in _sorted(found.left_out)]
    if missing:
        said.append(f"Not measured in this trace: {', '.join(WORDS[name].subject for name in missing)}.")
    return " ".join(said)


def _sorted(left_out: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(left_out.items())
