"""A mean over prompts whose clusters, not they themselves, would be others another time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._types import Interval
from layertracer.measures._bootstrap import SURE_UNITS, percentile_interval
from layertracer.measures._checked_arrays import check_finite
from layertracer.measures._clusters.student import student_quantile
from layertracer.measures._resampling import Sampling, check_resampling, number_units, resample_mean_curves


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMean:
    """A mean over prompts, with an interval over their clusters.

    Attributes:
        mean: The mean over all prompts.
        interval: Its interval; None with one cluster.
        n_clusters: Number of clusters.
        note: How the interval came about, where they are few; "" otherwise.
    """

    mean: float
    interval: Interval | None
    n_clusters: int
    note: str = ""


def cluster_interval(
    values: Float[np.ndarray, " prompt"],
    clusters: Sequence[int],
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> ClusterMean:
    """A mean over prompts, with the interval that holds for other clusters too: other demonstrations, other templates.

    From eight clusters on they are weighed anew, as `bootstrap_mean_curve` does. Of two to seven, Student's t with one
    degree of freedom less than there are clusters says how far their mean may be off. One cluster says nothing of
    others.

    Laws: permuting prompts together with their clusters changes the result by rounding only; adding a constant moves
    it by that constant; with clusters of one size and fewer than eight of them, it is the t interval of their means.

    Args:
        values: A number a prompt.
        clusters: Cluster of every prompt, any whole numbers.
        level: Coverage, in (0, 1).
        n_resamples: Number of resamples.
        seed: Their seed.

    Raises:
        UsageError: If there is no prompt, a value is not finite, there is not one cluster a prompt, or a number is out
            of range.

    Example:
        >>> found = cluster_interval(np.array([1.0, 3.0, 5.0, 7.0]), [0, 0, 1, 1])
        >>> found.mean, round(found.interval.low, 2), found.note
        (4.0, -21.41, "2 clusters: Student's t with 1 degree of freedom")

    Source:
        Cameron and Miller (2015), "A practitioner's guide to cluster-robust inference".
    """
    checked = check_finite(values, axes=("prompt",), caller="cluster_interval")
    check_resampling(n_resamples, level)
    sampling = Sampling(units=tuple(map(int, clusters)))
    numbered = number_units(sampling, len(checked))
    n_clusters, mean = int(numbered.max()) + 1, float(checked.mean())
    if n_clusters == 1:
        return ClusterMean(mean=mean, interval=None, n_clusters=1, note="one cluster: no interval")
    if n_clusters >= SURE_UNITS:
        means = resample_mean_curves(checked[:, None], n_resamples=n_resamples, seed=seed, sampling=sampling)
        return ClusterMean(mean=mean, interval=percentile_interval(means[:, 0], level), n_clusters=n_clusters)
    # What each cluster adds to the mean beyond its share of the prompts: clusters may differ in size.
    beyond = np.bincount(numbered, weights=checked - mean)
    error = float(np.sqrt(n_clusters / (n_clusters - 1) * (beyond**2).sum())) / len(checked)
    reach = student_quantile((1.0 + level) / 2.0, n_clusters - 1) * error
    degrees = f"{n_clusters - 1} degree{'s' if n_clusters > 2 else ''} of freedom"
    return ClusterMean(
        mean=mean,
        interval=Interval(low=mean - reach, high=mean + reach, level=float(level)),
        n_clusters=n_clusters,
        note=f"{n_clusters} clusters: Student's t with {degrees}",
    )
