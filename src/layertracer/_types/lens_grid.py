"""What lenses read at every position and layer of one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridReading:
    """What one lens reads of a prompt; row 0 is the embeddings, the last row the model's own output.

    Attributes:
        top_ids: The most probable next token, int64 [row, position].
        top_prob: Its probability, float64 [row, position].
        entropy_bits: Entropy of the distribution, bits, float64 [row, position].
    """

    top_ids: NDArray[np.int64]
    top_prob: NDArray[np.float64]
    entropy_bits: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LensGrid:
    """What lenses read at every position and layer of one prompt.

    Attributes:
        model: The model's name.
        n_layers: Its layers.
        token_ids: The prompt.
        readings: By lens, the logit lens first.
        texts: Text of every token that is named, by id; where there is no tokenizer, the id.
    """

    model: str
    n_layers: int
    token_ids: tuple[int, ...]
    readings: Mapping[str, GridReading]
    texts: Mapping[int, str]

    def text(self, token: int) -> str:
        """A token's text; its id where that is not known."""
        return self.texts.get(token, str(token))

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "model": self.model,
            "n_layers": self.n_layers,
            "token_ids": list(self.token_ids),
            "tokens": [self.text(token) for token in self.token_ids],
            "lenses": {
                name: {
                    "top_ids": reading.top_ids.tolist(),
                    "top_tokens": [[self.text(token) for token in row] for row in reading.top_ids.tolist()],
                    "top_prob": np.round(reading.top_prob, 6).tolist(),
                    "entropy_bits": np.round(reading.entropy_bits, 4).tolist(),
                }
                for name, reading in self.readings.items()
            },
        }
