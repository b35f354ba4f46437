"""The curves in which a task particle is looked for: the target's probability, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError

_ABOVE_ONE = 1e-3
"""How far a log-probability may exceed 0 before it is taken for something else: half-precision models round."""

_TRACE_AXES = ("prompt", "layer")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetCurves:
    """What the readouts say of the target, for one prompt, several, or means over them.

    Leading axes (`*batch`) are whatever is traced together: nothing for one curve, `prompt` for a
    trace, `resample` for a bootstrap. Arrays are kept as float64.

    Attributes:
        log_prob: Log-probability (nats) of the target after each layer, shape [*batch, layer].
        embedding_log_prob: The same read from the embeddings, shape [*batch].
        top1_share: 1 where the target is the top token and 0 elsewhere, or, for a mean curve, the share of
            the prompts for which it is; shape [*batch, layer].

    Raises:
        UsageError: If the shapes do not fit together, or `log_prob` holds anything but log-probabilities.

    Example:
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.1, 0.9], [0.3, 0.5]]),
        ...     embedding_log_prob=np.log([0.1, 0.1]),
        ...     top1_share=np.array([[0.0, 1.0], [0.0, 1.0]]),
        ... )
        >>> curves.mean().prob.round(3).tolist()
        [0.2, 0.7]
    """

    log_prob: Float[np.ndarray, "*batch layer"]
    embedding_log_prob: Float[np.ndarray, "*batch"]
    top1_share: Float[np.ndarray, "*batch layer"]

    def __post_init__(self) -> None:
        """Convert to float64 and refuse what cannot be curves."""
        for name in ("log_prob", "embedding_log_prob", "top1_share"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.log_prob.ndim == 0 or self.log_prob.shape[-1] == 0:
            raise UsageError(
                f"TargetCurves needs log_prob of shape [*batch, layer] with at least one layer, got shape "
                f"{list(self.log_prob.shape)}. For one curve give a one-dimensional array."
            )
        expected_shapes = {"embedding_log_prob": self.log_prob.shape[:-1], "top1_share": self.log_prob.shape}
        for name, expected in expected_shapes.items():
            shape = getattr(self, name).shape
            if shape != expected:
                raise UsageError(
                    f"TargetCurves got {name} of shape {list(shape)} beside log_prob of shape "
                    f"{list(self.log_prob.shape)}, expected {list(expected)}. All three share their leading axes."
                )
        for name in ("log_prob", "embedding_log_prob"):
            values = getattr(self, name)
            if (values > _ABOVE_ONE).any():
                raise UsageError(
                    f"TargetCurves needs {name} as natural log-probabilities, which are at most 0, got a largest "
                    f"value of {np.nanmax(values):.4g}. Take np.log of probabilities first."
                )

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.log_prob.shape[-1])

    @property
    def prob(self) -> Float[np.ndarray, "*batch layer"]:
        """Probability of the target after each layer, in [0, 1]."""
        return np.asarray(np.exp(self.log_prob))

    @property
    def embedding_prob(self) -> Float[np.ndarray, "*batch"]:
        """Probability of the target read from the embeddings, in [0, 1]."""
        return np.asarray(np.exp(self.embedding_log_prob))

    def mean(self, weights: Float[np.ndarray, "*resample prompt"] | None = None) -> TargetCurves:
        """The curve of the mean probability over prompts.

        P[i] = Σ w P[prompt, i] / Σ w: the mean of the probabilities, not of their logarithms, which one
        hopeless prompt would rule. A prompt with NaN makes the mean NaN.

        Laws: permuting prompts and weights together changes nothing; equal weights are no weights;
        a weight of 2 is the prompt twice.

        Args:
            weights: How often each prompt counts, at least 0; one set per leading index. Equal where left out.

        Returns:
            Curves of shape [*resample, layer]; [layer] without weights.

        Raises:
            UsageError: If the curves have not exactly the axes [prompt, layer], there is no prompt, or the
                weights do not fit.
        """
        check_prompts(self, "TargetCurves.mean")
        counts = _as_weights(weights, n_prompts=self.log_prob.shape[0])
        return TargetCurves(
            log_prob=_log_mean_exp(self.log_prob, counts),
            embedding_log_prob=_log_mean_exp(self.embedding_log_prob[:, None], counts)[..., 0],
            # Divided after the sum, so that exactly half of the prompts is exactly 0.5.
            top1_share=(counts @ self.top1_share) / counts.sum(axis=-1)[..., None],
        )


def check_prompts(curves: TargetCurves, caller: str) -> None:
    """Refuse curves that are not those of prompts.

    Raises:
        UsageError: If the axes are not [prompt, layer], or there is no prompt.
    """
    shape = curves.log_prob.shape
    if len(shape) != len(_TRACE_AXES) or shape[0] == 0:
        raise UsageError(
            f"{caller} needs curves of shape [{', '.join(_TRACE_AXES)}] with at least one prompt, got shape "
            f"{list(shape)}. Check that the trace finished at least one prompt; give one curve as log_prob[None]."
        )


def prepend_embedding(
    embedding: Float[np.ndarray, "*batch"], layers: Float[np.ndarray, "*batch layer"]
) -> Float[np.ndarray, "*batch layer_and_one"]:
    """The values read from the embeddings before those of the layers: index `i + 1` is layer `i`."""
    return np.concatenate([embedding[..., None], layers], axis=-1)


def _as_weights(
    weights: Float[np.ndarray, "*resample prompt"] | None, n_prompts: int
) -> Float[np.ndarray, "*resample prompt"]:
    if weights is None:
        return np.ones(n_prompts)
    counts = np.asarray(weights, dtype=np.float64)
    if counts.ndim == 0 or counts.shape[-1] != n_prompts:
        raise UsageError(
            f"The weights of a mean over {n_prompts} prompts need shape [*resample, {n_prompts}], got "
            f"{list(counts.shape)}. Give one weight a prompt."
        )
    if not ((counts >= 0).all() and (counts.sum(axis=-1) > 0).all()):
        raise UsageError(
            "The weights of a mean must be at least 0 and must not all be 0, got values from "
            f"{counts.min():.4g} to {counts.max():.4g}. Give how often each prompt counts."
        )
    return counts


def _log_mean_exp(
    log_prob: Float[np.ndarray, "prompt column"], counts: Float[np.ndarray, "*resample prompt"]
) -> Float[np.ndarray, "*resample column"]:
    """Logarithm of the weighted mean of exp(log_prob), shifted so that tiny probabilities do not underflow."""
    largest = log_prob.max(axis=0)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    total = counts @ np.exp(log_prob - shift)
    with np.errstate(divide="ignore"):  # a probability of 0 is a log-probability of minus infinity
        return np.asarray(np.log(total / counts.sum(axis=-1)[..., None]) + shift)
