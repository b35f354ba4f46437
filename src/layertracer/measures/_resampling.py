"""Resamples of prompts and of draws: what else the means might have been, had others been taken.

The *units* are what would be taken anew: prompts, or the sets of demonstrations that several prompts share. A resample
spreads as Student's t with one degree of freedom less than there are units, where a plain bootstrap is too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer._types import Draws
from layertracer.measures._checked_arrays import check_finite

_CHUNK_BYTES = 16 * 2**20
"""Memory of one chunk of resamples: a few chunks at a time stay in tens of megabytes, whatever the trace."""

_SPENT = 5
"""What is taken off the concentration of the weights; up to so many units a resample is one unit alone.

Four give a mean the variance of its Student's t. One more is the margin that onsets of eight prompts need: they are
skewed, and decision 0013 has the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What of a trace was sampled: what would be another one, had it been made anew.

    Attributes:
        units: Unit of every prompt, any whole numbers: what would be taken anew together, such as the prompts behind
            one set of demonstrations. None where every prompt is a unit by itself.
        draws: How the draws came about. "sampled": each by itself, from many. "parts": of whole partitions of the
            dimensions. "given": there are no others, as where a layer is skipped or the masks are given.
        sure_draws: Sampled draws below which a dimension that decides may be in none of them; 1 where every draw
            perturbs all dimensions.
    """

    units: tuple[int, ...] | None = None
    draws: Draws = "sampled"
    sure_draws: int = 1

    @property
    def has_random_draws(self) -> bool:
        """Whether other draws might have been taken."""
        return self.draws != "given"


PROMPTS_AND_DRAWS = Sampling()
"""Prompts by themselves, draws by themselves."""


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


def number_units(sampling: Sampling, n_prompts: int) -> Int[np.ndarray, " prompt"]:
    """Unit of every prompt, numbered from 0 in order of first appearance.

    Raises:
        UsageError: If there is not one unit a prompt.
    """
    if sampling.units is None:
        return np.arange(n_prompts)
    if len(sampling.units) != n_prompts:
        raise UsageError(
            f"units names {len(sampling.units)} units for {n_prompts} prompts. Give the set of demonstrations of every "
            "prompt, or None."
        )
    _, first, inverse = np.unique(sampling.units, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])


def count_units(sampling: Sampling, n_prompts: int) -> int:
    """Number of units."""
    return int(number_units(sampling, n_prompts).max()) + 1


def sum_units(
    by_prompt: Float[np.ndarray, "prompt item"], numbered: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, "unit item"]:
    """What each unit adds to a mean over prompts, on the scale of a mean over units."""
    n_units = int(numbered.max()) + 1
    return np.asarray((numbered == np.arange(n_units)[:, None]) @ by_prompt * (n_units / len(by_prompt)))


def prompt_weights(
    generator: np.random.Generator, n_resamples: int, units: Int[np.ndarray, " prompt"]
) -> Float[np.ndarray, "resample prompt"]:
    """How much each prompt counts in each resample: at least 0, and 1 in sum.

    The units' weights are Dirichlet with a total concentration of n - 5. The weighted mean of n units then has the
    variance s²/n · (n - 1)/(n - 4); its Student's t with n - 1 degrees of freedom has s²/n · (n - 1)/(n - 3), and the
    bootstrap s²/n · (n - 1)/n. All weights are positive, so that a mean of probabilities is one. Up to five
    units a resample is one unit, and the means reach as far as the units do.

    Resamples asked for in several calls are the same as in one.

    Source:
        Rubin (1981), "The Bayesian bootstrap".
    """
    n_units = int(units.max()) + 1
    if n_units <= _SPENT:
        by_unit = np.eye(n_units)[generator.integers(n_units, size=n_resamples)]
    else:
        by_unit = generator.standard_gamma((n_units - _SPENT) / n_units, size=(n_resamples, n_units))
    weights = by_unit[:, units]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def chunk_sizes(n_resamples: int, *, floats_per_resample: int) -> Iterator[int]:
    """Sizes of the chunks that together make `n_resamples`, each within the memory for one chunk."""
    size = max(1, _CHUNK_BYTES // (8 * floats_per_resample))
    for first in range(0, n_resamples, size):
        yield min(size, n_resamples - first)


def resample_mean_curves(
    values: Float[np.ndarray, "prompt layer"], *, n_resamples: int, seed: int, sampling: Sampling = PROMPTS_AND_DRAWS
) -> Float[np.ndarray, "resample layer"]:
    """The mean curve of every resample of the prompts.

    Laws: equal seeds and numbers of prompts weigh the prompts alike, whatever the values and the number of layers, so
    that the means of two curves over the same prompts are paired, resample by resample; the mean of a constant is that
    constant, to the last bit; every mean lies between the smallest and the largest value.

    Args:
        values: One curve a prompt.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.
        sampling: What is taken anew together.

    Raises:
        UsageError: If there is no prompt, or a value is not finite.
    """
    curves = check_finite(values, axes=("prompt", "layer"), caller="resample_mean_curves")
    n_prompts, n_layers = curves.shape
    numbered = number_units(sampling, n_prompts)
    generator = make_generator(seed)
    # Around the first prompt: the mean of a constant is then that constant.
    centred = curves - curves[0]
    means = [
        prompt_weights(generator, size, numbered) @ centred
        for size in chunk_sizes(n_resamples, floats_per_resample=4 * n_prompts + n_layers)
    ]
    return np.asarray(curves[0] + np.concatenate(means))


def resample_crossed_means(
    values: Float[np.ndarray, "prompt draw item"],
    *,
    n_resamples: int,
    seed: int,
    draw_seed: int | None = None,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> Float[np.ndarray, "resample item"]:
    """Means over resamples of prompts and of draws.

    Prompts and draws are crossed: all prompts share the draws of a mask. Both are resampled, independently, and their
    deviations from the mean are added:

        mean* = mean + c_P Σ w_p (x̄_p. − mean) + c_D Σ v_d (x̄_.d − mean)

    w and v are shares of a bootstrap of the n prompts (or units) and of the draws; c² = n/(n−1) · (n−1)/χ²_{n−1}, anew
    for every resample, makes each a Student's t with n − 1 degrees of freedom. What is left between prompts and draws
    counts twice, which errs on the safe side. The parts of whole partitions are resampled one by one, with c = 1: they
    complement one another, so that their mean is surer than that of as many draws by themselves, and this is on the
    safe side too (decision 0013 has figures). One prompt, or one draw, adds nothing.

    Laws: equal seeds give equal resamples of as many prompts and draws, so that two arrays are paired; a constant has
    means of that constant, to the last bit.

    Args:
        values: One value a prompt, draw and item.
        n_resamples: Number of resamples.
        seed: Seed of the resamples of prompts.
        draw_seed: Seed of those of draws; that of the prompts where left out. They never share a stream.
        sampling: What is taken anew.

    Source:
        Owen (2007), "The pigeonhole bootstrap", for crossed designs.
    """
    centre = values[0, 0]
    centred = values - centre
    mean = centred.mean(axis=(0, 1))
    by_unit = sum_units(centred.mean(axis=1) - mean, number_units(sampling, len(values)))
    by_draw = centred.mean(axis=0) - mean
    prompts = make_generator(seed).spawn(2)[0]
    draws = make_generator(seed if draw_seed is None else draw_seed).spawn(2)[1]
    means = mean + student_deviations(prompts, n_resamples, by_unit)
    if sampling.has_random_draws:
        means += student_deviations(draws, n_resamples, by_draw, is_plain=sampling.draws == "parts")
    return np.asarray(centre + means)


def student_deviations(
    generator: np.random.Generator, n_resamples: int, centred: Float[np.ndarray, "row item"], *, is_plain: bool = False
) -> Float[np.ndarray, "resample item"]:
    """Deviations of the mean over rows, in every resample: they spread as Student's t; 0 for one row.

    Args:
        generator: Where resamples come from.
        n_resamples: Their number.
        centred: Rows less their mean.
        is_plain: Whether they spread as in a plain bootstrap instead.
    """
    n_rows, n_items = centred.shape
    if n_rows == 1:
        return np.zeros((n_resamples, n_items))
    counting, scaling = generator.spawn(2)
    means = [
        resample_counts(counting, size, n_rows) @ centred / n_rows
        for size in chunk_sizes(n_resamples, floats_per_resample=4 * n_rows + n_items)
    ]
    if is_plain:
        return np.concatenate(means)
    scale = np.sqrt(n_rows / scaling.chisquare(n_rows - 1, size=(n_resamples, 1)))
    return np.asarray(np.concatenate(means) * scale)


def resample_counts(
    generator: np.random.Generator, n_resamples: int, n_items: int
) -> Float[np.ndarray, "resample item"]:
    """How often each item is drawn when as many are drawn as there are, with replacement: a multinomial.

    Resamples asked for in several calls are the same as in one.
    """
    drawn = generator.integers(n_items, size=(n_resamples, n_items))
    drawn += n_items * np.arange(n_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n_items)
    return counts.reshape(n_resamples, n_items).astype(np.float64)
