"""The linear lens: each layer's residual stream translated into the last one's by least squares."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer.tracing._lenses.layer_maps import LayerMaps

_RIDGE = 1e-4
"""Added to the second moments, as a share of their mean, so that dead dimensions do no harm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearLens:
    """A linear lens: what leaves layer i, x, is read as x W[i] + b[i].

    The logit lens reads every layer with the model's own tail, which was trained for the last layer alone. What an
    early layer knows in another basis it does not see; the linear lens reads what a matrix can make of it.

    Attributes:
        weights: One matrix for the embeddings and for every layer but the last.
        biases: What is added.
        name: What its readings are called.
        details: What it was fitted on, as JSON values.

    Source:
        Din et al. (2023), "Jump to conclusions: short-cutting transformers with linear transformations",
        arXiv 2303.09435; here with a bias.
    """

    weights: Float[Tensor, "layer width width"]
    biases: Float[Tensor, "layer width"]
    name: str = "linear"
    details: Mapping[str, Any] = field(default_factory=dict)
    _maps: LayerMaps = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep it in float32, and say what it is."""
        weights, biases = self.weights.detach().float(), self.biases.detach().float()
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "biases", biases)
        object.__setattr__(self, "_maps", LayerMaps(name=self.name, weights=weights, biases=biases))
        object.__setattr__(self, "details", {**self.details, "fingerprint": self._fingerprint()})

    @property
    def meaning(self) -> str:
        """What it does, in one sentence."""
        return "each layer's stream translated into the last one's by least squares, then the model's own tail"

    def _fingerprint(self) -> str:
        numbers = torch.cat([self.weights.flatten(), self.biases.flatten()]).cpu().numpy()
        return hashlib.sha256(numbers.astype("<f4").tobytes()).hexdigest()

    @classmethod
    def fitted(
        cls,
        streams: Float[Tensor, "row position width"],
        *,
        name: str = "linear",
        details: Mapping[str, Any] | None = None,
    ) -> LinearLens:
        """The lens that comes nearest to the last stream, in the sum of squares over some tokens.

        In float64, of the moments of the centred streams. Law: adding a constant to a stream adds it to the bias alone.

        Args:
            streams: What enters the first layer and leaves each, see `gather_streams`.
            name: What its readings are to be called.
            details: What it is fitted on, as JSON values.

        Raises:
            UsageError: If there are fewer than two streams, or no tokens.
        """
        if len(streams) < 2 or not streams.shape[1]:
            raise UsageError(
                f"A linear lens cannot be fitted on streams of shape {list(streams.shape)}. Give what enters the first "
                "layer and what leaves each, [row, position, width], of a thousand tokens or more."
            )
        inputs = streams.double()
        means = inputs.mean(dim=1)
        centred = inputs - means[:, None]
        moments = centred.mT @ centred
        ridge = _RIDGE * moments.diagonal(dim1=1, dim2=2).mean(dim=1)
        eye = torch.eye(inputs.shape[-1], dtype=inputs.dtype, device=inputs.device)
        weights = torch.linalg.solve(moments + ridge[:, None, None] * eye, centred.mT @ centred[-1])[:-1]
        biases = means[-1] - (means[:-1, None] @ weights).squeeze(1)
        known = {"n_positions": streams.shape[1], **(details or {})}
        return cls(weights=weights, biases=biases, name=name, details=known)

    def refuse_misfit(self, *, n_layers: int, width: int) -> None:
        """See `FittedLens`: it has a matrix for the embeddings and for every layer but the last, of one model."""
        self._maps.refuse_misfit(n_layers=n_layers, width=width)

    def translate(self, rows: Float[Tensor, "row width"], layer: int) -> Float[Tensor, "row width"]:
        """Rows as they would leave the last layer, in float32.

        Raises:
            UsageError: If it was fitted on a model of another width or of fewer layers.
        """
        self._maps.refuse_rows(rows, layer)
        return self._maps.applied(rows.float(), layer)
