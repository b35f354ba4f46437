"""Logistic ridge regression over several classes, in NumPy: what probes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int

_STEPS, _STILL = 200, 1e-4
RIDGES = (1e-2, 1e-1, 1.0)
"""Penalties that are chosen from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probes:
    """Several probes of the same rows.

    Attributes:
        mean: Mean of each dimension over the rows that they were fitted on.
        scale: Their standard deviations, such that rows have a length of about 1; 1 where a dimension is constant.
        weights: Of standardised dimensions, [dimension, probe, label].
        bias: [probe, label].
    """

    mean: Float64[np.ndarray, " dimension"]
    scale: Float64[np.ndarray, " dimension"]
    weights: Float64[np.ndarray, "dimension probe label"]
    bias: Float64[np.ndarray, "probe label"]

    def predict(self, rows: Float[np.ndarray, "row dimension"]) -> Int[np.ndarray, "row probe"]:
        """The most probable class of each row."""
        scores = np.tensordot((rows - self.mean) / self.scale, self.weights, axes=1) + self.bias
        return np.asarray(scores.argmax(axis=2))


def fit_probes(
    rows: Float[np.ndarray, "row dimension"],
    labels: Int[np.ndarray, "row probe"],
    *,
    n_labels: int,
    ridges: Sequence[float],
) -> Probes:
    """Probes that each minimise mean cross-entropy + ridge/2 · |weights|², of standardised rows of length about 1.

    The weights lie in the span of the rows, so that the search takes place there; each step minimises a quadratic bound
    on the loss (Böhning & Lindsay 1988), with Nesterov's acceleration.

    Law: at the minimum the gradient is 0.

    Args:
        rows: What the labels are read off.
        labels: Class of each row, from 0, for each probe.
        n_labels: How many classes.
        ridges: The penalty of each probe.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    spread = rows.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1.0) * np.sqrt(rows.shape[1])
    u, sizes, vt = np.linalg.svd((rows - mean) / scale, full_matrices=False)
    scores, n_rows = u * sizes, len(rows)
    wanted, ridge = np.eye(n_labels)[labels], np.array(ridges)[:, None]
    bound = 0.5 * sizes[:, None, None] ** 2 / n_rows + ridge
    weights = before = np.zeros((len(sizes), len(ridges), n_labels))
    bias = bias_before = np.zeros((len(ridges), n_labels))
    for step in range(_STEPS):
        push = step / (step + 3)
        ahead, bias_ahead = weights + push * (weights - before), bias + push * (bias - bias_before)
        off = _softmax(np.tensordot(scores, ahead, axes=1) + bias_ahead) - wanted
        before, bias_before = weights, bias
        weights = ahead - (np.tensordot(scores.T, off, axes=1) / n_rows + ridge * ahead) / bound
        bias = bias_ahead - 2 * off.mean(axis=0)
        if max(np.abs(weights - before).max(initial=0.0), np.abs(bias - bias_before).max()) < _STILL:
            break
    return Probes(mean=mean, scale=scale, weights=np.tensordot(vt.T, weights, axes=1), bias=bias)


def choose_ridge(
    rows: Float[np.ndarray, "row dimension"],
    labels: Int[np.ndarray, " row"],
    folds: Int[np.ndarray, " row"],
    *,
    n_labels: int,
) -> float:
    """The penalty with which the most rows are read rightly that were left out; the largest of equals."""
    right = np.zeros(len(RIDGES), dtype=np.int64)
    for one in np.unique(folds):
        own, left_out = folds != one, folds == one
        several = np.repeat(labels[own][:, None], len(RIDGES), axis=1)
        found = fit_probes(rows[own], several, n_labels=n_labels, ridges=RIDGES).predict(rows[left_out])
        right += (found == labels[left_out][:, None]).sum(axis=0)
    return max(zip(right.tolist(), RIDGES, strict=True))[1]


def separating_dimensions(
    rows: Float[np.ndarray, "row dimension"], labels: Int[np.ndarray, " row"], k: int
) -> Int[np.ndarray, " chosen"]:
    """The k dimensions of whose variance the most is between classes."""
    classes = np.unique(labels)
    means = np.stack([rows[labels == one].mean(axis=0, dtype=np.float64) for one in classes])
    shares = np.array([(labels == one).mean() for one in classes])
    between = (shares[:, None] * (means - rows.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=0)
    total = rows.var(axis=0, dtype=np.float64)
    ratio = np.divide(between, total, out=np.zeros_like(between), where=total > 0)
    return np.argsort(-ratio, kind="stable")[:k]


def _softmax(scores: Float64[np.ndarray, "*batch label"]) -> Float64[np.ndarray, "*batch label"]:
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
