"""Matrices and biases that translate what leaves each layer of one model, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer.tracing._batching.on_devices import OnDevices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerMaps:
    """An affine map for the embeddings and for every layer but the last: x W[i] + b[i].

    Attributes:
        name: The lens that they belong to, for messages.
        weights: One matrix each, applied from the right.
        biases: What is added.
    """

    name: str
    weights: Float[Tensor, "layer width width"]
    biases: Float[Tensor, "layer width"]
    _weights: OnDevices = field(init=False, repr=False)
    _biases: OnDevices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Have copies of them on other devices where rows lie there."""
        object.__setattr__(self, "_weights", OnDevices(self.weights))
        object.__setattr__(self, "_biases", OnDevices(self.biases))

    def refuse_misfit(self, *, n_layers: int, width: int) -> None:
        """See `FittedLens`."""
        if self.biases.shape != (n_layers, width):
            own_layers, own_width = self.biases.shape
            raise UsageError(
                f"The lens {self.name!r} is for a model of {own_layers} layers and width {own_width}, and this one has "
                f"{n_layers} layers and width {width}. Fit one on this model."
            )

    def refuse_rows(self, rows: Float[Tensor, "row width"], layer: int) -> None:
        """Raise for rows of another width, or of a layer that there is no map for.

        Raises:
            UsageError: If they are such.
        """
        n_rows, width = self.biases.shape
        if rows.shape[-1] != width or not -1 <= layer < n_rows - 1:
            raise UsageError(
                f"The lens {self.name!r} is for a model of {n_rows} layers and width {width}, and got rows of width "
                f"{rows.shape[-1]} after layer {layer}. Fit one on this model."
            )

    def applied(self, rows: Float[Tensor, "row width"], layer: int) -> Float[Tensor, "row width"]:
        """The rows, in float32, under a layer's map; −1 for the embeddings'."""
        weights, biases = (one.on(rows.device)[1 + layer] for one in (self._weights, self._biases))
        return torch.addmm(biases, rows, weights)
