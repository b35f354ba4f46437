"""Onset criteria that look for the one largest change: the ratios of the papers, and the best split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer.measures._curves import TargetCurves, prepend_embedding
from layertracer.measures._first_layer import first_largest
from layertracer.measures._onset import checked_number

_LEAST_LOG_PROB = float(np.finfo(np.float32).min)
"""Stands for the logarithm of 0, so that differences stay numbers."""

_LARGEST_LOG_ODDS = 24 * math.log(2.0)
"""The largest log-odds that float32 can tell from certainty: 1 - P is at least 2^-24."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The largest relative gain of the probability: the paper's formula.

    argmax (P[i] - P[i-1]) / P[i], computed as argmax log P[i] - log P[i-1]: the ratio is 1 - exp(-gain), which
    grows with the gain, but rounds to 1 for every gain beyond some 17 nats (float32) so that the argmax is
    lost. None where nothing gains; the paper's argmax then still names the layer of the least loss. Ties go to
    the lowest layer.

    Laws: a step in a flat curve is found where it is; the same after scaling all probabilities.

    Attributes:
        first_layer: The first layer that can be found. With tied embeddings the step from the embeddings to
            layer 0 is an artefact (the embeddings read out the prompt's own token), which 0 would let win.

    Raises:
        UsageError: If `first_layer` is not a whole number of at least 0.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[1e-3, 1e-3, 0.4, 0.9]]),
        ...     embedding_log_prob=np.log([1e-9]),
        ...     top1_share=np.zeros((1, 4)),
        ... )
        >>> Ratio().find(curves).tolist(), Ratio(first_layer=0).find(curves).tolist()
        ([2], [0])

    Source:
        arXiv 2604.20556; `first_layer` is LayerTracer's.
    """

    first_layer: int = 1
    kind: ClassVar[str] = "ratio"

    def __post_init__(self) -> None:
        """Refuse what is not a layer."""
        given: object = self.first_layer
        if isinstance(given, (int, np.integer)) and not isinstance(given, bool) and given >= 0:
            object.__setattr__(self, "first_layer", int(given))
            return
        raise UsageError(
            f"Ratio needs first_layer to be a whole number of at least 0, got {given!r}. "
            "Use 1 to leave out the step from the embeddings, 0 to take it in."
        )

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where nothing gains."""
        path = prepend_embedding(curves.embedding_log_prob, curves.log_prob)
        gain = np.diff(np.maximum(path, _LEAST_LOG_PROB), axis=-1)
        gain[..., : self.first_layer] = 0.0
        return first_largest(gain)

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters as JSON values."""
        return {"kind": self.kind, "first_layer": self.first_layer}


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsRatio:
    """The largest relative change of the probability, upwards or downwards: argmax |dP[i]| / (P[i] + eps).

    Beware: this finds **drops**. A fall to almost nothing divides by almost nothing, while a rise can reach 1 at
    most, so where a curve has any deep drop the drop wins. Use `Rise` or `Ratio` to find where the target
    appears. None where nothing changes. Ties go to the lowest layer.

    Laws: a drop by more than half beats every rise (while P is well above `eps`).

    Attributes:
        eps: Added to the denominator, above 0.

    Raises:
        UsageError: If `eps` is out of range.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.1, 0.9, 0.2]]), embedding_log_prob=np.log([0.1]), top1_share=np.zeros((1, 3))
        ... )
        >>> AbsRatio().find(curves).tolist()
        [2]

    Source:
        arXiv 2605.11416.
    """

    eps: float = 1e-6
    kind: ClassVar[str] = "abs_ratio"

    def __post_init__(self) -> None:
        """Refuse an epsilon that is out of range."""
        eps = checked_number("AbsRatio", "eps", self.eps, low=0.0, high=1.0, allow_low=False)
        object.__setattr__(self, "eps", eps)

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where nothing changes."""
        path = prepend_embedding(curves.embedding_prob, curves.prob)
        return first_largest(np.abs(np.diff(path, axis=-1)) / (path[..., 1:] + self.eps))

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters as JSON values."""
        return {"kind": self.kind, "eps": self.eps}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """The start of the second part in the best upward split of the log-odds into two constant parts.

    For every `k` from 1 on, layers 0..k-1 and k..n-1 are each replaced by their mean log-odds; found is the `k`
    that lowers the summed squared error most, k (n - k) / n · (mean after - mean before)², among those with a
    higher mean after. None where no such split lowers it. The embeddings are left out, as their step to layer 0
    is an artefact where they are tied; so layer 0 is never found. Ties go to the lowest layer.

    Log-odds log P - log(1 - P) are computed from log P without loss and clipped to ±16.6 nats: float32 cannot
    tell a higher probability from 1, and below it (6e-8) a change is noise.

    Laws: a step in a flat curve is found where it is; a falling curve has none.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.01, 0.02, 0.7, 0.9]]),
        ...     embedding_log_prob=np.log([0.01]),
        ...     top1_share=np.zeros((1, 4)),
        ... )
        >>> ChangePoint().find(curves).tolist()
        [2]
    """

    kind: ClassVar[str] = "change_point"

    def find(self, curves: TargetCurves) -> Int[np.ndarray, "*batch"]:
        """The layer per leading index, -1 where no upward split improves on none."""
        odds = log_odds(curves.log_prob)
        n_layers = curves.n_layers
        # Relative to the first layer: a constant curve is then exactly zero, and has no split by rounding.
        sums = np.cumsum(odds - odds[..., :1], axis=-1)
        n_before = np.arange(1, n_layers)
        mean_before = sums[..., :-1] / n_before
        mean_after = (sums[..., -1:] - sums[..., :-1]) / (n_layers - n_before)
        step = mean_after - mean_before
        score = np.zeros_like(odds)
        score[..., 1:] = n_before * (n_layers - n_before) / n_layers * step * np.abs(step)
        return first_largest(score)

    def to_dict(self) -> dict[str, Any]:
        """Name as JSON values; there are no parameters."""
        return {"kind": self.kind}


def log_odds(log_prob: Float[np.ndarray, "*batch layer"]) -> Float[np.ndarray, "*batch layer"]:
    """Log-odds of probabilities given by their logarithm, clipped to what float32 can tell from certainty.

    log P - log(1 - P), in nats. The clipping is done on log P, where both ends are finite.
    """
    low, high = (-math.log1p(math.exp(-limit)) for limit in (-_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS))
    clipped = np.clip(log_prob, low, high)
    return np.asarray(clipped - np.log(-np.expm1(clipped)))
