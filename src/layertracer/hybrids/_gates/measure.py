"""Gates over layers: leaving early, and switching to substitutes by the task particle, each put to the test."""

from __future__ import annotations

import numpy as np

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.advice import Gates
from layertracer.hybrids._gates.early_exit import LEAST_PROMPTS, MeasuredExit, measure_early_exit
from layertracer.hybrids._gates.switching import N_DRAWS, measure_switching
from layertracer.runs import TraceRecord
from layertracer.tracing import LayerFlops, Substituter, TracedModel, layer_flops

_LEAST_AGREEMENT = 0.9
"""What the interval of agreement must lie above for a gate to count as one that gives the model's answer."""


def measure_gates(
    model: TracedModel,
    record: TraceRecord,
    substituter: Substituter | None = None,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Gates:
    """What gates over a model's layers would gain, on the prompts of a trace.

    Leaving early is worth it where a gate that looks once, chosen on half of the prompts for 95 % agreement, saves
    arithmetic on the other half (readouts paid for) and agrees there in 90 % or more, both by the lower end of the
    interval. Switching is where substitutes on one side of each prompt's particle cost less than as many anywhere and
    less than at the other prompts' particles, without which a fixed placement does the same.

    Args:
        model: The model that was traced.
        record: The trace; its readouts are what early exit is told from.
        substituter: What is switched to; None to leave switching out.
        n_draws: Placements of random layers that switching is held against, for each particle.
        seed: What divides the prompts, draws the placements and resamples.

    Raises:
        UsageError: If the trace has no finished prompt, or is of another model.
        Whatever the substituter raises.
    """
    if not record.n_prompts or record.n_layers != model.anatomy.n_layers:
        raise UsageError(
            f"Gates are measured on the finished prompts of a trace of {model.name!r}, got {record.n_prompts} prompts "
            f"and {record.n_layers} layers (the model has {model.anatomy.n_layers}). Trace it again."
        )
    length = int(np.median([len(prompt.prompt_ids) for prompt in record.prompts]))
    flops = layer_flops(model.cost_probe, n_tokens=length)
    leaving = measure_early_exit(record, flops, seed=seed)
    switched = None if substituter is None else measure_switching(record, substituter, n_draws=n_draws, seed=seed)
    is_worth_leaving, said = _say_of_leaving(leaving, flops)
    gains = is_worth_leaving
    if isinstance(switched, str):
        said, kept = f"{said} {switched}", None
    elif switched is not None:
        gains, kept = gains or switched.gains, switched.kept
        said = f"{said} {kept.note}"
    else:
        kept = None
    return Gates(
        early_exit=leaving.kept,
        switching=kept,
        is_worth_it=gains,
        note=f"{'Something is gained' if gains else 'No gain is sure'}. {said}",
    )


def _say_of_leaving(found: MeasuredExit, flops: LayerFlops) -> tuple[bool, str]:
    """Whether leaving early is worth it, and what there is to say."""
    free = f"{found.oracle_saved:.1%}{_between(found.oracle_interval)}"
    readout = flops.readout / flops.layers.mean()
    knows = "A predictor that is free and knows from which layer on the readout gives the final answer would save"
    said = [
        f"{knows} {free} of the layers' arithmetic on {found.n_held_out} prompts.",
        f"A readout takes as much arithmetic as {readout:.1f} layers.",
    ]
    if not found.n_chosen_on:
        said.append(f"Fewer than {LEAST_PROMPTS} prompts, or sets of demonstrations: no threshold was chosen.")
    if found.unreached:
        asked = ", ".join(f"{one:.0%}" for one in found.unreached)
        said.append(f"No confidence threshold at which prompts leave gives {asked} agreement where it would be chosen.")
    look, is_worth_it = found.one_look, False
    if look is not None:
        is_worth_it = look.net_saved_interval.low > 0 and look.agreement_interval.low >= _LEAST_AGREEMENT
        said.append(
            f"The best gate that looks once (after layer {look.layer}, threshold {look.threshold:.4g}) saves "
            f"{look.net_saved:.1%}{_between(look.net_saved_interval)} of all arithmetic and agrees in "
            f"{look.agreement:.0%}{_between(look.agreement_interval)}."
        )
    elif found.n_chosen_on:
        said.append("No gate that looks once saves anything at 95 % agreement on the prompts it would be chosen on.")
    said.append("Agreement is not speed: keys and values of the layers left out are still needed by later tokens.")
    return is_worth_it, " ".join(said)


def _between(interval: Interval | None) -> str:
    """An interval of a share, in brackets."""
    return "" if interval is None else f" ({interval.low:.1%} to {interval.high:.1%})"
