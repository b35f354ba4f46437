"""What a position is to its prompt, mean effects by role and layer, and where they peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float, Int64

from layertracer._types import Interval
from layertracer.evidence._causal_records import RoleEffects, TokenRole
from layertracer.measures import Sampling, bootstrap_crossed_curve, note_on_curves

ROLES: tuple[TokenRole, ...] = get_args(TokenRole)
"""The roles of positions, in the order of a prompt."""

_N_RESAMPLES = 10_000


def role_of(position: int, span: tuple[int, int], length: int) -> TokenRole | None:
    """What a position is to its prompt; None before the subject, where nothing is corrupted.

    Where it is several of these, the last named of them counts: a subject of one token is its last, the token behind it
    is the first subsequent one, and the last token of the prompt is that, whatever else it is.

    Args:
        position: The position.
        span: First position of the subject, and the one behind its last.
        length: Tokens of the prompt.

    Example:
        >>> [role_of(position, (1, 4), 7) for position in range(7)][:5]
        [None, 'first_subject', 'middle_subject', 'last_subject', 'first_subsequent']
        >>> role_of(1, (1, 2), 4), role_of(5, (1, 4), 7), role_of(6, (1, 4), 7), role_of(1, (1, 2), 2)
        ('last_subject', 'further', 'last', 'last')
    """
    first, end = span
    if position < first or first < 0:
        return None
    if position == length - 1:
        return "last"
    if position >= end:
        return "first_subsequent" if position == end else "further"
    if position == end - 1:
        return "last_subject"
    return "first_subject" if position == first else "middle_subject"


def mean_by_role(  # noqa: PLR0913 - settings by name
    effect: Float[np.ndarray, "prompt layer position"],
    spans: Int64[np.ndarray, "prompt 2"],
    lengths: Int64[np.ndarray, " prompt"],
    *,
    units: Sequence[int] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    seed: int = 0,
    level: float = 0.95,
) -> RoleEffects:
    """Mean effect by role and layer, with the interval of each mean.

    A prompt's effect at a role is the mean over its positions of that role; a role's mean is over the prompts that
    have such a position. Intervals resample prompts, or units of several, and spread as Student's t; below five there
    is none.

    Laws: prompts without numbers add nothing; equal seeds give equal intervals.

    Args:
        effect: Effect of every cell; NaN where there is none.
        spans: First position of each subject and the one behind its last; −1 where there is none.
        lengths: Tokens of each prompt.
        units: What of the prompts would be taken anew together, e.g. copies of one prompt; None for every prompt.
        bounds: What an effect can be at least and at most: intervals are cut off there.
        seed: Seed of the resamples.
        level: Coverage.
    """
    by_role = {role: _by_prompt(effect, spans, lengths, role) for role in ROLES}
    present = [role for role in ROLES if np.isfinite(by_role[role]).any()]
    n_layers = effect.shape[1]
    shape = (len(present), n_layers)
    mean, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    counts = np.zeros(len(present), np.int64)
    for row, role in enumerate(present):
        values = by_role[role]
        having = np.isfinite(values).any(axis=1)
        layers = np.isfinite(values[having]).all(axis=0)
        counts[row] = having.sum()
        own = values[having][:, layers]
        mean[row, layers] = own.mean(axis=0)
        sampling = sampling_of(units, np.flatnonzero(having))
        if note_on_curves(len(own), sampling) is None:
            band = bootstrap_crossed_curve(
                own[:, None, :], n_resamples=_N_RESAMPLES, level=level, seed=seed, sampling=sampling
            )
            low[row, layers], high[row, layers] = np.clip(band.low, *bounds), np.clip(band.high, *bounds)
    return RoleEffects(roles=tuple(present), mean=mean, low=low, high=high, n_prompts=counts)


def mean_interval(
    values: Float[np.ndarray, " prompt"],
    *,
    units: Sequence[int] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    seed: int = 0,
    level: float = 0.95,
) -> Interval | None:
    """Interval of a mean over prompts, those without a number left aside; None where they are too few."""
    known = np.flatnonzero(np.isfinite(values))
    sampling = sampling_of(units, known)
    if not known.size or note_on_curves(known.size, sampling) is not None:
        return None
    own = np.asarray(values[known], np.float64)
    band = bootstrap_crossed_curve(
        own[:, None, None], n_resamples=_N_RESAMPLES, level=level, seed=seed, sampling=sampling
    )
    low, high = np.clip((band.low[0], band.high[0]), *bounds)
    return Interval(low=float(low), high=float(high), level=level)


def sampling_of(units: Sequence[int] | None, prompts: np.ndarray) -> Sampling:
    """How some of the prompts were sampled: draws are averaged over, and no others are to be had."""
    own = None if units is None else tuple(units[index] for index in prompts.tolist())
    return Sampling(units=own, draws="given")


def _by_prompt(
    effect: Float[np.ndarray, "prompt layer position"],
    spans: Int64[np.ndarray, "prompt 2"],
    lengths: Int64[np.ndarray, " prompt"],
    role: TokenRole,
) -> Float[np.ndarray, "prompt layer"]:
    """Each prompt's mean over its positions of a role; NaN where it has none."""
    means = np.full(effect.shape[:2], np.nan)
    for prompt, (first, end) in enumerate(spans.tolist()):
        length = int(lengths[prompt])
        places = [at for at in range(min(length, effect.shape[2])) if role_of(at, (first, end), length) == role]
        if places:
            means[prompt] = effect[prompt][:, places].mean(axis=1, dtype=np.float64)
    return means


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Where a mean effect is largest, and what cannot be told from it.

    Attributes:
        role: The role.
        layer: The layer.
        mean: The mean there.
        interval: Its interval; None where prompts are too few.
        n_prompts: Prompts that have such a position.
        contenders: Layers and roles whose intervals reach into it, itself not among them.
        is_clear: Whether there is none, and its interval is known and lies above 0.
    """

    role: str
    layer: int
    mean: float
    interval: Interval | None
    n_prompts: int
    contenders: tuple[tuple[str, int], ...]
    is_clear: bool


def find_peak(effects: RoleEffects, roles: Sequence[str]) -> Peak | None:
    """Where the mean effect is largest among some roles; None where none of them has a number.

    Another cell contends unless its whole interval lies below that of the peak: the most cautious of rules, since the
    peak was picked among all of them.

    Args:
        effects: Mean effects.
        roles: The roles to look at.
    """
    rows = [row for row, role in enumerate(effects.roles) if role in roles]
    if not rows or not np.isfinite(effects.mean[rows]).any():
        return None
    row, layer = max(
        ((row, layer) for row in rows for layer in np.flatnonzero(np.isfinite(effects.mean[row])).tolist()),
        key=lambda cell: (effects.mean[cell], -cell[1]),
    )
    low, high = float(effects.low[row, layer]), float(effects.high[row, layer])
    interval = Interval(low=low, high=high) if np.isfinite(low) else None
    contenders = tuple(
        (effects.roles[other], at)
        for other in rows
        for at in np.flatnonzero(np.isfinite(effects.mean[other])).tolist()
        if (other, at) != (row, layer) and not effects.high[other, at] < low
    )
    return Peak(
        role=effects.roles[row],
        layer=int(layer),
        mean=float(effects.mean[row, layer]),
        interval=interval,
        n_prompts=int(effects.n_prompts[row]),
        contenders=contenders,
        is_clear=interval is not None and not contenders and low > 0,
    )
