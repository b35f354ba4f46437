"""What a causal trace cannot be though each of its numbers could: at odds with itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np

from layertracer._types import Interval
from layertracer.evidence._causal_records import CausalRecord, RoleEffects, TokenRole

ROUNDING = 1e-6


def find_causal_contradictions(record: CausalRecord, place: str = "") -> Iterator[str]:
    """What of a causal trace contradicts the rest of it, each with its place; nothing where all goes together.

    Args:
        record: The causal trace.
        place: What stands before its fields where it is part of something, as "causal.".
    """
    for fault in _find(record):
        yield place + fault


def _find(record: CausalRecord) -> Iterator[str]:
    n_layers = record.model["n_layers"]
    yield from _of_noise(record)
    yield from _of_prompts(record)
    yield from _of_cells(record)
    if record.logit_difference is not None:
        yield from _of_differences(record)
    for name, effects, bounds in (
        ("by_role", record.by_role, (-1.0, 1.0)),
        ("recovery_by_role", record.recovery_by_role, (-np.inf, np.inf)),
    ):
        yield from _of_roles(effects, n_layers, len(record.lengths), bounds, name)
    if record.total_effect_interval is not None:
        yield from of_interval(record.total_effect_interval, "total_effect_interval", (-1.0, 1.0))


def of_interval(interval: Interval, place: str, bounds: tuple[float, float]) -> Iterator[str]:
    """Ends that run backwards, or lie beyond bounds."""
    low, high = bounds
    if interval.low > interval.high:
        yield f"{place} goes from {interval.low:g} to {interval.high:g}"
    if interval.low < low - ROUNDING or interval.high > high + ROUNDING:
        yield f"{place} goes from {interval.low:g} to {interval.high:g}, beyond [{low:g}, {high:g}]"


def of_shape(values: Any, shape: tuple[int, ...], place: str, what: str) -> Iterator[str]:
    """An array of another shape."""
    if values.shape != shape:
        yield f"{place} has the shape {list(values.shape)}, and must have {list(shape)}: {what}"


def _of_noise(record: CausalRecord) -> Iterator[str]:
    for name in ("noise_scale", "noise_std"):
        value = getattr(record, name)
        if record.corrupt == "swap" and value is not None:
            yield f"{name} is {value:g}, and a swap has no noise"
    if record.corrupt == "noise" and record.noise_scale is None:
        yield "noise_scale is null, and the runs were corrupted by noise"
    if record.corrupt == "swap" and record.n_draws != 1:
        yield f"n_draws is {record.n_draws}, and a swap is drawn once"


def _of_prompts(record: CausalRecord) -> Iterator[str]:
    n_prompts = len(record.lengths)
    numbers = [one.prompt for one in record.excluded]
    if numbers != sorted(set(numbers)):
        yield f"excluded has prompts that are not ascending, each once: {numbers[:9]}"
    if numbers and numbers[-1] >= n_prompts:
        yield f"excluded has prompt {numbers[-1]}, and there are {n_prompts}"
    if record.token_texts and len(record.token_texts) != n_prompts:
        yield f"token_texts has {len(record.token_texts)} entries, and there are {n_prompts} prompts"
    for index, texts in enumerate(record.token_texts):
        if texts and len(texts) != record.lengths[index]:
            yield f"token_texts[{index}] has {len(texts)} tokens, and lengths says {record.lengths[index]}"
            return
    first, end = record.subject_spans[:, 0], record.subject_spans[:, 1]
    is_none = (first == -1) & (end == -1)
    odd = np.flatnonzero(~is_none & ~((first >= 0) & (first < end) & (end <= record.lengths)))
    if odd.size:
        prompt = int(odd[0])
        yield (
            f"subject_spans[{prompt}] goes from {first[prompt]} to {end[prompt]}, which is no part of a prompt of "
            f"{record.lengths[prompt]} tokens"
        )


def _of_cells(record: CausalRecord) -> Iterator[str]:
    """NaN stands exactly where nothing was corrupted before or at a position, beyond ends, and in excluded samples."""
    excluded = {one.prompt for one in record.excluded}
    there = ~np.isnan(record.restored_prob)
    with_site = there.any(axis=(0, 2))
    positions = np.arange(there.shape[2])
    for prompt in range(there.shape[0]):
        if prompt in excluded:
            if there[prompt].any():
                yield f"restored_prob[{prompt}] has numbers, and the sample is excluded"
                return
            continue
        if np.isnan([record.clean_prob[prompt], record.corrupted_prob[prompt]]).any():
            yield f"clean_prob[{prompt}] or corrupted_prob[{prompt}] is NaN, and the sample is not excluded"
            return
        first = record.subject_spans[prompt, 0]
        must = (positions >= first) & (positions < record.lengths[prompt]) & (first >= 0)
        odd = np.argwhere(there[prompt] != must & with_site[:, None])
        if odd.size:
            layer, position = odd[0]
            has = "a number" if there[prompt, layer, position] else "none"
            yield (
                f"restored_prob[{prompt}][{layer}][{position}] has {has}: cells are those from the first corrupted "
                f"position, {first}, to the prompt's end, at {record.lengths[prompt]}"
            )
            return


def _of_differences(record: CausalRecord) -> Iterator[str]:
    part = record.logit_difference
    assert part is not None
    beyond = ~np.isnan(part.restored) & np.isnan(record.restored_prob)
    if beyond.any():
        prompt, layer, position = np.argwhere(beyond)[0]
        yield f"logit_difference.restored[{prompt}][{layer}][{position}] has a number, and restored_prob none"
    for name in ("clean", "corrupted"):
        odd = np.flatnonzero(~np.isnan(getattr(part, name)) & np.isnan(record.clean_prob))
        if odd.size:
            yield f"logit_difference.{name}[{odd[0]}] has a number, and clean_prob none"


def _of_roles(
    effects: RoleEffects, n_layers: int, n_prompts: int, bounds: tuple[float, float], place: str
) -> Iterator[str]:
    unknown = [role for role in effects.roles if role not in get_args(TokenRole)]
    if unknown or len(set(effects.roles)) < len(effects.roles):
        yield f"{place}.roles has {(unknown or list(effects.roles))[0]!r}, which is no role, or is there twice"
    shape = (len(effects.roles), n_layers)
    for name in ("mean", "low", "high"):
        yield from of_shape(getattr(effects, name), shape, f"{place}.{name}", "its roles and the model's layers")
    yield from of_shape(effects.n_prompts, shape[:1], f"{place}.n_prompts", "its roles")
    if effects.n_prompts.size and effects.n_prompts.max() > n_prompts:
        yield f"{place}.n_prompts is {effects.n_prompts.max()}, and there are {n_prompts} prompts"
    if effects.mean.shape != effects.low.shape or effects.low.shape != effects.high.shape:
        return
    if np.any(np.isnan(effects.low) != np.isnan(effects.high)) or np.any(effects.low > effects.high):
        yield f"{place}.low and {place}.high are no intervals: one end is missing, or they run backwards"
    for name in ("mean", "low", "high"):
        values = getattr(effects, name)
        if np.any((values < bounds[0] - ROUNDING) | (values > bounds[1] + ROUNDING)):
            yield f"{place}.{name} has a number beyond [{bounds[0]:g}, {bounds[1]:g}]"
