"""How well a lens reads a model, on text that it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LensReport:
    """What a lens is worth on some text, layer by layer; row 0 is the embeddings (layer −1), the last row the output.

    Attributes:
        lens: Its name; "logit" for the logit lens.
        kl_nats: KL(final ‖ lens), nats, the mean over tokens.
        bias_nats: KL of the two distributions' means over the tokens, final ‖ lens, nats.
        top1: Share of the tokens at which the lens has the final output's top token.
        fallback: Layers at which it translates nothing, because it was no better than the logit lens; −1 for the
            embeddings.
        n_tokens: How many tokens that is of.
    """

    lens: str
    kl_nats: NDArray[np.float64]
    bias_nats: NDArray[np.float64]
    top1: NDArray[np.float64]
    fallback: tuple[int, ...]
    n_tokens: int

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values; what is not finite is null."""
        return {
            "kl_nats": _numbers(self.kl_nats),
            "bias_nats": _numbers(self.bias_nats),
            "top1": _numbers(self.top1),
            "fallback": list(self.fallback),
            "n_tokens": self.n_tokens,
        }

    @classmethod
    def from_json(cls, lens: str, stored: Mapping[str, Any]) -> LensReport:
        """What `to_json` gave, of a lens of that name.

        Raises:
            ValueError: If it is something else.
        """
        rows = {name: _array(stored[name]) for name in ("kl_nats", "bias_nats", "top1")}
        if len({len(values) for values in rows.values()}) != 1:
            raise ValueError("its rows are not of one length")
        fallback, n_tokens = tuple(stored["fallback"]), stored["n_tokens"]
        if not all(type(layer) is int for layer in (*fallback, n_tokens)):
            raise ValueError("its layers and tokens are no whole numbers")
        return cls(lens=lens, fallback=fallback, n_tokens=n_tokens, **rows)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _array(stored: Any) -> NDArray[np.float64]:
    if not isinstance(stored, list) or not all(value is None or type(value) in (int, float) for value in stored):
        raise ValueError("its rows are no numbers")
    return np.array([np.nan if value is None else value for value in stored], dtype=np.float64)
