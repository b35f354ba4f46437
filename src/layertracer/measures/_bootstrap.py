"""Bootstrap: how far a result moves when other prompts, or other draws, had been taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.measures._divergences import check_finite

_CHUNK_BYTES = 16 * 2**20
"""Memory of one chunk of resamples: a few chunks at a time stay in tens of megabytes, whatever the trace."""


class CurveBand(NamedTuple):
    """An interval around a mean curve, layer by layer.

    Attributes:
        low: Lower end, shape [layer].
        high: Upper end, shape [layer].
    """

    low: Float[np.ndarray, " layer"]
    high: Float[np.ndarray, " layer"]


def bootstrap_mean_curve(
    values: Float[np.ndarray, "prompt layer"],
    *,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> CurveBand:
    """Percentile bootstrap interval of a mean curve, over prompts.

    Prompts are drawn with replacement, `n_resamples` times; the band holds the middle `level` of the means of
    each layer. It is a band of single layers: a whole curve leaves it somewhere more often than 1 - level.
    One prompt gives a band without width: it cannot say how far another one lies.

    Laws: equal seeds give equal bands; the band of a constant is that constant; it shrinks as 1/√n with the
    number of prompts; adding a constant moves it by that constant.

    Args:
        values: One curve a prompt, e.g. target probabilities, or JS divergences averaged over draws.
        n_resamples: Number of resamples.
        level: Coverage, in (0, 1).
        seed: Seed of the resamples.

    Returns:
        Lower and upper end, in the unit of `values`.

    Raises:
        UsageError: If there is no prompt, a value is not finite, or a number is out of range.

    Example:
        >>> band = bootstrap_mean_curve(np.array([[0.0, 0.5], [1.0, 0.5]]))
        >>> band.low.tolist(), band.high.tolist()
        ([0.0, 0.5], [1.0, 0.5])

    Source:
        Efron (1979), "Bootstrap methods: another look at the jackknife".
    """
    check_finite(values, axes=("prompt", "layer"), caller="bootstrap_mean_curve")
    check_resampling(n_resamples, level)
    means = resample_mean_curves(values, n_resamples=n_resamples, seed=seed)
    low, high = np.quantile(means, _tails(level), axis=0)
    return CurveBand(low=low, high=high)


def resample_mean_curves(
    values: Float[np.ndarray, "prompt layer"], *, n_resamples: int, seed: int
) -> Float[np.ndarray, "resample layer"]:
    """The mean curve of every resample of the prompts.

    Laws: equal seeds and numbers of prompts draw the same prompts, whatever the values and the number of layers, so
    that the means of two curves over the same prompts are paired, resample by resample; the mean of a constant is that
    constant, to the last bit.

    Args:
        values: One curve a prompt.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        UsageError: If there is no prompt, or a value is not finite.
    """
    curves = check_finite(values, axes=("prompt", "layer"), caller="resample_mean_curves")
    n_prompts, n_layers = curves.shape
    generator = make_generator(seed)
    # Around the first prompt: the mean of a constant is then that constant.
    centred = curves - curves[0]
    means = [
        resample_counts(generator, size, n_prompts) @ centred / n_prompts
        for size in chunk_sizes(n_resamples, floats_per_resample=4 * n_prompts + n_layers)
    ]
    return np.asarray(curves[0] + np.concatenate(means))


def check_resampling(n_resamples: int, level: float) -> None:
    """Refuse a number of resamples or a coverage that makes no sense.

    Raises:
        UsageError: If `n_resamples` is below 1, or `level` is not between 0 and 1.
    """
    if n_resamples < 1:
        raise UsageError(f"n_resamples must be at least 1, got {n_resamples}. The default is 10000.")
    if not 0.0 < level < 1.0:
        raise UsageError(f"level must be between 0 and 1, got {level}. It is a coverage: 0.95 for 95 %.")


def make_generator(seed: int) -> np.random.Generator:
    """A generator of its own: no global state is read or changed.

    Raises:
        UsageError: If the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed must be at least 0, got {seed}. Give any whole number from 0 on.")
    return np.random.default_rng(seed)


def chunk_sizes(n_resamples: int, *, floats_per_resample: int) -> Iterator[int]:
    """Sizes of the chunks that together make `n_resamples`, each within the memory for one chunk."""
    size = max(1, _CHUNK_BYTES // (8 * floats_per_resample))
    for first in range(0, n_resamples, size):
        yield min(size, n_resamples - first)


def resample_counts(
    generator: np.random.Generator, n_resamples: int, n_items: int
) -> Float[np.ndarray, "resample item"]:
    """How often each item is drawn when as many are drawn as there are, with replacement: a multinomial.

    A matrix product with these counts replaces the indexing of every resample. Resamples asked for in several
    calls are the same as in one.
    """
    drawn = generator.integers(n_items, size=(n_resamples, n_items))
    drawn += n_items * np.arange(n_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n_items)
    return counts.reshape(n_resamples, n_items).astype(np.float64)


def resample_crossed_means(
    values: Float[np.ndarray, "prompt draw item"], *, n_resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "resample item"]]:
    """Means over resamples of prompts and of draws, chunk by chunk.

    Both are drawn with replacement, independently of one another: all prompts share the draws of a mask.

    Source:
        Owen (2007), "The pigeonhole bootstrap".
    """
    n_prompts, n_draws, n_items = values.shape
    flat = values.reshape(n_prompts, n_draws * n_items)
    prompt_generator, draw_generator = make_generator(seed).spawn(2)
    floats = 4 * (n_prompts + n_draws) + n_draws * n_items + 4 * n_items
    for size in chunk_sizes(n_resamples, floats_per_resample=floats):
        by_draw = resample_counts(prompt_generator, size, n_prompts) @ flat
        draws = resample_counts(draw_generator, size, n_draws)
        total = np.einsum("rd,rdi->ri", draws, by_draw.reshape(size, n_draws, n_items))
        yield total / (n_prompts * n_draws)


def percentile_interval(values: Float[np.ndarray, " resample"], level: float) -> Interval:
    """Percentile interval of a number."""
    low, high = np.quantile(values, _tails(level))
    return Interval(low=float(low), high=float(high), level=float(level))


def layer_interval(layers: Int[np.ndarray, " resample"], level: float) -> Interval:
    """Percentile interval of a layer, whose ends are layers that occur among the resamples."""
    low, high = np.quantile(layers, _tails(level), method="inverted_cdf")
    return Interval(low=float(low), high=float(high), level=float(level))


def _tails(level: float) -> tuple[float, float]:
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0
