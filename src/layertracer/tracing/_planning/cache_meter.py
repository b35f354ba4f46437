"""What the state pass takes, measured on the model: live bytes for numbers of prompts and of variants."""

from __future__ import annotations

from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._passes.cache_costs import StateCosts
from layertracer.tracing._passes.cache_pass import StatePass
from layertracer.tracing._planning.op_meter import Meter


def measure_state(state: StatePass, *, length: int, n_scored: int) -> StateCosts:
    """What a pass over prompts of that length takes.

    Args:
        state: What is done.
        length: Tokens of each prompt.
        n_scored: How many of them are read after the prefix.

    Raises:
        Whatever the model raises on prompts of this length.
    """
    (prefix, step), (_, more_variants) = (_peaks(state, (1, n), length=length, n_scored=n_scored) for n in (1, 2))
    per_row = max(0, more_variants - step)
    if state.site.continuation.one_row:  # never are there two prompts
        return StateCosts(
            prefix_fixed=prefix, prefix_per_prompt=0, step_fixed=step - per_row, step_per_prompt=0, step_per_row=per_row
        )
    prefix_of_two, step_of_two = _peaks(state, (2, 1), length=length, n_scored=n_scored)
    per_prompt = max(0, step_of_two - step - per_row)
    return StateCosts(
        prefix_fixed=max(0, 2 * prefix - prefix_of_two),
        prefix_per_prompt=prefix_of_two - prefix if prefix_of_two < 2 * prefix else -(-prefix_of_two // 2),
        step_fixed=max(0, step - per_prompt - per_row),
        step_per_prompt=per_prompt,
        step_per_row=per_row,
    )


def _peaks(state: StatePass, size: tuple[int, int], *, length: int, n_scored: int) -> tuple[int, int]:
    """The most that is live where the prefix is read, and in a step, for some prompts and variants of each."""
    site, (n_prompts, n_variants) = state.site, size
    _, ids = site.network.probe(batch=n_prompts, length=length)
    tokens = ids[:, length - n_scored :]
    variants = [(site.layers[0], state.draws[0])] * n_variants
    with Meter() as meter:
        cache = site.feed_prefix(ids, n_after=n_scored)
        prefix = meter.reading().peak
        meter.let_down()
        clean = site.clean(cache, tokens)
        js_divergence(site.perturbed(cache, tokens, state.perturber, variants), clean)
        return prefix, meter.reading().peak
