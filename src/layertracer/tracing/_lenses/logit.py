"""The logit lens: every layer is read as if it were the last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor


class LogitLens:
    """The logit lens: it translates nothing.

    Source:
        nostalgebraist (2020), "interpreting GPT: the logit lens".
    """

    name = "logit"
    meaning = "the model's own tail applied to what leaves each layer"
    details: Mapping[str, Any] = {}

    def translate(self, rows: Float[Tensor, "row width"], layer: int) -> Float[Tensor, "row width"]:
        """The rows as they are."""
        del layer
        return rows
